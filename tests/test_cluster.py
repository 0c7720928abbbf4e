"""What a run asks of a cluster, against programs that answer as SLURM's do; tests/slurm has the real ones."""

import asyncio
import errno
import json
import os
import pwd
import re
import socket
import stat
import subprocess
import sys

import pytest

from colocate import cluster, driver
from colocate.errors import InputError

CONFIG = "AccountingStorageType   = accounting_storage/none\nMinJobAge               = 300 sec\n"
USER = pwd.getpwuid(os.getuid()).pw_name
PARTITIONS = "all*|up|gpu:2\ncpu|up|(null)\nold|down|gpu:1\n"


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Write a program that prints a text; squeue, scontrol and sinfo are there from the start."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def program(name: str, prints: str, status: int = 0) -> None:
        (folder / f"{name}.txt").write_text(prints)
        path = folder / name
        path.write_text(f'#!/bin/sh\necho "$0 $*" >> {tmp_path}/calls\ncat {folder}/{name}.txt\nexit {status}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    program("squeue", "")
    program("scontrol", CONFIG)
    program("sinfo", PARTITIONS)
    program("stat", "nfs\n")
    return program


def queue(folder, *rows) -> str:
    """Lines of squeue: number, state, name, comment of each job."""
    return "".join(f"{number}|{state}|{name}|{folder}|{what}|\n" for number, state, name, what in rows)


def test_jobs_are_those_of_this_folder_that_have_not_ended(slurm, tmp_path):
    mine = queue(
        tmp_path,
        ("11", "RUNNING", "colocate_a", "rule_train_arm"),
        ("12", "PENDING", "colocate_a", "rule_evaluate_arm"),
        ("13", "COMPLETED", "colocate_a", "rule_train_arm"),
        ("14", "RUNNING", "other", "not ours"),
    )
    slurm("squeue", mine + queue("/elsewhere", ("15", "RUNNING", "colocate_b", "another folder's")))
    assert [job.number for job in cluster.jobs(tmp_path)] == ["11", "12"]
    message = cluster.orphans_message(cluster.jobs(tmp_path))
    assert "11  running  rule_train_arm" in message
    assert "python -m colocate.cluster cancel" in message


def test_a_queue_that_does_not_answer_is_an_error_and_not_an_empty_queue(slurm, tmp_path):
    slurm("squeue", "", status=1)
    with pytest.raises(InputError, match="squeue --noheader"):
        cluster.jobs(tmp_path)


def test_cancel_gives_up_with_the_numbers_of_what_is_left(slurm, tmp_path):
    slurm("squeue", queue(tmp_path, ("11", "RUNNING", "colocate_a", "rule_train_arm")))
    slurm("scancel", "")
    with pytest.raises(InputError, match="jobs 11 have not ended in 0 s"):
        cluster.cancel(tmp_path, patience=0)
    assert "scancel 11" in (tmp_path / "calls").read_text()


def test_waiting_says_what_is_left_when_that_changes_and_every_minute(monkeypatch):
    """A clock that every look moves on by 25 seconds: three jobs for two minutes, then one, then none."""
    clock, said = [0.0], []
    monkeypatch.setattr(cluster.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(cluster.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + 25))
    monkeypatch.setattr(cluster, "jobs", lambda folder: range(3 if clock[0] < 120 else clock[0] < 140))
    cluster.wait(".", say=said.append)
    assert [line[7:] for line in said] == ["3 left in the queue", "3 left in the queue", "1 left in the queue"]


def test_the_command_line_lists_and_cancels(slurm, tmp_path, capsys):
    assert cluster.main(["jobs", "--folder", str(tmp_path)]) == 0
    assert cluster.main(["cancel", "--folder", str(tmp_path)]) == 0
    assert "0 cancelled; none left in the queue" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("config", "arguments", "found"),
    [
        (CONFIG, {}, None),
        (CONFIG.replace("300", "60"), {}, "MinJobAge is 60 s"),
        (CONFIG, {"status_command": "sacct"}, "sacct needs accounting, which this cluster has not; set squeue"),
        (CONFIG.replace("none", "slurmdbd"), {"status_command": "sacct"}, "waits for ever for a job"),
        (CONFIG, {"partition": "gpus"}, "there is no partition gpus; set COLOCATE_SLURM_PARTITION"),
        (CONFIG, {"partition": "old"}, "partition old is down"),
        (CONFIG, {"partition": "cpu", "gpus": True}, "partition cpu has no GPU"),
        (CONFIG, {"partition": "all", "gpus": True}, None),
    ],
)
def test_what_is_known_to_hang_or_mislead_is_named_with_what_to_set(slurm, tmp_path, config, arguments, found):
    slurm("scontrol", config)
    problems = cluster.problems(tmp_path, **({"status_command": "squeue"} | arguments))
    assert len(problems) == (found is not None), problems
    if found:
        assert found in problems[0]


def test_a_cluster_without_a_default_partition_or_account(slurm, tmp_path):
    slurm("sinfo", PARTITIONS.replace("*", ""))
    slurm("scontrol", CONFIG + "AccountingStorageEnforce = associations\n")
    slurm("sacctmgr", "\n")
    problems = cluster.problems(tmp_path, "squeue")
    assert any("no default partition" in line and "all, cpu, old" in line for line in problems)
    assert any("COLOCATE_SLURM_ACCOUNT" in line for line in problems)


@pytest.mark.parametrize(
    ("accounting", "known", "found"),
    [
        ("slurmdbd", "physics\nbiology\n", "no account chemistry of yours on this cluster; set COLOCATE_SLURM_ACCOUNT"),
        ("slurmdbd", "chemistry\n", None),
        ("none", "", None),
    ],
)
def test_an_account_that_is_not_there_is_named_with_those_that_are(slurm, tmp_path, accounting, known, found):
    slurm("scontrol", CONFIG.replace("none", accounting))
    slurm("sacctmgr", known)
    problems = cluster.problems(tmp_path, "squeue", account="chemistry")
    assert [found in line and "biology, physics" in line for line in problems] == [True] * (found is not None)


def test_jobs_whose_state_could_not_be_learnt_are_asked_for_again():
    class Executor:
        """Forgets its jobs where squeue does not answer, as the SLURM executor does."""

        answers, reported = {}, []

        async def check_active_jobs(self, active_jobs):
            for job in active_jobs if self.answers else []:
                state = self.answers[job]
                if state == "RUNNING":
                    yield job
                elif state == "COMPLETED":
                    self.report_job_success(job)
                else:
                    self.report_job_error(job, msg=state)

        def report_job_success(self, job):
            self.reported.append(job)

        def report_job_error(self, job, msg=None):
            self.reported.append(f"{job} {msg}")

    async def look(executor):
        return [job async for job in executor.check_active_jobs(["a", "b", "c"])]

    assert asyncio.run(look(Executor())) == []
    cluster.keep_asking(Executor)
    executor = Executor()
    assert asyncio.run(look(executor)) == ["a", "b", "c"]
    executor.answers = {"a": "RUNNING", "b": "COMPLETED", "c": "TIMEOUT"}
    assert asyncio.run(look(executor)) == ["a"]
    assert executor.reported == ["b", "c TIMEOUT"]


@pytest.mark.parametrize(
    ("kind", "nodes", "found"),
    [
        ("tmpfs", "node1\nnode2\n", "problem"),
        ("xfs", "node1\nnode2\n", "doubt"),
        ("ext2/ext3", "node1\n", "doubt"),
        ("nfs", "node1\n", "nothing"),
        ("lustre", "node1\n", "nothing"),
        ("tmpfs", "127.0.0.1\nlocalhost\n", "nothing"),
        ("xfs", "127.0.0.1\nlocalhost\n", "nothing"),
    ],
)
def test_storage_that_other_machines_cannot_see_is_named(slurm, tmp_path, monkeypatch, kind, nodes, found):
    """Project, environment and data, each by its path."""
    monkeypatch.setenv("COLOCATE_DATASETS", "/mirror/of/data")
    slurm("stat", f"{kind}\n")
    slurm("sinfo", nodes)
    problems, doubts = cluster._storage_problems(tmp_path), cluster.doubts(tmp_path)
    assert (len(problems), len(doubts)) == (found == "problem", found == "doubt")
    for line in problems + doubts:
        assert line.startswith(f"{tmp_path} and {sys.prefix} and /mirror/of/data: on ")
        assert kind in line


def test_an_environment_inside_the_project_is_not_named_beside_it(slurm, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    slurm("stat", "tmpfs\n")
    slurm("sinfo", "node1\n")
    (line,) = cluster._storage_problems(tmp_path)
    assert line.startswith(f"{tmp_path}: on tmpfs")


@pytest.mark.parametrize(
    ("variables", "options", "found"),
    [
        ({}, "", None),
        ({"PARTITION": "gpus"}, "", "there is no partition gpus"),
        ({"PARTITION": "cpu"}, "", "partition cpu has no GPU"),
        ({"PARTITION": "cpu"}, "--no-gpus", None),
        ({"PARTITION": "cpu"}, "--partition all", None),
        ({"ACCOUNT": "chemistry"}, "", "there is no account chemistry of yours"),
        ({"ACCOUNT": "physics"}, "", None),
        ({"ACCOUNT": "physics"}, "--account chemistry", "there is no account chemistry of yours"),
    ],
)
def test_check_looks_at_what_jobs_will_ask_for(slurm, tmp_path, monkeypatch, capsys, variables, options, found):
    for name in ("PARTITION", "ACCOUNT"):
        monkeypatch.setenv(f"COLOCATE_SLURM_{name}", variables.get(name, ""))
    slurm("scontrol", CONFIG.replace("none", "slurmdbd"))
    slurm("sacctmgr", "physics\n")
    assert cluster.main(["check", "--folder", str(tmp_path), *options.split()]) == (found is not None)
    assert (found or "nothing found that would stop or hang a run") in capsys.readouterr().out


def test_check_notes_what_only_its_user_can_tell(slurm, tmp_path, capsys):
    slurm("stat", "xfs\n")
    assert cluster.main(["check", "--folder", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert f"Note: {tmp_path} and {sys.prefix}: on a disk of this machine (xfs)" in said
    assert f"srun ls {tmp_path}\n" in said


def test_without_slurm_the_error_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="squeue: no such program on PATH"):
        cluster.jobs(tmp_path)


def test_a_driver_that_is_a_slurm_job_is_no_job_of_its_own(slurm, tmp_path, monkeypatch):
    slurm(
        "squeue", queue(tmp_path, ("11", "RUNNING", "colocate_driver", ""), ("12", "PENDING", "colocate_a", "rule_x"))
    )
    monkeypatch.setenv("SLURM_JOB_ID", "11")
    assert [job.number for job in cluster.jobs(tmp_path)] == ["12"]


HOLD = """import sys, time
from colocate import driver
driver.claim(sys.argv[1])
print("held", flush=True)
time.sleep(60)
"""


def holder(folder) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


@pytest.fixture(autouse=True)
def free():
    yield
    for file in driver._held:
        file.close()
    driver._held.clear()


def test_the_second_run_in_a_folder_says_who_holds_it(tmp_path):
    first = holder(tmp_path)
    try:
        with pytest.raises(InputError, match=rf"another run holds .*process {first.pid} of {USER} on ") as caught:
            driver.claim(tmp_path)
        assert re.search(r"since 20\d\d-\d\d-\d\d \d\d:\d\d \(-c ", str(caught.value))
        assert str(caught.value).endswith(f"stop it with: kill -INT {first.pid}")
    finally:
        first.kill()
        first.wait()
    driver.claim(tmp_path)


@pytest.mark.parametrize(
    ("changes", "stop"),
    [
        ({"host": "login2"}, "ssh login2 kill -INT 17"),
        ({"host": "node7", "job": "345"}, "scancel --batch --signal=INT 345"),
        ({"pid": 999_999_999}, "kill -INT 999999999"),  # the lock of a dead process is not held: see below
    ],
)
def test_how_to_stop_a_run_elsewhere(tmp_path, changes, stop):
    record = {
        "pid": 17,
        "host": socket.gethostname(),
        "user": "ada",
        "since": "2026-01-02 03:04",
        "command": "snakemake",
    }
    (tmp_path / "lock").write_text(json.dumps(record | changes))
    with (tmp_path / "lock").open() as file:
        message = driver._holder(file, tmp_path)
    assert message.endswith(f"stop it with: {stop}")
    assert ("in SLURM job 345, since" in message) == ("job" in changes)
    assert "of ada on" in message


def test_a_lock_that_has_not_been_written_yet(tmp_path):
    (tmp_path / "lock").write_text("")
    with (tmp_path / "lock").open() as file:
        assert "a process that has just started" in driver._holder(file, tmp_path)


def test_jobs_of_a_killed_driver_are_found_even_after_its_lock_was_taken_away_by_hand(slurm, tmp_path):
    (tmp_path / ".snakemake").mkdir()
    (tmp_path / ".snakemake" / driver.LOCK).write_text('{"slurm": true}')
    slurm("squeue", queue(tmp_path, ("11", "RUNNING", "colocate_a", "rule_train_arm")))
    with pytest.raises(InputError, match="python -m colocate.cluster cancel"):
        driver.claim(tmp_path)
    slurm("squeue", "")
    driver.claim(tmp_path)


def test_a_file_system_that_cannot_lock_is_named_before_jobs_fail_on_it(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(driver.fcntl, "flock", refuse)
    with pytest.raises(InputError, match=r"colocate.lock: files cannot be locked here \(Function not .*option flock"):
        driver.claim(tmp_path)


def test_the_locks_of_a_killed_run_are_taken_away(tmp_path):
    first = holder(tmp_path)
    locks = tmp_path / ".snakemake/locks"
    locks.mkdir()
    (locks / "0.output.lock").write_text("results/x\n")
    first.kill()
    first.wait()
    said = []
    driver.claim(tmp_path, said.append)
    assert not list(locks.iterdir())
    assert "killed" in said[0]


def test_jobs_of_a_killed_driver_stop_the_next_run_and_keep_its_locks(slurm, tmp_path):
    locks = tmp_path / ".snakemake/locks"
    locks.mkdir(parents=True)
    (locks / "0.output.lock").write_text("results/x\n")
    (tmp_path / ".snakemake" / driver.LOCK).write_text('{"slurm": true}')
    slurm("squeue", queue(tmp_path, ("11", "RUNNING", "colocate_a", "rule_train_arm")))
    with pytest.raises(InputError, match="SLURM still has 1 jobs of an earlier run"):
        driver.claim(tmp_path)
    assert list(locks.iterdir())


@pytest.mark.parametrize(
    ("line", "runs"),
    [
        ("--cores 2", True),
        ("--profile slurm --config device=cpu", True),
        ("-n", False),
        ("-np all", False),
        ("--dry-run --cores 1", False),
        ("--unlock", False),
        ("--lint", False),
        ("-j 4 --keep-going", True),
        ("--cores 2 --nolock", True),
    ],
)
def test_only_runs_that_start_jobs_hold_the_folder(line, runs):
    assert driver.runs_jobs(line.split()) is runs
