"""The plan of a run: seconds from earlier runs where there are any, from the config where not, and their sum."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from colocate import config as configuration
from colocate import geometry, plan, rates

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def study() -> dict:
    return configuration.complete(yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8")))


@pytest.fixture
def empty(tmp_path, monkeypatch) -> Path:
    """A folder without data or earlier runs, as the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_table(path: Path, *seconds: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("s\th:m:s\tmax_rss\n" + "".join(f"{value}\t0:00:01\t100\n" for value in seconds))


def test_parameters_are_the_models(tiny_llama):
    import tiny

    assert plan.parameters(tiny.GEOMETRY) == geometry.read_geometry(tiny_llama)["n_params"]


def test_parameters_of_smollm2(study):
    published = 134_515_008
    assert plan.parameters(study["models"]["smollm2-135m"]["geometry"]) == pytest.approx(published, rel=1e-3)


def test_measured_seconds_are_the_mean_of_all_tables(tmp_path):
    write_table(tmp_path / "train_arm/m/a/seed0.tsv", "10.0")
    write_table(tmp_path / "train_arm/m/b/seed1.tsv", "20.0", "-")
    assert plan.measured_seconds(tmp_path / "train_arm") == 15.0
    write_table(tmp_path / "write_report.tsv", "3.5")
    assert plan.measured_seconds(tmp_path / "write_report") == 3.5
    assert plan.measured_seconds(tmp_path / "evaluate_arm") is None


def test_what_was_measured_counts_before_what_is_modelled(study, empty):
    jobs = {"train_arm": 2, "evaluate_arm": 3}
    before = plan.estimate(jobs, study)
    assert before.measured == frozenset()
    write_table(empty / "logs/smollm2/train_arm/m/a/seed0.tsv", "123.0")
    after = plan.estimate(jobs, study)
    assert after.seconds["train_arm"] == 123.0
    assert after.seconds["evaluate_arm"] == before.seconds["evaluate_arm"]
    assert after.measured == {"train_arm"}


def test_training_time_follows_tokens_parameters_and_threads(study, empty):
    def seconds(**changes) -> float:
        other = copy.deepcopy(study)
        other["threads"] = changes.get("threads", 1)
        other["training"] |= {"max_tokens": changes.get("max_tokens", 24000), "heldout_examples": 0}
        other["models"]["smollm2-135m"]["geometry"]["vocab"] *= changes.get("vocab", 1)
        return plan.modelled_seconds("train_arm", other, "float32") - rates.read(other).machines["cpu"].start

    assert seconds(max_tokens=48000) == pytest.approx(2 * seconds())
    assert seconds(threads=4) == pytest.approx(seconds() / 4)
    shape = study["models"]["smollm2-135m"]["geometry"]
    grown = (plan.parameters(shape) + shape["vocab"] * shape["hidden"]) / plan.parameters(shape)
    assert seconds(vocab=2) == pytest.approx(grown * seconds())


def test_rope_profiles_stay_float32_on_bfloat16_machines(study, empty):
    job = {"model": "smollm2-135m", "profile": "rope_output"}
    seconds = {dtype: plan.modelled_seconds("profile_layers", study, dtype, job) for dtype in ("float32", "bfloat16")}
    assert seconds["float32"] == seconds["bfloat16"]
    other = job | {"profile": "sensitivity_all"}
    study["pairs"]["files"] = [str(ROOT / "data/pairs/tasks.jsonl")]
    seconds = {dtype: plan.modelled_seconds("profile_layers", study, dtype, other) for dtype in ("float32", "bfloat16")}
    assert seconds["float32"] > seconds["bfloat16"]


def test_a_job_of_the_whole_rule_is_the_mean_over_the_selection(study, empty):
    names = study["select"]["benchmarks"]
    each = [plan.modelled_seconds("evaluate_arm", study, "cuda", {"benchmark": name}) for name in names]
    assert plan.modelled_seconds("evaluate_arm", study, "cuda") == pytest.approx(sum(each) / len(each))


def test_forecasts_are_for_every_kind_of_device(study):
    found = plan.forecast(study)
    assert set(found["expected"]) == set(found["stages"])
    assert {"train_arm", "prepare_model", "correlate_profiles"} <= set(found["expected"])
    assert all(set(each) == {"cuda", "float32", "bfloat16"} for each in found["expected"].values())
    assert found["stages"]["train_arm"] == "train"


def test_wall_time_is_bounded_by_total_and_by_the_longest_chain():
    jobs, seconds = {"a": 6, "b": 1}, {"a": 10.0, "b": 5.0}

    def wall(slots):
        return plan.wall_seconds(jobs, seconds, dict.fromkeys(jobs, slots))

    assert wall(1) == 65.0
    assert wall(2) == 35.0
    assert wall(1000) == 15.0
    assert wall(1) >= wall(2) >= wall(4) >= wall(1000)
    assert plan.wall_seconds({"a": 0.0}, {"a": 10.0}, {"a": 2.0}) == 0.0
    assert plan.wall_seconds({"a": 0.5}, {"a": 10.0}, {"a": 2.0}) == 5.0


def test_gpu_rules_wait_for_gpus_and_pay_for_them():
    jobs = {"train_arm": 4, "draw_figure": 4}
    chosen = plan.Plan(jobs, {"train_arm": 1800.0, "draw_figure": 9.0}, frozenset(), cuda=True)
    assert chosen.wall(cores=4, gpus=2) == 2 * 1800 + 9
    assert chosen.price({"gpu_hour": 2.0, "cpu_hour": 0.1}) == pytest.approx(2 * 2.0 + 36 / 3600 * 0.1)
    on_cpu = plan.Plan(jobs, chosen.seconds, frozenset(), cuda=False)
    assert on_cpu.price({"gpu_hour": 2.0, "cpu_hour": 0.1}, threads=2) == pytest.approx((2 + 0.01) * 0.2)


def test_device_is_the_configs_or_the_machines(study, monkeypatch):
    assert plan.device_of(study | {"device": "cuda"}) == "cuda"
    monkeypatch.setattr(plan.devices, "list_gpus", lambda: ["0"])
    assert plan.device_of(study | {"device": "auto"}) == "cuda"
    assert plan.device_of(study | {"device": "cpu"}) in ("float32", "bfloat16")


def test_jobs_are_listed_in_the_order_of_the_data():
    listed = plan.ordered({"unknown": 1, "write_report": 1, "evaluate_arm": 90, "train_arm": 14, "fetch_model": 1})
    assert list(listed) == ["fetch_model", "train_arm", "evaluate_arm", "write_report", "unknown"]


def test_every_rule_of_the_workflow_has_its_place():
    import re

    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "workflow/rules").glob("*.smk"))
    assert set(re.findall(r"^(?:rule|checkpoint) (\w+):", text, re.MULTILINE)) == set(plan.RULES)


def test_announced_study_is_the_latest(study):
    plan.announce(study)
    assert plan.announced()["study"] == "smollm2"
    plan.announce({"study": "other"})
    assert plan.announced() == {"study": "other"}
    plan.announce({})


def test_importing_the_plan_is_light():
    heavy = "import sys, colocate.plan; print(*{'torch', 'pandas', 'transformers', 'numpy', 'peft'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == ""
