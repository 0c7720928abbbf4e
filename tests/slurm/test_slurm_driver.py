"""A driver that is killed and started again, on a cluster with accounting: no job runs twice, nothing is lost."""

import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pandas as pd
import pytest
from cluster import missing
from studies import ENDED, final, finish, jobs, running, start, study, until

ACCOUNTING = True
TARGET = ["statistics"]  # the figures and the report are made without SLURM
pytest_plugins = ["slurm_fixtures"]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing(ACCOUNTING)), reason=missing(ACCOUNTING) or "here")]


def command(checkout, cluster, *words: str) -> subprocess.CompletedProcess:
    """python -m colocate.cluster, in the folder of the run."""
    line = [sys.executable, "-m", "colocate.cluster", *words]
    return subprocess.run(
        line, cwd=checkout.folder, env=cluster.environment, capture_output=True, text=True, timeout=300
    )


def kill_when(checkout, cluster, driver, rule: str) -> None:
    """End the driver with SIGKILL once a job of the rule runs."""
    until(lambda: running(checkout, cluster, rule), f"{rule} runs", driver, 400)
    driver.kill()
    driver.communicate()


def unfinished(checkout, cluster) -> list[dict]:
    return [job for job in jobs(checkout, cluster) if job["State"] not in ENDED]


@pytest.fixture(scope="module")
def killed(cluster, tiny_llama, tmp_path_factory):
    """The study, its driver killed three times; what was said at each new start."""
    checkout, said = study(tmp_path_factory.mktemp("slurm") / "driver", tiny_llama), {}
    driver = start(checkout, cluster, *TARGET)
    until(lambda: jobs(checkout, cluster), "the first job is submitted", driver, 400)
    said["second"] = start(checkout, cluster, *TARGET).communicate(timeout=200)[0], driver.pid
    kill_when(checkout, cluster, driver, "profile_layers")

    left = unfinished(checkout, cluster)
    again = start(checkout, cluster, *TARGET)
    said["at once"] = again.communicate(timeout=200)[0], again.returncode, [job["JobID"] for job in left]
    said["wait"] = command(checkout, cluster, "wait")
    said["left after waiting"] = unfinished(checkout, cluster)

    kill_when(checkout, cluster, start(checkout, cluster, *TARGET), "train_arm")
    left = unfinished(checkout, cluster)
    said["cancel"] = command(checkout, cluster, "cancel"), [job["JobID"] for job in left]
    said["left after cancelling"] = unfinished(checkout, cluster)

    kill_when(checkout, cluster, start(checkout, cluster, *TARGET), "evaluate_arm")
    until(lambda: not unfinished(checkout, cluster), "the jobs of the dead driver have ended", None, 300)
    said["end"] = finish(start(checkout, cluster, *TARGET))
    return checkout, said, jobs(checkout, cluster)


def test_a_second_run_beside_a_living_one_is_told_who_holds_the_folder(killed):
    printed, pid = killed[1]["second"]
    assert f"process {pid} of root on " in printed
    assert f"kill -INT {pid}" in printed


def test_started_again_at_once_the_run_names_the_jobs_and_the_commands(killed):
    printed, status, numbers = killed[1]["at once"]
    assert status != 0
    assert numbers
    assert all(f"  {number}  " in printed for number in numbers)
    assert "python -m colocate.cluster wait" in printed
    assert "python -m colocate.cluster cancel" in printed


def test_one_command_waits_for_the_jobs_or_cancels_them(killed, cluster):
    _, said, submitted = killed
    assert said["wait"].returncode == 0, said["wait"]
    assert "none left in the queue" in said["wait"].stdout
    assert said["left after waiting"] == []
    cancel, numbers = said["cancel"]
    assert cancel.returncode == 0, cancel
    assert f"{len(numbers)} cancelled; none left in the queue" in cancel.stdout
    assert said["left after cancelling"] == []
    states = {job["JobID"]: job["State"] for job in submitted}
    assert {states[number] for number in numbers} == {"CANCELLED"}


def test_started_after_its_jobs_ended_the_run_goes_on(killed):
    assert "An earlier run in this folder was killed; going on where it ended." in killed[1]["end"]
    assert "Finished: " in killed[1]["end"]


def test_no_job_ran_twice(killed):
    submitted = killed[2]
    completed = Counter(job["Comment"] for job in submitted if job["State"] == "COMPLETED")
    assert set(completed.values()) == {1}, completed
    for comment in completed:
        attempts = sorted(
            (pd.Timestamp(job["StartTime"]), pd.Timestamp(job["EndTime"]))
            for job in submitted
            if job["Comment"] == comment and job["StartTime"] != "N/A"
        )
        assert all(ended <= started for (_, ended), (started, _) in pairwise(attempts)), attempts


def test_the_results_are_those_of_an_undisturbed_run(killed, reference):
    assert final(killed[0]) == final(reference.checkout)


def test_accounting_knows_the_same_ends(killed, cluster):
    lines = cluster.run("sacct", "--allusers", "-X", "-n", "-P", "-o", "JobID,State").splitlines()
    accounted = {number: state.split()[0] for number, state in (line.split("|") for line in lines)}
    assert accounted == {job["JobID"]: job["State"] for job in killed[2]}


def test_an_account_that_is_not_there_is_refused_before_any_job(killed, cluster):
    checkout, _, submitted = killed
    folder = checkout.folder / "results/tiny/tiny/adapters/mid_block/seed0"
    kept = (folder / "adapter_model.safetensors").rename(folder / "kept")
    driver = start(checkout, cluster, *TARGET, COLOCATE_SLURM_ACCOUNT="chemistry")
    printed, _ = driver.communicate(timeout=200)
    kept.rename(folder / "adapter_model.safetensors")
    assert driver.returncode != 0
    assert "there is no account chemistry of yours on this cluster" in printed
    assert len(jobs(checkout, cluster)) == len(submitted)
