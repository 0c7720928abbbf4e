"""What one job takes: by its model and kind, corrected by the finished jobs that are most like it."""

import json
from pathlib import Path

import pytest
import yaml

from colocate import config as configuration
from colocate import plan, spending
from colocate.earlier import Earlier

ROOT = Path(__file__).resolve().parents[1]
LARGE = {"n_layers": 32, "n_heads": 32, "n_kv_heads": 8, "head_dim": 128, "hidden": 4096, "ffn": 14336, "vocab": 128256}
SMALL = "smollm2-135m"


@pytest.fixture
def study(tmp_path, monkeypatch) -> dict:
    """Models of 0.1 and 8 billion parameters, a short and a long benchmark, on cards, nothing run yet."""
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)
    values = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    values["models"]["large"] = {"source": "hf:org/large", "revision": "main", "geometry": LARGE}
    values["select"] |= {"models": [SMALL, "large"], "benchmarks": ["mini_arc", "gsm8k"]}
    values["training"]["max_tokens"] = 20_000_000
    return configuration.complete(values | {"device": "cuda"})


def table(place: str, seconds: float) -> None:
    path = Path("logs/smollm2") / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"s\th:m:s\n{seconds}\t-\n")


def evaluation(model: str, benchmark: str) -> tuple[str, dict]:
    return "evaluate_arm", {"model": model, "arm": "base", "seed": "0", "benchmark": benchmark}


def test_before_a_run_every_job_is_as_modelled(study):
    for rule, job in (evaluation("large", "gsm8k"), evaluation(SMALL, "mini_arc"), ("draw_figure", {"figure": "arms"})):
        assert Earlier(study).seconds(rule, job) == plan.modelled_seconds(rule, study, "cuda", job)


def test_the_most_similar_finished_jobs_count(study):
    def factor(model: str, benchmark: str) -> float:
        rule, job = evaluation(model, benchmark)
        return Earlier(study).seconds(rule, job) / plan.modelled_seconds(rule, study, "cuda", job)

    modelled = {
        names: plan.modelled_seconds(*evaluation(*names)[:1], study, "cuda", evaluation(*names)[1])
        for names in ((SMALL, "mini_arc"), (SMALL, "gsm8k"), ("large", "mini_arc"))
    }
    table(f"evaluate_arm/{SMALL}/base/seed0/mini_arc.tsv", 2 * modelled[SMALL, "mini_arc"])
    table(f"evaluate_arm/{SMALL}/colocated/seed1/mini_arc.tsv", 4 * modelled[SMALL, "mini_arc"])
    assert factor(SMALL, "mini_arc") == pytest.approx(3)  # its own kind
    assert factor(SMALL, "gsm8k") == pytest.approx(3)  # its model
    assert factor("large", "gsm8k") == pytest.approx(3)  # its rule: a factor, not the small model's seconds
    table(f"evaluate_arm/{SMALL}/base/seed0/gsm8k.tsv", modelled[SMALL, "gsm8k"])
    assert factor(SMALL, "gsm8k") == pytest.approx(1)
    assert factor(SMALL, "mini_arc") == pytest.approx(3)
    table("evaluate_arm/large/base/seed0/mini_arc.tsv", 5 * modelled["large", "mini_arc"])
    assert factor("large", "gsm8k") == pytest.approx(5)
    table("evaluate_arm/gone/base/seed0/gsm8k.tsv", 1e6)  # of a model that the config no longer has
    assert factor(SMALL, "gsm8k") == pytest.approx(1)


def test_arms_that_took_longer_are_expected_to_again(study):
    one = plan.modelled_seconds("train_arm", study, "cuda", {"model": SMALL})
    table(f"train_arm/{SMALL}/colocated/seed0.tsv", one)
    table(f"train_arm/{SMALL}/standard_lora/seed0.tsv", 2 * one)
    costs = Earlier(study).costs()["train_arm"][SMALL]
    assert costs[""] == pytest.approx(2 * costs["colocated"])
    assert costs["random"] == pytest.approx(1.5 * costs["colocated"])


def test_costs_tell_models_and_benchmarks_apart(study):
    costs = Earlier(study).costs()
    assert set(costs) == set(plan.MODEL_RULES)
    assert costs["train_arm"]["large"][""] > 5 * costs["train_arm"][SMALL][""]
    assert costs["train_arm"]["large"].keys() == {""}  # all arms alike: one number
    long, short = (costs["evaluate_arm"]["large"][kind] for kind in ("", "mini_arc"))
    assert long > 1.5 * short


def test_a_small_models_job_starts_where_a_large_ones_does_not(study, monkeypatch):
    costs = Earlier(study).costs()
    small, large = costs["evaluate_arm"][SMALL], costs["evaluate_arm"]["large"]
    limit = (max(small[""], large["mini_arc"]) + large[""]) / 2
    said = spending.describe("smollm2", limit, study["prices"], costs, study["select"]["models"])
    assert len(said) < 10_000
    budget = json.loads(said)

    def fits(model: str, benchmark: str) -> bool:
        log = Path(f"logs/smollm2/evaluate_arm/{model}/base/seed0/{benchmark}.log")
        return spending.expected(budget, "evaluate_arm", log) <= limit

    assert fits(SMALL, "gsm8k")
    assert fits("large", "mini_arc")
    assert not fits("large", "gsm8k")
    assert spending.expected(budget, "contrast_arms", None) is None


def test_the_budget_stays_small_however_many_seeds_there_are(study):
    few = json.dumps(Earlier(study).costs())
    assert json.dumps(Earlier(study | {"seeds": list(range(500))}).costs()) == few
