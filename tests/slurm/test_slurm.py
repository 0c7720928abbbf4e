"""`snakemake --profile slurm` on a real SLURM of one machine, with stand-in GPUs (tests/slurm/cluster.py).

The study is config/ci.yaml on a tiny random model: every job is real, and takes seconds. Its jobs compute on the CPU
and ask for a GPU all the same, so that SLURM has something to share out.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cluster import NODES, Cluster, missing  # noqa: E402

from conftest import Checkout  # noqa: E402
from tiny import GEOMETRY  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing() or "SLURM is here")]
DRIVER = Path(__file__).parent / "fast_snakemake.py"
GPU_RULES = ("describe_model", "profile_layers", "train_arm", "evaluate_arm", "profile_arm")


@pytest.fixture(scope="module")
def cluster():
    with tempfile.TemporaryDirectory(prefix="slurm", dir="/tmp") as folder, Cluster(Path(folder)) as running:
        yield running


def study(folder: Path, model: Path) -> Checkout:
    """A checkout of config/ci.yaml on the tiny model, two arms and one benchmark."""
    checkout = Checkout(folder)
    (checkout.folder / "slurm").symlink_to("profiles/slurm")
    checkout.configfiles.append("config/ci.yaml")
    checkout.overlay(
        "tiny",
        {
            "study": "tiny",
            "select": {"models": ["tiny"], "arms": ["base", "colocated", "mid_block"], "benchmarks": ["mini_arc"]},
            "models": {"tiny": {"source": f"path:{model}", "geometry": GEOMETRY, "dtype": "float32"}},
            "layer_sets": {"sensitive": {"top": 1}, "positional": {"top": 1}, "middle": {"segments": "01110"}},
            "training": {"max_length": 1024},
            "statistics": {"primary_against": ["mid_block"]},
            "gpus": 1,
        },
    )
    return checkout


def start(checkout: Checkout, cluster: Cluster, *options: str) -> subprocess.Popen:
    """The driver, as `snakemake --profile slurm` on a login node; both streams are in its stdout."""
    command = [sys.executable, str(DRIVER), "--profile", "slurm", "--config", "device=cpu"]
    command += ["--configfile", *checkout.configfiles, *options]
    environment = {"COLOCATE_SLURM_PARTITION": "all"} | cluster.environment | {"NO_COLOR": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    return subprocess.Popen(
        command, cwd=checkout.folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finish(driver: subprocess.Popen, seconds: float = 600) -> str:
    printed, _ = driver.communicate(timeout=seconds)
    assert driver.returncode == 0, printed[-6000:]
    return printed


def statistics(checkout: Checkout) -> dict[str, bytes]:
    """What an undisturbed run and a disturbed one must agree on, to the byte."""
    folder = checkout.folder / "results/tiny/tiny"
    files = [
        *folder.glob("statistics/*.csv"),
        *folder.glob("statistics/*.json"),
        *folder.glob("adapters/*/*/manifest.json"),
    ]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if not path.name.endswith(".run.json")}


def rule_of(job: dict) -> str:
    return re.match(r"rule_(.*?)_wildcards", job["Comment"] + "_wildcards").group(1)


@pytest.fixture(scope="module")
def green(cluster, tiny_llama, tmp_path_factory) -> tuple[Checkout, str, list[dict]]:
    """An undisturbed run, what it printed, and the jobs that SLURM saw."""
    checkout = study(tmp_path_factory.mktemp("slurm") / "green", tiny_llama)
    printed = finish(start(checkout, cluster))
    fields = "JobID,Name,State,Comment,NodeList,MinMemory,TimeLimit,tres-per-job,StartTime,EndTime,WorkDir"
    return checkout, printed, [job for job in cluster.jobs(fields) if job["WorkDir"] == str(checkout.folder)]


def test_a_study_runs_green_to_its_report(green):
    checkout, printed, jobs = green
    assert (checkout.folder / "reports/tiny.html").exists()
    assert "Report: reports/tiny.html" in printed
    assert jobs
    assert {job["State"] for job in jobs} == {"COMPLETED"}


def test_jobs_of_models_go_through_slurm_and_light_ones_stay_on_the_driver(green):
    rules = {rule_of(job) for job in green[2]}
    assert set(GPU_RULES) <= rules
    assert not rules & {"select_layers", "resolve_arm", "contrast_arms", "judge_claims", "draw_figure", "write_report"}


def test_slurm_saw_the_resources_that_each_rule_asked_for(green):
    for job in green[2]:
        gpus = re.search(r"gpu:1", job["tres-per-job"])
        assert bool(gpus) == (rule_of(job) in GPU_RULES), job
        assert int(job["MinMemory"].rstrip("MG")) >= 500, job
        assert job["TimeLimit"] != "10:00" or rule_of(job) == "describe_model", job


def test_never_more_gpu_jobs_at_once_than_gpus(green):
    jobs = [job for job in green[2] if rule_of(job) in GPU_RULES]
    started = pd.to_datetime([job["StartTime"] for job in jobs])
    ended = pd.to_datetime([job["EndTime"] for job in jobs])
    at_once = [int(((started <= moment) & (moment < ended)).sum()) for moment in started]
    assert 1 <= max(at_once) <= sum(node.gpus for node in NODES)


def test_a_finished_study_submits_nothing(green, cluster):
    checkout, _, jobs = green
    printed = finish(start(checkout, cluster))
    assert len([job for job in cluster.jobs("JobID,WorkDir") if job["WorkDir"] == str(checkout.folder)]) == len(jobs)
    assert "nothing" in printed.lower()


def test_the_driver_refuses_a_partition_that_is_not_there(green, cluster):
    checkout, _, _ = green
    (checkout.folder / "reports/tiny.html").unlink()
    adapter = checkout.folder / "results/tiny/tiny/adapters/mid_block/seed0/adapter_model.safetensors"
    kept = adapter.read_bytes()
    adapter.unlink()
    os.environ["COLOCATE_SLURM_PARTITION"] = "nowhere"
    try:
        driver = start(checkout, cluster)
        printed, _ = driver.communicate(timeout=120)
    finally:
        del os.environ["COLOCATE_SLURM_PARTITION"]
        adapter.write_bytes(kept)
    assert driver.returncode != 0
    assert "there is no partition nowhere" in printed
