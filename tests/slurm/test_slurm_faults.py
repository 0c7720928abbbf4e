"""Faults of jobs, nodes and the controller, all in one run on a real cluster: its results are those of a quiet run."""

import os
import re
import signal
import time
from collections import defaultdict
from pathlib import Path

import pandas as pd
import pytest
from cluster import missing
from studies import (
    alive,
    ancestors,
    final,
    finish,
    hold_at_checkpoint,
    jobs,
    rule_of,
    running,
    script,
    start,
    study,
    until,
)

pytest_plugins = ["slurm_fixtures"]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing() or "SLURM is here")]
OUTAGE = 20.0  # seconds without a controller


def disturb_first_jobs(checkout, cluster, driver) -> dict[str, str]:
    """One job's script is killed, one job is cancelled, one is put back into the queue; their numbers in SLURM."""
    done = {}

    def kill(job):
        pid = script(checkout, "profile_layers.py", "sensitivity_all")
        if pid:
            os.kill(pid, signal.SIGKILL)
        return pid

    def cancel(job):
        cluster.run("scancel", job["JobID"])
        return True

    def requeue(job):
        if not script(checkout, "evaluate_arm.py", "/base/"):
            return False
        cluster.run("scontrol", "update", f"JobId={job['JobID']}", "Requeue=1")
        cluster.run("scontrol", "requeue", job["JobID"])
        return True

    faults = {
        "fails": (("profile_layers", "sensitivity_all"), kill),
        "cancelled": (("profile_layers", "rope_output"), cancel),
        "requeued": (("evaluate_arm", "base"), requeue),
    }

    def all_done():
        for name, (words, fault) in faults.items():
            job = running(checkout, cluster, *words) if name not in done else None
            if job and fault(job):
                done[name] = job["JobID"]
        return len(done) == len(faults)

    until(all_done, "the first jobs are disturbed", driver, 400)
    return done


def bring_forward(cluster, number: str) -> bool:
    """SLURM waits two minutes before it starts a requeued job again; not here."""
    state = next(job["State"] for job in cluster.jobs() if job["JobID"] == number)
    if state == "PENDING":
        cluster.run("scontrol", "update", f"JobId={number}", "StartTime=now")
    return state == "PENDING"


@pytest.fixture(scope="module")
def disturbed(cluster, tiny_llama, tmp_path_factory):
    """The run: what was done to which job, what the driver printed, and files at the moments that matter."""
    checkout = study(tmp_path_factory.mktemp("slurm") / "faults", tiny_llama)
    driver = start(checkout, cluster, "statistics")  # the figures and the report are made without SLURM
    old = None
    try:
        seen = {"checkout": checkout, "numbers": disturb_first_jobs(checkout, cluster, driver)}
        until(lambda: bring_forward(cluster, seen["numbers"]["requeued"]), "the job is queued again", driver, 60)

        held = hold_at_checkpoint(checkout, ["colocated", "mid_block"], driver)
        trainings = {arm: running(checkout, cluster, "train_arm", arm) for arm in held}
        cluster.wait_saved()
        cluster.kill("slurmctld")
        time.sleep(OUTAGE)
        cluster.start_controller()
        cluster.wait_ready()

        seen["numbers"] |= {"late": trainings["colocated"]["JobID"], "lost": trainings["mid_block"]["JobID"]}
        cluster.run("scontrol", "update", f"JobId={seen['numbers']['late']}", "EndTime=now+1")
        node, old = trainings["mid_block"]["NodeList"], held["mid_block"]
        cluster.kill(f"slurmd.{node}")  # the job and its processes live on, stopped
        cluster.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")

        def retrained():
            mine = [job for job in jobs(checkout, cluster) if "train_arm" in job["Comment"]]
            return [job for job in mine if "mid_block" in job["Comment"] and job["State"] == "COMPLETED"]

        until(retrained, "mid_block has been trained by a second job", driver, 400)
        folder = checkout.folder / "results/tiny/tiny/adapters/mid_block/seed0"
        seen["before"] = {path.name: path.read_bytes() for path in folder.iterdir()}
        around = ancestors(old)
        assert alive(old)
        # The newer attempt has removed this log, and srun has let go of the terminal: only the process still has it.
        with Path(f"/proc/{old}/fd/2").open(errors="replace") as log:
            os.kill(old, signal.SIGCONT)
            until(lambda: not any(map(alive, around)), "the old process has ended, and all around it", None, 120)
            seen["log"] = log.read()
        seen["after"] = {path.name: path.read_bytes() for path in folder.iterdir()}
        seen["printed"] = finish(driver)
        seen["jobs"] = jobs(checkout, cluster)
        seen["restarts"] = {job["JobID"]: int(job["RestartCnt"]) for job in cluster.jobs("JobID,RestartCnt")}
        return seen
    finally:
        if old is not None and alive(old):
            os.kill(old, signal.SIGKILL)
        if driver.poll() is None:
            driver.kill()
            driver.communicate()


def state(disturbed: dict, fault: str) -> str:
    return next(job["State"] for job in disturbed["jobs"] if job["JobID"] == disturbed["numbers"][fault])


def test_the_results_are_those_of_an_undisturbed_run(disturbed, reference):
    assert final(disturbed["checkout"]) == final(reference.checkout)


def test_slurm_saw_each_fault(disturbed):
    found = {fault: state(disturbed, fault) for fault in ("fails", "cancelled", "requeued", "late", "lost")}
    ends = ("FAILED", "CANCELLED", "COMPLETED", "TIMEOUT", "NODE_FAIL")
    assert list(found.values()) == list(ends)
    assert disturbed["restarts"][disturbed["numbers"]["requeued"]] == 1


def test_each_job_was_repeated_as_often_as_it_had_failed_and_no_more(disturbed):
    attempts = defaultdict(list)
    for job in disturbed["jobs"]:
        attempts[job["Comment"]].append(job["State"])
    assert {states[-1] for states in attempts.values()} == {"COMPLETED"}, dict(attempts)
    assert sorted(len(states) for states in attempts.values() if len(states) > 1) == [2, 2, 2, 2]
    assert all(states.count("COMPLETED") == 1 for states in attempts.values())


def test_the_driver_says_of_each_fault_what_it_was(disturbed):
    said = disturbed["printed"]
    for fault, why in {
        "fails": "its process was ended by SIGKILL",
        "cancelled": "it was cancelled",
        "late": "it reached its time limit",
        "lost": "its node failed",
    }.items():
        block = re.search(
            rf"FAILED .*attempt 1(?:(?!FAILED).)*?job   {disturbed['numbers'][fault]} in SLURM", said, re.S
        )
        assert block, f"{fault}\n{said}"
        assert why in block.group(), fault
    assert "4 failed attempts repeated with success" in said
    assert "has been submitted with SLURM jobid" not in said


@pytest.mark.parametrize("arm", ["colocated", "mid_block"])
def test_an_interrupted_training_goes_on_from_its_checkpoint(disturbed, arm):
    folder = disturbed["checkout"].folder
    log = (folder / f"logs/tiny/train_arm/tiny/{arm}/seed0.log").read_text()
    steps = pd.read_csv(folder / f"results/tiny/tiny/adapters/{arm}/seed0/training_log.csv")["step"].max()
    assert 1 <= int(re.search(r"going on after step (\d+), from scratch/", log).group(1)) < steps


def test_the_old_process_of_a_lost_node_changes_nothing(disturbed):
    assert "adapter_model.safetensors" in disturbed["before"]
    assert disturbed["after"] == disturbed["before"]
    assert "a newer attempt has delivered; this one ends here" in disturbed["log"]


def test_nothing_is_left_to_do(disturbed, cluster):
    assert "nothing" in finish(start(disturbed["checkout"], cluster, "statistics", "--dry-run")).lower()
    assert {rule_of(job) for job in disturbed["jobs"]} >= {"train_arm", "evaluate_arm"}
