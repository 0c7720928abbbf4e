"""What processes have used so far, as the kernel counts it: processor time, time asleep, threads.

    busy   = sum over threads of (time on a processor + time waiting for one)      /proc/<pid>/task/<tid>/schedstat
    asleep = elapsed - busy, at least 0

Waiting for a processor is neither work nor sleep: a limit on `processor` and one on `asleep` stop a loop and a sleeper
alike, and never a program that is only slow because others run. Without schedstat (CONFIG_SCHED_INFO) waiting counts as
sleep. Source: Documentation/scheduler/sched-stats.rst; proc(5).
"""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """`processor` (s) and `threads`: of the process that has most; `asleep` (s): time in which none of them ran."""

    processor: float
    asleep: float
    threads: int


class Clock:
    """Counts from its creation. `pids`: processes that take turns (one waits while the other works)."""

    def __init__(self, pids: list[int]):
        self._begin = time.monotonic()
        self._seen = {pid: {} for pid in pids}  # by thread, kept when it ends: seconds on a processor, and waiting
        self._total = dict.fromkeys(pids, 0.0)

    def read(self) -> Usage:
        elapsed = time.monotonic() - self._begin
        threads = max([self._update(pid) for pid in self._seen], default=0)
        processor = {
            pid: max(self._total[pid], sum(run for run, _ in seen.values())) for pid, seen in self._seen.items()
        }
        waiting = sum(wait for seen in self._seen.values() for _, wait in seen.values())
        asleep = max(0.0, elapsed - sum(processor.values()) - waiting)
        return Usage(max(processor.values(), default=0.0), asleep, threads)

    def _update(self, pid: int) -> int:
        """Read the counters of one process; they stay as they were once it is gone."""
        threads = 0
        with suppress(OSError, ValueError):
            ticks = _status(pid)[11:13]  # in user and kernel mode; threads that ended included
            self._total[pid] = sum(map(int, ticks)) / TICK
            for folder in Path(f"/proc/{pid}/task").iterdir():
                threads += 1
                run, wait, _ = (folder / "schedstat").read_text().split()
                self._seen[pid][folder.name] = (int(run) * 1e-9, int(wait) * 1e-9)
        return threads


def child_of(pid: int) -> int | None:
    """The first child of a process, None where it has none."""
    listing = Path(f"/proc/{pid}/task/{pid}/children")
    with suppress(OSError):
        return next((int(word) for word in listing.read_text().split()), None)
    for folder in Path("/proc").glob("[0-9]*"):  # kernels without CONFIG_PROC_CHILDREN
        with suppress(OSError):
            if int(_status(folder.name)[1]) == pid:
                return int(folder.name)
    return None


def is_alive(pid: int) -> bool:
    """Whether a process is there and not dead (a dead one may wait for its parent to take note)."""
    try:
        return _status(pid)[0] not in "ZX"
    except OSError:
        return False


def _status(pid: int | str) -> list[str]:
    """/proc/<pid>/stat after the name, which may hold anything: state, parent, ..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
