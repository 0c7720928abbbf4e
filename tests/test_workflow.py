"""The workflow as Snakemake sees it: the jobs of the default study, digests of every rule, errors before any job."""

import json
import re
import subprocess
import sys

import pytest

from colocate.compute import AFTER
from colocate.figures import FIGURES
from conftest import ROOT

GEOMETRY = {"n_layers": 30, "n_heads": 9, "n_kv_heads": 3, "head_dim": 64, "hidden": 576, "ffn": 1536, "vocab": 49152}
PLAIN = ("--workflow-profile", "none")  # Snakemake's own words, not those of the progress logger
DEFAULT_JOBS = {
    "fetch_model": 1,
    "prepare_model": 1,
    "describe_model": 1,
    "check_pairs": 1,
    "fetch_mixture": 1,
    "check_contamination": 1,
    "check_tokens": 1,
    "profile_layers": 5,
    "select_layers": 4,
    "resolve_arm": 14,
    "train_arm": 14,
    "profile_arm": 28,
    "evaluate_arm": 15 * 6,
    "measure_drift": 14,
    "correlate_profiles": 1,
    "resample_items": 1,
    "score_metrics": 1,
    "reanalyse_print": 1,
    "contrast_arms": 1,
    "compare_base": 1,
    "judge_claims": 1,
    "recommend_layers": 1,
    "compare_models": 1,
    "record_config": 1,
    "collect_compute": 1,
    "draw_figure": len(FIGURES),
    "write_report": 1,
    "describe_run": 1,
}


def jobs(plan: str) -> dict[str, int]:
    """Jobs by rule out of a dry run."""
    table = plan.split("Job stats:")[1].split("total")[0]
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table, flags=re.MULTILINE)}


def plan(checkout, *options: str) -> dict[str, int]:
    return jobs(checkout.snakemake("--dry-run", *PLAIN, *options).stdout)


def test_jobs_of_the_default_study(checkout):
    assert plan(checkout) == DEFAULT_JOBS | {"all": 1}


@pytest.mark.parametrize(
    ("target", "present", "absent"),
    [
        ("fetch", {"fetch_model": 1, "fetch_mixture": 1}, {"prepare_model", "train_arm"}),
        ("profiles", {"profile_layers": 5, "select_layers": 4}, {"train_arm", "resolve_arm"}),
        ("train", {"train_arm": 14, "profile_layers": 2}, {"evaluate_arm"}),
        ("evaluate", {"evaluate_arm": 90, "measure_drift": 14}, {"contrast_arms"}),
        ("statistics", {"contrast_arms": 1, "compare_base": 1, "reanalyse_print": 1}, {"draw_figure"}),
        ("figures", {"draw_figure": len(FIGURES)}, {"write_report"}),
        ("report", {"write_report": 1, "draw_figure": len(FIGURES), "collect_compute": 1, "compare_models": 1}, set()),
    ],
)
def test_targets_ask_for_their_stage_and_no_more(checkout, target, present, absent):
    planned = plan(checkout, target)
    assert {name: planned.get(name) for name in present} == present
    assert not absent & set(planned)


def test_layer_gain_and_draws_where_selected(checkout):
    gains = ["alone", "without", "block"]
    checkout.overlay("more", {"select": {"layer_gain": gains, "arms": ["base", "colocated", "random_draws"]}})
    planned = plan(checkout)
    assert planned["gain_layer"] == (30 + 31 + 30) * 2  # what a layer adds is measured against all layers
    assert planned["join_layer_gain"] == 3
    assert planned["train_arm"] == 2 * (1 + 19)
    assert planned["evaluate_arm"] == 6 * (1 + 2)  # the draws are measured by held-out loss alone
    assert planned["measure_drift"] == 2


def test_rates_are_tried_once_for_each_arm_and_draw_by_draw_never(checkout):
    rates = {"lr_lora": [1e-4, 5e-4, 2e-3], "lr_garfa": [1e-3, 1e-2, 1e-1]}
    arms = ["base", "colocated", "lora_sensitive", "garfa_sensitive", "random_draws"]
    overlay = {"training": {"tuning": rates}, "select": {"arms": arms}, "statistics": {"primary_against": []}}
    checkout.overlay("tuned", overlay)
    planned = plan(checkout, "train")
    assert planned["tune_arm"] == 9 + 3 + 3 + 9  # the 19 draws of random layers share the rates of the first
    assert planned["train_arm"] == 2 * (3 + 19)


def test_twins_made_pairs_and_a_released_fine_tune_where_selected(checkout):
    overlay = {
        "models": {
            "smollm2-135m": {"released": ["tuned"]},
            "tuned": {"source": "path:elsewhere", "geometry": dict(GEOMETRY)},
        },
        "twins": {"random": 5, "shuffled": 2},
        "pairs": {"made": [{"kind": "benchmark", "benchmark": "mini_arc"}]},
        "select": {
            "profiles": ["sensitivity_all", "sensitivity_made", "rope_output", "gradient_norm"],
            "arm_profiles": ["linear_cka", "weight_change"],
        },
    }
    checkout.overlay("controls", overlay)
    planned = plan(checkout)
    assert planned["profile_twin"] == 7 * 2  # the two primary profiles of each
    assert planned["make_pairs"] == 1
    assert planned["profile_released"] == 2
    assert planned["fetch_model"] == planned["prepare_model"] == 2
    assert planned["describe_model"] == 1  # nothing else is measured of the fine-tune
    commands = checkout.snakemake("--dry-run", "--printshellcmds", *PLAIN, "profiles").stdout
    pattern = r"--pairs (\S+) .*?--examples ?(.*?) --profile \S+/profiles/(\w+)\.csv"
    inputs = {name: (pairs, examples) for pairs, examples, name in re.findall(pattern, commands)}
    assert inputs["sensitivity_made"][0].endswith("smollm2-135m/pairs/made.jsonl")
    assert inputs["sensitivity_all"] == ("data/pairs/tasks.jsonl", "")
    assert inputs["gradient_norm"][1].endswith("mixture/train.jsonl")


def test_the_bill_is_made_of_every_job_but_those_after_it(checkout):
    """With all that is off by default: a record for each job, declared or beside its log."""
    overlay = {
        "models": {
            "smollm2-135m": {"released": ["tuned"]},
            "tuned": {"source": "path:elsewhere", "geometry": dict(GEOMETRY)},
        },
        "twins": {"random": 1, "shuffled": 1},
        "pairs": {"made": [{"kind": "benchmark", "benchmark": "mini_arc"}]},
        "training": {"tuning": {"lr_lora": [1e-4, 5e-4, 2e-3]}},
        "select": {
            "profiles": ["sensitivity_all", "sensitivity_made", "rope_output"],
            "benchmarks": ["mini_arc", "gsm8k"],
            "arm_profiles": ["weight_change"],
            "layer_gain": ["alone", "without"],
        },
    }
    checkout.overlay("everything", overlay)
    checkout.environment.pop("COLOCATE_DATASETS", None)  # a mirror has nothing to fetch
    said = checkout.snakemake("--dry-run", "--printshellcmds", *PLAIN).stdout
    [(records, settings)] = re.findall(
        r"/collect_compute\.py --records (.*?) --table .*?--settings '?(\{.*\})'?$",
        said,
        flags=re.MULTILINE,
    )
    others = json.loads(settings)["others"]
    planned = jobs(said)
    assert {"fetch_benchmark", "join_layer_gain", "fetch_model", "draw_figure"} <= set(others)
    assert {rule: len(names) for rule, names in others.items()} == {rule: planned[rule] for rule in others}
    recorded = sum(planned.values()) - planned["all"] - sum(map(len, others.values())) - len(AFTER)
    assert len(set(records.split())) == recorded > 100
    assert {rule: planned[rule] for rule in AFTER} == dict.fromkeys(AFTER, 1)


def test_two_names_for_one_arm_are_one_training(checkout):
    overlay = {
        "arms": {"twin": {"lora": "sensitive", "garfa": "sensitive"}},
        "select": {"arms": ["base", "colocated", "twin"]},
    }
    checkout.overlay("twin", overlay)
    assert plan(checkout)["train_arm"] == 2


def test_an_arm_may_be_for_some_models_only(checkout):
    other = {"source": "path:elsewhere", "geometry": json.loads(json.dumps(GEOMETRY))}
    arms = {"colocated": {"models": ["other"]}}
    checkout.overlay(
        "models", {"models": {"other": other}, "arms": arms, "select": {"models": ["smollm2-135m", "other"]}}
    )
    assert plan(checkout)["train_arm"] == 14 + 12


def test_every_job_has_log_benchmark_digests_and_resources(checkout):
    """Every rule that runs a script: log, benchmark, the three digests, threads, memory, time, GPUs."""
    text = "".join(path.read_text() for path in sorted((ROOT / "workflow/rules").glob("*.smk")))
    rules = re.split(r"^rule ", text, flags=re.MULTILINE)[1:]
    assert {rule.split(":")[0] for rule in rules} >= set(DEFAULT_JOBS) | {
        *("gain_layer", "join_layer_gain", "fetch_benchmark"),
        *("make_pairs", "profile_twin", "profile_released", "tune_arm"),
    }
    for rule in rules:
        name = rule.split(":")[0]
        for part in (
            "log:",
            "benchmark:",
            "cfg=",
            "code=",
            "env=",
            "threads:",
            "mem_mb=",
            "runtime=",
            "gpu=",
            "shell:",
        ):
            assert part in rule, f"{name} has no {part}"
        assert f'command(\n            "{name}"' in rule or f'command("{name}"' in rule, name
        assert not re.search(r"^    (script|run|retries):", rule, flags=re.MULTILINE), name


def test_settings_of_a_job_are_sorted_json_of_what_it_uses(checkout):
    commands = checkout.snakemake("--dry-run", "--printshellcmds", *PLAIN).stdout
    found = re.findall(r"""/(\w+)\.py --.*?--settings '?(\{.*\})'?(?: --arms \S+)?$""", commands, flags=re.MULTILINE)
    assert {name for name, _ in found} == set(DEFAULT_JOBS)
    for name, settings in found:
        values = json.loads(settings)
        assert settings == json.dumps(values, sort_keys=True), name
        assert name == "record_config" or "select" not in values or name == "draw_figure"
    training = [json.loads(settings) for name, settings in found if name == "train_arm"]
    assert {values["seed"] for values in training} == {0, 1}
    assert all("prices" not in values and "evaluation" not in values for values in training)
    assert all("tuning" not in values["training"] for values in training)  # what it chose is in the resolved arm


def test_a_wrong_config_stops_before_any_job(checkout):
    checkout.overlay("wrong", {"training": {"lr_lora": "fast"}})
    done = checkout.snakemake(check=False)
    assert done.returncode != 0
    assert "config: training.lr_lora (config/wrong.yaml:2): found 'fast'; it must be of type number" in done.stdout
    assert not (checkout.folder / "results").exists()
    assert not (checkout.folder / "resources").exists()


def test_a_bad_pair_stops_before_any_job_with_its_file_and_line(checkout):
    path = checkout.folder / "data/pairs/tasks.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*lines, lines[4]]) + "\n", encoding="utf-8")
    done = checkout.snakemake("--dry-run", check=False)
    assert done.returncode != 0
    assert f"data/pairs/tasks.jsonl:{len(lines) + 1}: id: " in done.stdout


def test_every_script_explains_itself():
    for script in sorted((ROOT / "workflow/scripts").glob("*.py")):
        text = script.read_text()
        assert text.startswith('"""'), script.name
        assert "with Job(__doc__" in text, script.name
    done = subprocess.run(
        [sys.executable, ROOT / "workflow/scripts/record_config.py", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Write the merged, completed configuration" in done.stdout
    assert "--settings" in done.stdout


def test_the_workflow_catalogue_finds_the_workflow():
    assert (ROOT / "workflow/Snakefile").read_text() == 'include: "../Snakefile"\n'
