"""SLURM: what a run must know of a cluster before its first job, and the jobs that a dead driver left behind.

    python -m colocate.cluster jobs | wait | cancel      jobs of this folder's runs that are still in the queue
    python -m colocate.cluster check [--no-gpus]          what is known to hang or mislead, and what to set

Job names begin with `PREFIX` (profiles/slurm sets it), and a job's working directory is the folder of its run: so the
jobs of a folder are found even when the driver that submitted them has been killed. Light: the Snakefile imports this.
"""

import argparse
import os
import pwd
import re
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from colocate.errors import InputError

PREFIX = "colocate"
GO = "To run: snakemake --profile slurm (what it would do: snakemake --profile slurm --dry-run)"
LONGEST_SILENCE = 60  # seconds without a word while something is waited for
ENDED = set("COMPLETED FAILED CANCELLED TIMEOUT NODE_FAIL OUT_OF_MEMORY BOOT_FAIL DEADLINE PREEMPTED".split())
# squeue must remember an ended job for longer than the driver waits between two looks, at most 180 s. Unit: seconds.
SHORTEST_MEMORY = 180
# File systems as stat names them: of one machine alone; and of its disks, which it may export to others.
LOCAL_FILE_SYSTEMS = {"tmpfs", "ramfs", "overlayfs", "squashfs"}
DISK_FILE_SYSTEMS = {"ext2/ext3", "xfs", "btrfs", "zfs", "f2fs", "jfs", "reiserfs"}


@dataclass(frozen=True)
class SlurmJob:
    """A job in the queue: id, state (RUNNING, PENDING, ...), and what it does (`rule_train_arm_...`)."""

    number: str
    state: str
    what: str


def jobs(folder: str | Path) -> list[SlurmJob]:
    """Jobs of this user that runs in `folder` have submitted and that have not ended.

    InputError where squeue does not answer: then nobody knows whether such jobs live.
    """
    fields = ("JobID", "State", "Name", "WorkDir", "Comment")
    layout = ",".join(f"{field}:.1000|" for field in fields)
    rows = [line.split("|") for line in _ask("squeue", "--noheader", "--me", "--Format", layout).splitlines()]
    here, found = str(Path(folder).resolve()), []
    own = os.environ.get("SLURM_JOB_ID")  # a driver that is itself a SLURM job is no job of its own
    for row in rows:
        number, state, name, place, comment = (cell.strip() for cell in row[: len(fields)])
        if name.startswith(PREFIX) and state not in ENDED and number != own and os.path.realpath(place) == here:
            found.append(SlurmJob(number, state, comment))
    return found


def cancel(folder: str | Path, patience: float = 60) -> list[SlurmJob]:
    """Cancel the folder's jobs and return them once they have left the queue."""
    found = jobs(folder)
    if found:
        _ask("scancel", *(job.number for job in found))
        wait(folder, patience)
    return found


def wait(folder: str | Path, patience: float = float("inf"), every: float = 2, say=lambda words: None) -> None:
    """Return when none of the folder's jobs is in the queue. InputError after `patience` seconds.

    `say` is told how many are left, when that changes and after LONGEST_SILENCE.
    """
    deadline, told, last = time.monotonic() + patience, None, 0.0
    while left := jobs(folder):
        now = time.monotonic()
        if told != len(left) or now - last >= LONGEST_SILENCE:
            say(f"{time.strftime('%H:%M')}  {len(left)} left in the queue")
            told, last = len(left), now
        if now > deadline:
            raise InputError(f"SLURM: jobs {', '.join(job.number for job in left)} have not ended in {patience:.0f} s")
        time.sleep(every)


def orphans_message(left: list[SlurmJob]) -> str:
    """What to do about jobs whose driver is gone."""
    listed = "\n".join(f"  {job.number}  {job.state.lower()}  {job.what}" for job in left)
    return (
        f"SLURM still has {len(left)} jobs of an earlier run in this folder, whose driver is gone:\n{listed}\n"
        "Started now, the same work would run twice. Wait for them, or cancel them, then start again:\n"
        "  python -m colocate.cluster wait\n  python -m colocate.cluster cancel"
    )


def problems(
    folder: str | Path,
    status_command: str,
    partition: str | None = None,
    account: str | None = None,
    gpus: bool = False,
) -> list[str]:
    """What of this cluster is known to stop, hang or mislead a run, each with what to set; empty if nothing.

    status_command   the executor's (squeue or sacct)
    partition        that jobs will ask for; None: the cluster's default
    account          that jobs will ask for
    gpus             whether jobs will ask for GPUs
    """
    config = dict(re.findall(r"^(\w+)\s+= (.*?)\s*$", _ask("scontrol", "show", "config"), flags=re.MULTILINE))
    accounting = config.get("AccountingStorageType", "") not in ("", "(null)", "accounting_storage/none")
    found = []
    if status_command == "sacct":
        if not accounting:
            found.append("slurm-status-command: sacct needs accounting, which this cluster has not; set squeue")
        else:
            found.append("slurm-status-command: sacct waits for ever for a job that somebody cancels; set squeue")
    age = re.match(r"(\d+)", config.get("MinJobAge", "300"))
    if status_command == "squeue" and age and int(age.group()) < SHORTEST_MEMORY:
        found.append(
            f"MinJobAge is {age.group()} s: squeue forgets an ended job before the driver looks. Ask for MinJobAge="
            f"{SHORTEST_MEMORY} or more in slurm.conf"
            + ("; until then set slurm-status-command: sacct" if accounting else "")
        )
    found += _partition_problems(partition, gpus)
    enforced = config.get("AccountingStorageEnforce", "none")
    needed = any(word in enforced for word in ("associations", "limits", "qos"))
    return found + _account_problems(account, accounting, needed) + _storage_problems(Path(folder))


def doubts(folder: str | Path) -> list[str]:
    """What may stop a run on this cluster, where only its user can tell; empty if nothing."""
    return [
        f"{places}: on a disk of this machine ({kind}). Jobs need the same path: see that compute nodes have it, "
        f"for one by: srun ls {places.partition(' ')[0]}"
        for kind, places in _storage(Path(folder)).items()
        if kind in DISK_FILE_SYSTEMS
    ]


def keep_asking(executor: type) -> None:
    """Make an executor class of Snakemake ask again about the jobs whose state it could not learn.

    The SLURM executor (2.8.0) hands on each running job to its next look; where squeue does not answer, as while the
    controller restarts, it hands on none, forgets them all, and the run waits for ever. Here every job that was neither
    handed on nor reported as ended is handed on.
    """
    look, succeeded, failed = executor.check_active_jobs, executor.report_job_success, executor.report_job_error

    async def check_active_jobs(self, active_jobs):
        self.ended, handed_on = set(), set()
        async for job in look(self, active_jobs):
            handed_on.add(id(job))
            yield job
        for job in active_jobs:
            if id(job) not in handed_on | self.ended:
                yield job

    def noting(report):
        def report_and_note(self, job, *arguments, **options):
            getattr(self, "ended", set()).add(id(job))
            report(self, job, *arguments, **options)

        return report_and_note

    executor.check_active_jobs = check_active_jobs
    executor.report_job_success, executor.report_job_error = noting(succeeded), noting(failed)


def check_run(workflow) -> None:
    """Stop a run of Snakemake through SLURM before its first job if the cluster is known to hang or mislead it.

    Looks at what the jobs of this run ask for: partition, account, GPUs. Raises InputError with all that is wrong.
    """
    jobs_to_run = [job for job in workflow.dag.needrun_jobs() if not workflow.is_local(job.rule)]
    if jobs_to_run:
        from snakemake_executor_plugin_slurm import Executor

        keep_asking(Executor)
    names = ("slurm_partition", "slurm_account", "gpu")
    asked = {tuple(job.resources.get(name) or None for name in names) for job in jobs_to_run}
    status_command = workflow.executor_settings.status_command or "sacct"
    found = [problems(Path.cwd(), status_command, *one[:2], bool(one[2])) for one in sorted(asked, key=str)]
    distinct = list(dict.fromkeys(line for part in found for line in part))
    for line in doubts(Path.cwd()) if asked else []:
        print(f"Note: {line}", file=sys.stderr)
    if distinct:
        raise InputError("this run would hang or fail on this cluster:\n- " + "\n- ".join(distinct))


def _account_problems(account: str | None, accounting: bool, needed: bool) -> list[str]:
    """`accounting`: the cluster knows accounts; `needed`: and takes no job without one."""
    user = pwd.getpwuid(os.getuid()).pw_name
    hint = "set COLOCATE_SLURM_ACCOUNT, or slurm_account in profiles/slurm/config.yaml"
    if account is not None and accounting:
        known = set(_ask("sacctmgr", "-nP", "show", "associations", f"user={user}", "format=Account").split())
        if account not in known:
            yours = f"yours: {', '.join(sorted(known))}" if known else "you have none"
            return [f"there is no account {account} of yours on this cluster; {hint} ({yours})"]
        return []
    if account is not None or not needed:
        return []
    default = _ask("sacctmgr", "-nP", "show", "user", user, "format=DefaultAccount").strip()
    return [] if default else [f"this cluster takes no job without an account, and you have no default one: {hint}"]


def _partition_problems(partition: str | None, gpus: bool) -> list[str]:
    rows = [line.split("|") for line in _ask("sinfo", "--noheader", "-o", "%P|%a|%G").splitlines()]
    names = {name.rstrip("*") for name, *_ in rows}
    default = next((name.rstrip("*") for name, *_ in rows if name.endswith("*")), None)
    chosen = partition or default
    hint = "set COLOCATE_SLURM_PARTITION, or slurm_partition in profiles/slurm/config.yaml"
    if chosen is None:
        return [f"this cluster has no default partition; {hint} (there are {', '.join(sorted(names))})"]
    unknown = sorted(set(chosen.split(",")) - names)
    if unknown:
        return [f"there is no partition {', '.join(unknown)}; {hint} (there are {', '.join(sorted(names))})"]
    own = [(state, gres) for name, state, gres in rows if name.rstrip("*") in chosen.split(",")]
    if not any(state == "up" for state, _ in own):
        return [f"partition {chosen} is down; {hint}"]
    if gpus and not any("gpu" in gres for _, gres in own):
        return [f"partition {chosen} has no GPU, and jobs ask for GPUs; {hint}, or set device: cpu"]
    return []


def _storage_problems(folder: Path) -> list[str]:
    """Storage that compute nodes cannot see: the memory of this machine, or a container's layer."""
    return [
        f"{places}: on {kind}, which other machines cannot see; clone the project, make its environment, and keep "
        "data on storage that compute nodes share"
        for kind, places in _storage(folder).items()
        if kind in LOCAL_FILE_SYSTEMS
    ]


def _storage(folder: Path) -> dict[str, str]:
    """{file system: places on it} of project, environment and data mirror; {} where this machine is the cluster."""
    here = {"localhost", "127.0.0.1", socket.gethostname(), socket.gethostname().partition(".")[0]}
    if set(_ask("sinfo", "--noheader", "--Node", "--format=%o").split()) <= here:
        return {}
    folder, found = folder.resolve(), {}
    for place in (folder, Path(sys.prefix), Path(os.environ.get("COLOCATE_DATASETS") or folder)):
        if place == folder or folder not in place.parents:
            kind = _ask("stat", "--file-system", "--format=%T", str(place)).strip()
            found.setdefault(kind, {})[str(place)] = None
    return {kind: " and ".join(places) for kind, places in found.items()}


def _ask(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        raise InputError(f"{command[0]}: no such program on PATH; is this a login node of a SLURM cluster?") from None
    except subprocess.TimeoutExpired:
        raise InputError(f"{' '.join(command[:2])}: no answer in 60 s; is the SLURM controller up?") from None
    if done.returncode:
        raise InputError(f"{' '.join(command[:2])}: {done.stderr.strip() or 'failed without a word'}")
    return done.stdout


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m colocate.cluster", description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["jobs", "wait", "cancel", "check"])
    for name in ("partition", "account"):
        variable = f"COLOCATE_SLURM_{name.upper()}"
        said = f"check: the {name} that jobs will ask for (default: {variable}, then the cluster's)"
        parser.add_argument(f"--{name}", default=os.environ.get(variable) or None, help=said)
    parser.add_argument("--no-gpus", action="store_true", help="check: jobs will ask for no GPU")
    parser.add_argument("--folder", default=".", help="folder of the run (default: this one)")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.what == "check":
            found = problems(chosen.folder, "squeue", chosen.partition, chosen.account, not chosen.no_gpus)
            print("\n".join(found) or "nothing found that would stop or hang a run")
            for line in doubts(chosen.folder):
                print("Note:", line)
            print("Put this right, and look again: python -m colocate.cluster check" if found else GO)
            return bool(found)
        if chosen.what == "wait":
            wait(chosen.folder, say=lambda words: print(words, flush=True))
        affected = cancel(chosen.folder) if chosen.what == "cancel" else jobs(chosen.folder)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    for job in affected:
        print(job.number, job.state.lower(), job.what, sep="  ")
    if chosen.what == "jobs":
        wait_or_cancel = (
            "To wait for them: python -m colocate.cluster wait; to end them: python -m colocate.cluster cancel"
        )
        print(wait_or_cancel if affected else f"no jobs of this folder are in the queue\n{GO}")
    else:
        cancelled = f"{len(affected)} cancelled; " * (chosen.what == "cancel")
        print(f"{cancelled}none left in the queue; the same snakemake command goes on")
    return 0


if __name__ == "__main__":
    sys.exit(main())
