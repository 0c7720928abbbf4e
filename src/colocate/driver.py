"""One run at a time in a folder: who holds it, and what is left of a run whose driver died.

The driver (the `snakemake` that a person started) holds an flock on `.snakemake/colocate.lock` as long as it lives;
the kernel lets go of it whatever ends the process. So a lock of Snakemake's own that lies in `.snakemake/locks` while
nobody holds the flock is stale and is taken away, unless SLURM still runs jobs of the dead driver: then the same work
would run twice, and the new run stops and says so (colocate.cluster), whether or not Snakemake's lock was taken away
by hand. Light: the Snakefile imports this.
"""

import contextlib
import fcntl
import json
import os
import pwd
import shlex
import shutil
import socket
import sys
import time
from pathlib import Path

from colocate import cluster
from colocate.errors import InputError

LOCK = "colocate.lock"
# Options of snakemake with which no job runs, and nothing needs to be held.
READ_ONLY = set(
    "-n --dry-run --dryrun --lint -l --unlock --summary -S --detailed-summary -D --dag --rulegraph --filegraph "
    "--list-rules --list --report --version -v --cleanup-metadata --delete-all-output".split()
)
_held = []


def runs_jobs(arguments: list[str]) -> bool:
    """Whether a command line of snakemake starts jobs, as far as its options tell."""
    short = [word for word in arguments if word.startswith("-") and not word.startswith("--")]
    return not READ_ONLY & {word.split("=")[0] for word in arguments} and not any("n" in word[1:3] for word in short)


def claim(folder: str | Path = ".", say=print) -> None:
    """Hold `folder` for this process, once. InputError if another run holds it, or its jobs are still in the queue.

    Takes away Snakemake's stale locks. InputError too where the file system cannot lock: jobs need that as well.
    """
    if _held:
        return
    state = Path(folder) / ".snakemake"
    state.mkdir(exist_ok=True)
    file = (state / LOCK).open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(_holder(file, Path(folder).resolve())) from None
    except OSError as error:
        file.close()
        raise InputError(
            f"{state / LOCK}: files cannot be locked here ({error.strerror}), so two runs, or an old and a new attempt "
            "at a job, could not be kept apart. Have this file system mounted with locks (Lustre: the option flock), "
            "or clone the project on another"
        ) from None
    stale = sorted((state / "locks").glob("*")) if (state / "locks").is_dir() else []
    # Where the last run ended well its jobs have ended too; squeue is asked all the same, if there is one.
    asks = _read(file).get("slurm") and (stale or shutil.which("squeue"))
    left = cluster.jobs(folder) if asks else []
    if left:
        file.close()
        raise InputError(cluster.orphans_message(left))
    if stale:
        for lock in stale:
            with contextlib.suppress(FileNotFoundError):
                lock.unlink()
        say("An earlier run in this folder was killed; going on where it ended.")
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    record = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "user": pwd.getpwuid(os.getuid()).pw_name,
        "since": time.strftime("%Y-%m-%d %H:%M"),
        "command": command,
        "slurm": "slurm" in command + os.environ.get("SNAKEMAKE_PROFILE", ""),
        "job": os.environ.get("SLURM_JOB_ID"),  # of a driver that is itself a SLURM job
    }
    file.seek(0)
    file.truncate()
    json.dump(record, file)
    file.flush()
    _held.append(file)


def _read(file) -> dict:
    """What the holder wrote of itself; {} if it has not written yet."""
    file.seek(0)
    try:
        return json.load(file)
    except ValueError:
        return {}


def _holder(file, folder: Path) -> str:
    record = _read(file)
    who, stop = "a process that has just started", "start again in a moment"
    if record:
        job = record.get("job")
        place = f" in SLURM job {job}" if job else ""
        who = "process {pid} of {user} on {host}{place}, since {since} ({command})".format(place=place, **record)
        stop = f"kill -INT {record['pid']}"
        if job:
            stop = f"scancel --batch --signal=INT {job}"
        elif record["host"] != socket.gethostname():
            stop = f"ssh {record['host']} {stop}"
        stop = f"stop it with: {stop}"
    return f"another run holds {folder}: {who}. Two at once would disturb each other: wait for it, or {stop}"
