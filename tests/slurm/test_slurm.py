"""`snakemake --profile slurm` on a real SLURM of one machine, with stand-in GPUs (tests/slurm/cluster.py).

The study is config/ci.yaml on a tiny random model: every job is real, and takes seconds. Its jobs compute on the CPU
and ask for a GPU all the same, so that SLURM has something to share out.
"""

import re

import pandas as pd
import pytest
import yaml
from cluster import NODES, missing
from studies import finish, jobs, rule_of, start

from colocate import needs

pytest_plugins = ["slurm_fixtures"]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing() or "SLURM is here")]
GPU_RULES = ("describe_model", "profile_layers", "train_arm", "evaluate_arm", "measure_drift", "profile_arm")


def test_a_study_runs_green_to_its_report(green):
    checkout, printed, submitted = green
    assert (checkout.folder / "reports/tiny.html").exists()
    assert "Report: reports/tiny.html" in printed
    assert submitted
    assert {job["State"] for job in submitted} == {"COMPLETED"}
    assert "has been submitted with SLURM jobid" not in printed
    assert "account" not in printed


def test_jobs_of_models_go_through_slurm_and_light_ones_stay_on_the_driver(green):
    rules = {rule_of(job) for job in green[2]}
    assert set(GPU_RULES) <= rules
    assert not rules & {"select_layers", "resolve_arm", "contrast_arms", "judge_claims", "draw_figure", "write_report"}


def wildcards(job: dict, config: dict) -> dict[str, str]:
    """The names in a job's comment, which the executor joins by underscores: of those that fit, the longest."""
    catalogues = {"model": "models", "arm": "arms", "profile": "profiles", "benchmark": "benchmarks"}
    names = {wildcard: list(config[catalogue]) for wildcard, catalogue in catalogues.items()}
    names["metric"] = config["select"]["arm_profiles"]
    found = {key: [name for name in some if f"_{name}_" in job["Comment"] + "_"] for key, some in names.items()}
    return {key: max(some, key=len) for key, some in found.items() if some}


def mib(text: str) -> float:
    return float(text[:-1]) * {"M": 1, "G": 1024}[text[-1]]


def minutes(text: str) -> float:
    """Of a time as SLURM prints it: days-hours:minutes:seconds, from the right."""
    days, _, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    hours, rest, seconds = [0] * (3 - len(parts)) + parts
    return 1440 * int(days or 0) + 60 * hours + rest + seconds / 60


def test_slurm_saw_the_resources_that_each_rule_asked_for(green):
    config = yaml.safe_load((green.checkout.folder / "results/tiny/config.yaml").read_text())
    asked = {}
    for job in green.submitted:
        rule, about = rule_of(job), wildcards(job, config)
        assert bool(re.search(r"gpu:1", job["tres-per-job"])) == (rule in GPU_RULES), job
        asked[job["JobID"]] = needs.ask_mib(rule, config, about), needs.ask_minutes(rule, config, about)
        assert (mib(job["MinMemory"]), minutes(job["TimeLimit"])) == asked[job["JobID"]], job
    assert len(set(asked.values())) > 3  # not one default for all


def test_never_more_gpu_jobs_at_once_than_gpus(green):
    mine = [job for job in green[2] if rule_of(job) in GPU_RULES]
    started = pd.to_datetime([job["StartTime"] for job in mine])
    ended = pd.to_datetime([job["EndTime"] for job in mine])
    at_once = [int(((started <= moment) & (moment < ended)).sum()) for moment in started]
    assert 1 <= max(at_once) <= sum(node.gpus for node in NODES)


def test_a_finished_study_submits_nothing(green, cluster):
    checkout, _, submitted = green
    printed = finish(start(checkout, cluster))
    assert len(jobs(checkout, cluster)) == len(submitted)
    assert "nothing" in printed.lower()


def test_the_driver_refuses_a_partition_that_is_not_there(green, cluster):
    checkout, _, submitted = green
    adapter = checkout.folder / "results/tiny/tiny/adapters/mid_block/seed0/adapter_model.safetensors"
    kept = adapter.rename(adapter.with_name("kept"))
    driver = start(checkout, cluster, COLOCATE_SLURM_PARTITION="nowhere")
    printed, _ = driver.communicate(timeout=120)
    kept.rename(adapter)
    assert driver.returncode != 0
    assert "there is no partition nowhere" in printed
    assert len(jobs(checkout, cluster)) == len(submitted)
