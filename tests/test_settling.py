"""What each published claim asks of a study: a line for every claim, by the definitions of the statistics."""

import csv
from pathlib import Path

import pytest

from colocate import bill, settling
from colocate.statistics import claim_needs

ROOT = Path(__file__).resolve().parents[1]
CLAIMS = {row["claim"]: row for row in csv.DictReader(settling.CLAIMS.open(encoding="utf-8", newline=""))}
SHAPE = {"n_layers": 4, "n_heads": 8, "n_kv_heads": 2, "head_dim": 8, "hidden": 64, "ffn": 64, "vocab": 100}


def study(*overlays: str) -> dict:
    return bill.merged([str(ROOT / f"config/{name}.yaml") for name in ("config", *overlays)], device="cpu")


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """Without results of an earlier run."""
    monkeypatch.chdir(tmp_path)


def line(config: dict, claim: str, per_seed: dict | None = None) -> str:
    (found,) = [said for said in settling.text(config, per_seed or {}) if said.startswith(f"  {claim}: ")]
    return found


@pytest.mark.parametrize("overlays", [(), ("llama31-8b",), ("olmo2",), ("families",)])
def test_every_claim_has_one_line(overlays):
    config = study(*overlays)
    for claim in CLAIMS:
        assert "lacks " in line(config, claim)


def test_every_gate_of_the_claims_is_counted_or_left_to_a_run():
    gates = {gate.partition(":")[0] for claim in CLAIMS.values() for gate in claim["gates"].split(";") if gate}
    assert gates == {"seeds", "draws", *claim_needs.DECIDED}
    for claim in CLAIMS.values():
        told = len(claim_needs.decided_by_a_run(claim))
        assert told == sum(gate in claim["gates"].split(";") for gate in claim_needs.DECIDED)
    assert "A run decides: S and R share fewer than half" in line(study(), "co-located best")


def test_all_evidence_of_the_claims_asks_for_something():
    config = study()
    assert all(claim_needs.of_claim(claim, config) for claim in CLAIMS.values())


def models(config: dict, *names: str, **shapes: dict) -> dict:
    for name in (*names, *shapes):
        config["models"][name] = {"source": f"hf:org/{name}", "geometry": SHAPE | shapes.get(name, {})}
    config["select"]["models"] = [*names, *shapes]
    return config


def test_sizes_of_one_family_are_one_family():
    claim = "anti-localization in GQA models"
    config = models(study(), "llama32-1b", "llama32-3b", "llama31-8b", "qwen25-7b", "qwen3-8b", "gemma2-2b")
    assert "lacks 6 model families with GQA (here 3)" in line(config, claim)
    config = models(config, "llama", "qwen", "gemma", "mistral", "olmo", "smollm", mha={"n_kv_heads": 8})
    assert "lacks nothing" in line(config, claim)
    assert "2 model families with MHA (here 1)" in line(config, "anti-localization more in GQA than in MHA")
    assert "lacks 2 sizes of one model family (here 1)" in line(config, "the picture holds from 1B to 32B")
    config = models(config, "olmo2-1b", olmo2_7b={"hidden": 128})
    assert "Has 2 sizes of one model family (here 2)" in line(
        config | {"select": config["select"] | {"arms": ["mid_block"]}}, "the picture holds from 1B to 32B"
    )


def test_draws_are_draws_times_seeds_or_the_seeds_of_the_random_arm():
    claim = "better than random placement"
    config = study()
    assert "lacks 19 random draws (here 2)" in line(config, claim)
    assert "19 random draws (here 57)" in line(study("llama31-8b"), claim)
    config["select"]["arms"].remove("random")
    assert "lacks the arm random; 19 random draws (here 0)" in line(config, claim)


def test_seeds_are_those_of_the_claims_own_arms():
    config = study("llama31-8b")
    claim = "alphas peak at the first layer of S"
    assert "6 seeds (here 3), 6.0 hours and 12 USD more" in line(config, claim, {"llama31-8b": (2.0, 4.0)})
    config["arms"]["colocated"]["seeds"] = list(range(6))  # garfa_everywhere has six already
    assert "6 seeds (here 6)" in line(config, claim)


def test_what_is_selected_is_no_longer_lacking():
    config = study()
    assert "lacks the arms lora_sensitive, garfa_sensitive" in line(config, "synergy")
    assert "lacks 2 random twins (here 0)" in line(config, "anti-localization beyond architecture")
    assert "lacks the profiles probe, early_exit" in line(
        config, "early layers structural, late layers decide the task"
    )
    config["select"]["arms"] += ["lora_sensitive", "garfa_sensitive"]
    config["select"]["profiles"] += ["probe", "early_exit"]
    config["twins"]["random"] = 2
    for claim in (
        "synergy",
        "anti-localization beyond architecture",
        "early layers structural, late layers decide the task",
    ):
        assert "lacks nothing" in line(config, claim)


def test_a_mini_benchmark_is_not_the_published_one():
    config = study()
    assert "lacks the benchmark GSM8K" in line(config, "Mid-Block +10.2 % on GSM8K")
    config["select"]["benchmarks"].append("gsm8k")
    assert "Has the arms mid_block, standard_lora; the benchmark GSM8K" in line(config, "Mid-Block +10.2 % on GSM8K")
    assert "lacks the published study's own runs" in line(config, "cost of 100 dollars")
    assert "lacks nothing" in line(study("llama31-8b"), "cost of 100 dollars")


def test_the_verdict_of_an_earlier_run_is_told():
    for place, claim in (("smollm2-135m/statistics/claims", "synergy"), ("across_claims", "cost of 100 dollars")):
        path = Path(f"results/smollm2/{place}.csv")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"claim,scope,verdict\n{claim},direct,not_tested\n{claim},conceptual,cannot_tell\n")
    assert line(study(), "synergy").endswith("Earlier run: smollm2-135m: cannot_tell")
    assert line(study(), "cost of 100 dollars").endswith("Earlier run: all: cannot_tell")
    assert "Earlier run" not in line(study(), "co-located best")
