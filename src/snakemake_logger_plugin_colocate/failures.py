"""Why a job failed, in a sentence: from its log, from what SLURM says of it, and from how its command ended.

    SLURM's state (TIMEOUT, OUT_OF_MEMORY, NODE_FAIL, CANCELLED, ...)  ->  that state in words
    a script that refused or broke                                     ->  its last "ERROR:" line
    a command that a signal ended                                      ->  which one, and what that often means

No Snakemake in here: `fields` are those of its event JOB_ERROR.
"""

import re
import signal
import textwrap
from dataclasses import dataclass
from pathlib import Path

from snakemake_logger_plugin_colocate import text

STATES = {
    "TIMEOUT": "it reached its time limit",
    "OUT_OF_MEMORY": "it needed more memory than it had asked for",
    "NODE_FAIL": "its node failed",
    "CANCELLED": "it was cancelled (scancel)",
    "BOOT_FAIL": "its node did not boot",
    "DEADLINE": "it could not end before its deadline",
    "PREEMPTED": "a job of higher priority took its place",
}
NO_REASON = "it failed without a word in its log"
MEMORY = "it needed more memory than there was"
# What srun, slurmstepd and torch write when memory ran out; SLURM may call such a job FAILED.
MEMORY_MARKS = re.compile(r"oom.kill|Out Of Memory|OutOfMemoryError|Exceeded job memory limit|out of memory", re.I)
STATE = re.compile(r"SLURM status is:\s+'(\w+)")
REFUSED = re.compile(r"sbatch failed.*?error message was '(.*?)'", re.DOTALL)
EXIT = re.compile(r"non-zero exit status (\d+)|died with <Signals\.(SIG\w+)")


@dataclass(frozen=True)
class Failure:
    """One attempt at a job that failed.

    job      the job in words: rule and wildcards
    attempt  its number, from 1
    reason   why, in a sentence
    details  lines of its log that say more; none where the reason says it all
    log      the log file to read, None where there is none
    number   of the job in SLURM, None for a local job
    """

    job: str
    attempt: int
    reason: str
    details: tuple[str, ...] = ()
    log: str | None = None
    number: str | None = None

    def block(self, took: float) -> list[str]:
        """Lines at the moment of the failure, after `took` seconds."""
        lines = [f"FAILED  {self.job}  attempt {self.attempt}, after {text.duration(took)}"]
        why = [*textwrap.wrap(self.reason, 110), *self.details]
        lines += [f"  {'why' if i == 0 else '':5} {line}" for i, line in enumerate(why)]
        lines += [f"  job   {self.number} in SLURM"] if self.number else []
        return [*lines, *([f"  log   {self.log}"] if self.log else [])]

    def entry(self) -> list[str]:
        """Lines of the list at the end of a run."""
        place = f" (SLURM job {self.number})" if self.number else ""
        lines = [f"  {self.job}, attempt {self.attempt}{place}: {self.reason}"]
        return [*lines, *([f"    log: {self.log}"] if self.log else [])]


def failure(job: str, attempt: int, fields: dict, endings: str = "") -> Failure:
    """What is known of a failed attempt. `endings`: what Snakemake said of how its command ended."""
    logs, message = [str(name) for name in fields.get("log") or ()], str(fields.get("rule_msg") or "")
    lines, log = text.reason(logs)
    log = None if log is None else text.short(log)
    number = (fields.get("aux") or {}).get("external_jobid")
    state = STATE.search(message)
    refused = REFUSED.search(message)
    error = lines[0].removeprefix("ERROR: ") if lines and lines[0].startswith("ERROR:") else None
    if refused:
        return Failure(job, attempt, f"SLURM did not take it: {refused.group(1)}", log=log, number=number)
    if state and state.group(1) in STATES:
        return Failure(job, attempt, STATES[state.group(1)], log=log, number=number)
    if error:
        return Failure(job, attempt, error, tuple(lines[1:]), log, number)
    ended = _signal(endings + _contents(logs[1:]))
    if ended or MEMORY_MARKS.search(_contents(logs)):
        said = MEMORY if MEMORY_MARKS.search(_contents(logs)) else ended
        return Failure(job, attempt, said, tuple(lines), log, number)
    if lines:
        return Failure(job, attempt, lines[-1].strip(), tuple(lines[:-1]), log, number)
    if state or not message:
        command = str(fields.get("shellcmd") or "").strip()
        details = ("the command was:", *textwrap.wrap(command, 110)) if command else ()
        return Failure(job, attempt, NO_REASON, details, log, number)
    return Failure(job, attempt, " ".join(message.split()), log=log, number=number)


def _contents(logs: list[str], most: int = 100_000) -> str:
    """The ends of the log files that are there, in one text."""
    found = []
    for name in logs:
        try:
            found.append(Path(name).read_text(encoding="utf-8", errors="replace")[-most:])
        except OSError:
            continue
    return "\n".join(found)


def _signal(said: str) -> str | None:
    """Which signal ended a command, by the last exit status that is told: 128 + its number."""
    ends = EXIT.findall(said)
    if not ends:
        return None
    status, name = ends[-1]
    if status and not 128 < int(status) < 160:
        return None
    name = name or signal.Signals(int(status) - 128).name
    hint = "; most often the system does this when memory runs out" if name == "SIGKILL" else ""
    return f"its process was ended by {name}{hint}"
