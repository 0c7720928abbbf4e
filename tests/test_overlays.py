"""The overlays of the full-scale studies: the whole plan of jobs, and each end to end on tiny models."""

import json
import re
import shutil

import pandas as pd
import pytest

from colocate import bill, config, fits, layer_sets
from colocate.statistics import across, over_models
from conftest import ROOT, Checkout
from hub_models import overlay
from small_overlays import check_whole, results, run_small
from test_workflow import PLAIN, jobs

MASKS = ["mid_block", "mask_01100", "mask_00110", "segment_2", "segment_3", "segment_4"]
SEGMENTS = [f"segment_{number}" for number in range(1, 6)]
BENCHMARKS = {"mmlu", "gpqa_main", "humaneval_plus", "math", "mgsm", "arc_challenge", "gsm8k"}


def planned(checkout: Checkout, name: str, **changes) -> dict[str, int]:
    """Jobs by rule of the overlay's whole study, fetched data and all."""
    checkout.environment.pop("COLOCATE_DATASETS", None)
    checkout.configfiles.append(f"config/{name}.yaml")
    if changes:
        checkout.overlay("changes", changes)
    return jobs(checkout.snakemake("--dry-run", "--quiet", "rules", *PLAIN).stdout)


def test_the_whole_plan_of_llama31_8b(checkout):
    found = planned(checkout, "llama31-8b")
    study = overlay("llama31-8b")
    arms, models = study["select"]["arms"], study["select"]["models"]
    six = [arm for arm in arms if "seeds" in study["arms"].get(arm, {})]
    assert six == ["garfa_sensitive", "garfa_pinned", "garfa_everywhere"]
    assert set(study["select"]["benchmarks"]) == BENCHMARKS
    runs = 3 * (len(arms) - 2 - len(six)) + 6 * len(six)  # without base and the draws
    assert found["train_arm"] == len(models) * (runs + 3 * 19)
    assert found["evaluate_arm"] == len(models) * (runs + 1) * len(BENCHMARKS)  # draws: held-out loss alone
    assert found["profile_layers"] == len(models) * len(study["select"]["profiles"])
    assert found["profile_twin"] == len(models) * 3 * 2
    assert found["fetch_model"] == found["prepare_model"] == 4
    assert found["fetch_benchmark"] == 4 + len(BENCHMARKS)
    assert found["write_report"] == 1


def test_the_whole_plan_of_olmo2(checkout):
    found = planned(checkout, "olmo2")
    study = overlay("olmo2")
    arms = study["select"]["arms"]
    assert set(arms) >= {*MASKS, *SEGMENTS, "standard_lora", "full_sft"}
    published = {"mid_block_as_published"} | {f"{arm}_as_published" for arm in {*MASKS[1:], *SEGMENTS}}
    assert set(arms) >= published
    trained = len(arms) - 2  # not base; and standard_lora_full_rank is standard_lora here
    assert found["train_arm"] == 2 * 3 * trained
    assert found["profile_released"] == 2 * 2 * len(study["select"]["arm_profiles"])  # SFT and Instruct of each size
    assert found["fetch_model"] == 6
    assert found["evaluate_arm"] == 2 * (1 + 3 * trained) * 4


def test_the_whole_plan_of_families(checkout):
    found = planned(checkout, "families")
    study = overlay("families")
    models = study["select"]["models"]
    assert set(models) == set(study["models"]) | {"smollm2-135m"}
    shapes = [entry["geometry"] for entry in study["models"].values()]
    family = {
        name: re.match(r"[A-Za-z]+-?\d", entry["source"].split("/")[1])[0] for name, entry in study["models"].items()
    }
    grouped = {
        family[name]
        for name, entry in study["models"].items()
        if 1 < entry["geometry"]["n_kv_heads"] < entry["geometry"]["n_heads"]
    }
    assert grouped == {"Llama-3", "Mistral-7", "Qwen2", "Qwen3", "gemma-2", "gemma-3", "SmolLM2", "OLMo-2"}
    assert set(family.values()) == grouped
    counted = {across.family_of(name) for name in models if family.get(name, "SmolLM2") in grouped}
    assert len(counted) >= over_models.FEWEST_FAMILIES  # as the claim over families counts them
    assert sum(shape["n_kv_heads"] == shape["n_heads"] for shape in shapes) == 3
    assert study["models"]["llama31-70b"]["dtype"] == "nf4"
    assert found["profile_layers"] == len(models) * len(study["select"]["profiles"])
    assert found["train_arm"] == len(models) * 6 * 2


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gain", {"gain_layer": 2 * (30 + 31 + 30), "profile_layers": 20, "train_arm": 6, "evaluate_arm": 7}),
        ("hub-mixture", {"fetch_benchmark": 4, "fetch_mixture": 1, "train_arm": 14, "evaluate_arm": 90}),
        ("smollm2-real", {"fetch_benchmark": 6, "train_arm": 6, "evaluate_arm": 7 * 7}),
    ],
)
def test_the_whole_plan_of_the_small_overlays(checkout, name, expected):
    found = planned(checkout, name)
    assert {rule: found.get(rule) for rule in expected} == expected
    assert found["fetch_model"] == found["write_report"] == 1


def trainable(study: dict, model: str, arm: str) -> int:
    """Trainable parameters of an arm, on a stand-in for the sets that need profiles: the first layers, as many."""
    g = study["models"][model]["geometry"]
    sizes = {"q_proj": g["n_heads"] * g["head_dim"], "k_proj": g["n_kv_heads"] * g["head_dim"]}
    sizes |= {"v_proj": sizes["k_proj"], "o_proj": sizes["q_proj"]}
    sizes |= dict.fromkeys(("gate_proj", "up_proj", "down_proj"), g["ffn"])
    layers = range(g["n_layers"])
    geometry = {"n_layers": len(layers), "n_kv_heads": g["n_kv_heads"], "rope_layers": list(layers)}
    geometry["linear_shapes"] = {str(i): {name: [size, g["hidden"]] for name, size in sizes.items()} for i in layers}
    entry = study["arms"][arm]
    matched = study["arms"][entry["budget"].removeprefix("match ")] if "budget" in entry else None
    rules = {name: study["layer_sets"][name] for name in config.arm_sets(study, arm)}
    profiles = {name: {i: -i - len(name) for i in layers} for name in rules}
    sets = {
        name: layer_sets.select(name, rule, len(layers), profiles[name])
        for name, rule in rules.items()
        if "random" not in rule
    }
    rules = {name: {key: value for key, value in rule.items() if key != "by"} for name, rule in rules.items()}
    return layer_sets.resolve(arm, 0, entry, matched, rules, sets, geometry, study["training"])["n_trainable"]


@pytest.mark.parametrize("name", ["config", "llama31-8b", "olmo2", "families"])
def test_the_primary_family_compares_arms_of_one_budget(name):
    """But for LoRA on R in the study of Rao 2026, whose printed R has a layer more than S (docs/choices.md)."""
    study = config.complete(bill.merged([str(ROOT / f"config/{one}.yaml") for one in dict.fromkeys(("config", name))]))
    chosen = study["statistics"]
    against = set(chosen["primary_against"]) & set(study["select"]["arms"])
    assert len(against) >= 4
    for model in study["select"]["models"]:
        reference = trainable(study, model, chosen["reference"])
        for arm in against:
            on_r = name == "llama31-8b" and study["arms"][arm]["lora"] == "positional"
            assert trainable(study, model, arm) / reference == pytest.approx(10 / 9 if on_r else 1, rel=0.003), arm


@pytest.mark.parametrize(("name", "card_mib"), [("llama31-8b", 81_000), ("olmo2", 143_000), ("families", 143_000)])
def test_an_overlay_fits_on_the_card_that_it_names(name, card_mib):
    study = bill.merged([str(ROOT / "config/config.yaml"), str(ROOT / f"config/{name}.yaml")])
    assert fits.refusal(study, card_mib) == ""
    assert "needs" in fits.refusal(study, 24 * 1024)


def test_a_model_of_several_cards_asks_for_them_in_every_job(checkout):
    study = {"device": "cuda", "models": {"smollm2-135m": {"gpus": 4}}}
    checkout.overlay("wide", study)
    said = checkout.snakemake("--dry-run", *PLAIN).stdout
    rules = said.split("\nrule ")[1:]
    cards = {rule.split(":")[0]: ("gpu=4" in rule, "gpu=1" in rule) for rule in rules if "gpu=" in rule}
    model_rules = {"describe_model", "profile_layers", "train_arm", "evaluate_arm", "measure_drift", "profile_arm"}
    assert {name for name, found in cards.items() if found == (True, False)} == model_rules


def test_seeds_of_an_arm_add_runs_and_change_no_other(checkout):
    checkout.overlay("seeds", {"arms": {"colocated": {"seeds": [0, 1, 7]}}})
    commands = checkout.snakemake("--dry-run", "--printshellcmds", *PLAIN, "train").stdout
    resolved = [line for line in commands.splitlines() if "resolve_arm.py" in line and "colocated/seed" in line]
    assert len(resolved) == 3
    assert '"seeds"' not in "".join(resolved)  # a further seed is no reason to resolve the others again


# --------------------------------------------------------------------------------------------------------- end to end


@pytest.mark.slow
def test_llama31_8b_end_to_end(tmp_path):
    arms = ["base", "colocated_pinned", "garfa_everywhere"]
    one_seed = {"arms": {"garfa_everywhere": {"seeds": [0]}}}
    checkout = run_small(tmp_path, ["llama31-8b"], ["llama31-8b-instruct"], arms, one_seed)
    check_whole(checkout, "llama31-8b", "llama31-8b-instruct", arms)
    folder = results(checkout, "llama31-8b", "llama31-8b-instruct")
    pinned = json.loads((folder / "arms/colocated_pinned/seed0.json").read_text())
    assert pinned["lora_layers"] == pinned["garfa_layers"] == list(range(23, 32))
    alphas = pd.read_csv(folder / "adapters/garfa_everywhere/seed0/alphas.csv")
    assert sorted(set(alphas["layer"])) == list(range(32))
    assert sorted(set(alphas["kv_head"])) == list(range(8))
    sources = {json.loads(line)["source"] for line in (folder.parent / "mixture/train.jsonl").read_text().splitlines()}
    assert sources == {"Magicoder-OSS-Instruct-75K", "CodeAlpaca-20k", "MetaMathQA", "OpenHermes-2.5"}
    record = json.loads((folder / "adapters/colocated_pinned/seed0/train.run.json").read_text())
    assert record["attention"] == "sdpa"


@pytest.mark.four_bit
@pytest.mark.slow
def test_llama31_8b_in_4_bits_end_to_end(tmp_path):
    arms = ["base", "colocated_pinned"]
    checkout = run_small(tmp_path, ["llama31-8b"], ["llama31-8b-nf4"], arms, dtype="nf4")
    check_whole(checkout, "llama31-8b", "llama31-8b-nf4", arms)
    folder = results(checkout, "llama31-8b", "llama31-8b-nf4")
    for job in ("adapters/colocated_pinned/seed0/train", "evaluations/colocated_pinned/seed0/mini_arc"):
        assert json.loads((folder / f"{job}.run.json").read_text())["dtype"] == "nf4"
    losses = pd.read_csv(folder / "adapters/colocated_pinned/seed0/training_log.csv")
    test = losses[losses["split"] == "test"].sort_values("step")["loss"]
    assert test.iloc[-1] < test.iloc[0]


@pytest.mark.slow
def test_olmo2_end_to_end_with_full_fine_tuning_and_released_models(tmp_path):
    arms = ["base", "full_sft", "segment_2_as_published"]
    checkout = run_small(tmp_path, ["olmo2"], ["olmo2-1b"], arms, {"select": {"arm_profiles": ["weight_change"]}})
    compute = check_whole(checkout, "olmo2", "olmo2-1b", arms)
    assert (compute["rule"] == "profile_released").sum() == 2
    folder = results(checkout, "olmo2", "olmo2-1b")
    full = json.loads((folder / "arms/full_sft/seed0.json").read_text())
    assert full["full"] is True
    geometry = json.loads((folder / "geometry.json").read_text())
    assert full["n_trainable"] == geometry["n_params"]
    moved = pd.read_csv(folder / "arm_profiles/full_sft/seed0/weight_change.csv")
    assert (moved["value"] > 0).all()
    assert (pd.read_csv(folder / "arm_profiles/released-olmo2-1b-sft/seed0/weight_change.csv")["value"] > 0.1).all()
    one = json.loads((folder / "arms/segment_2_as_published/seed0.json").read_text())
    assert one["lora_layers"] == [3, 4, 5]  # int(16 / 5) to int(2 * 16 / 5) - 1
    ranks = one["rank"].values() if isinstance(one["rank"], dict) else [one["rank"]] * 3
    assert sum(ranks) == 16 * 64  # the sum of ranks is that of LoRA on all layers
    assert set(one["alpha"].values() if isinstance(one["alpha"], dict) else [one["alpha"]]) == {128}
    rows = [json.loads(line) for line in (folder.parent / "mixture/train.jsonl").read_text().splitlines()]
    numbers = [int(row["messages"][0]["content"].split()[-1][:-1]) for row in rows]
    assert set(numbers) == {500}, "rows of the test split were trained on"


@pytest.mark.slow
def test_families_end_to_end_with_two_families_side_by_side(tmp_path):
    arms, models = ["base", "colocated", "random"], ["llama32-1b", "gemma3-1b"]
    checkout = run_small(tmp_path, ["families"], models, arms)
    for model, attention, layers in (("llama32-1b", "GQA", 16), ("gemma3-1b", "MQA", 26)):
        check_whole(checkout, "families", model, arms)
        folder = results(checkout, "families", model)
        assert json.loads((folder / "geometry.json").read_text())["attention"] == attention
        colocated = json.loads((folder / "arms/colocated/seed0.json").read_text())
        assert len(colocated["garfa_layers"]) == round(0.28 * layers)
    across = pd.read_csv(checkout.folder / "results/families/across_models.csv").set_index("model")
    assert across.loc[models, "family"].tolist() == ["llama", "gemma"]
    assert across.loc[models, "r_s"].between(-1, 1).all()
    claims = pd.read_csv(checkout.folder / "results/families/across_claims.csv")
    why = claims[claims["claim"] == "anti-localization in GQA models"]["why"]
    assert why.str.contains("needs 6 families").all()
    assert "in sliding attention" in (checkout.folder / "reports/families.html").read_text()  # a RoPE base a kind
    shutil.rmtree(checkout.folder)


@pytest.mark.slow
def test_smollm2_on_published_benchmarks_with_the_mixture_of_the_hub_end_to_end(tmp_path):
    arms, model, benchmarks = ["base", "colocated", "standard_lora"], "smollm2-135m-hub", ("arc_easy", "gsm8k")
    checkout = run_small(tmp_path, ["smollm2-real", "hub-mixture"], [model], arms, benchmarks=benchmarks)
    check_whole(checkout, "hub-mixture", model, arms, benchmarks)
    folder = results(checkout, "hub-mixture", model)
    summary = json.loads((folder / "evaluations/colocated/seed0/gsm8k.json").read_text())
    assert set(summary["settings"]["num_fewshot"].values()) == {5}
    sources = {json.loads(line)["source"] for line in (folder.parent / "mixture/train.jsonl").read_text().splitlines()}
    assert sources == {"Magicoder-OSS-Instruct-75K", "CodeAlpaca-20k", "MetaMathQA", "OpenHermes-2.5"}
    ranks = json.loads((folder / "arms/standard_lora/seed0.json").read_text())["rank"]
    assert len(ranks) == 30  # a rank a layer, of the budget


@pytest.mark.slow
def test_gain_end_to_end(tmp_path):
    """On four of the thirty layers: a training for each."""
    arms, model = ["base", "colocated", "top_gain"], "smollm2-4-layers"
    changes = {"select": {"layer_gain": ["alone"]}, "gain": {"max_tokens": 1000}, "layer_sets": {"gainful": {"top": 2}}}
    checkout = run_small(tmp_path, ["gain"], [model], arms, changes)
    check_whole(checkout, "gain", model, arms)
    folder = results(checkout, "gain", model)
    gains = pd.read_csv(folder / "profiles/layer_gain.csv").set_index("layer")["value"]
    best = sorted(gains.nlargest(2).index)
    assert json.loads((folder / "arms/top_gain/seed0.json").read_text())["lora_layers"] == best
    regret = pd.read_csv(folder / "statistics/regret.csv")
    assert {"sensitivity_all", "rope_output"} <= set(regret.to_numpy().ravel())
