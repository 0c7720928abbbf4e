"""The walls of one sandbox: bubblewrap's options, the files that are visible inside, the resource limits.

Fresh user, mount, PID, network, IPC, UTS and cgroup namespaces; a root that holds only the Python runtime (interpreter,
standard library, shared libraries) and the packages asked for, read-only; a small tmpfs as working folder; no /proc, no
devices but null, zero and urandom; no capabilities. Source: bwrap(1); getrlimit(2).
"""

import functools
import importlib.util
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from colocate.errors import InputError

MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """Bounds on one program; sizes in MiB, memory is address space.

    `seconds` bounds the processor time, and apart from it the time spent asleep: neither grows when the processor is
    shared with others, so what else runs decides nothing. `wall_seconds` is the last resort on a stuck machine.
    """

    seconds: float = 20.0
    wall_seconds: float = 600.0
    memory_mib: int = 1024
    file_mib: int = 16
    folder_mib: int = 64
    files: int = 4096
    open_files: int = 64
    threads: int = 64


def resources(limits: Limits, inside: bool) -> dict[str, int]:
    """setrlimit's names and values. The supervisor stops a program at its `seconds`, the kernel a little later."""
    bounds = {
        "RLIMIT_AS": limits.memory_mib * MIB,
        "RLIMIT_CPU": int(limits.seconds) + 3,
        "RLIMIT_FSIZE": limits.file_mib * MIB,
        "RLIMIT_NOFILE": limits.open_files,
        "RLIMIT_CORE": 0,
    }
    release = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
    if inside and release >= (5, 14):  # before, and outside of a user namespace, all processes of the user count
        bounds["RLIMIT_NPROC"] = limits.threads
    return bounds


def options(limits: Limits, packages: list[Path]) -> list[str]:
    """bwrap's options: everything unshared, nothing visible but the runtime, the root read-only in the end."""
    words = ["--unshare-all", "--unshare-user", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL"]
    words += ["--hostname", "sandbox", "--new-session", "--die-with-parent"]
    for folder in _runtime():
        words += ["--ro-bind", folder, folder]
    for link, target in _links():
        words += ["--symlink", target, link]
    for package, place in zip(packages, _places(packages), strict=True):
        words += ["--ro-bind", str(package), f"{place}/{package.name}"]
    for device in ("null", "zero", "urandom"):
        words += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    words += ["--size", str(limits.folder_mib * MIB), "--tmpfs", "/work", "--remount-ro", "/", "--chdir", "/work"]
    return words


def search_path(packages: list[Path], inside: bool) -> list[str]:
    """What the program's sys.path needs to import the packages."""
    return sorted(set(_places(packages) if inside else [str(package.parent) for package in packages]))


def interpreter() -> str:
    """The base interpreter, also from inside a virtual environment (whose own executable is a link to it)."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def folders(packages: tuple[str, ...]) -> list[Path]:
    """The folders of importable packages and of their bundled shared libraries (auditwheel's <name>.libs)."""
    found = []
    for name in packages:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise InputError(f"sandbox: the package {name!r} is not installed as a folder of this environment")
        folder = Path(spec.submodule_search_locations[0])
        found += [path for path in (folder, folder.with_name(f"{name}.libs")) if path.is_dir()]
    return found


def _places(packages: list[Path]) -> list[str]:
    """Where each package's parent folder is inside: numbered, since its real path says whose machine this is."""
    parents = sorted({package.parent for package in packages})
    return [f"/packages/{parents.index(package.parent)}" for package in packages]


@functools.cache
def _runtime() -> tuple[str, ...]:
    """Files and folders that the interpreter needs: itself, <base prefix>/lib*, the system's shared libraries."""
    base = Path(interpreter()).parents[1]
    places = [base / "lib", base / "lib64", Path("/usr/lib"), Path("/usr/lib64"), Path("/lib"), Path("/lib64")]
    real = {str(folder) for folder in places if folder.is_dir() and not folder.is_symlink()}
    inner = {folder for folder in real if any(folder.startswith(other + "/") for other in real)}
    files = [file for file in ("/etc/ld.so.cache",) if os.path.exists(file)]
    return (interpreter(), *sorted(real - inner), *files)


@functools.cache
def _links() -> tuple[tuple[str, str], ...]:
    """/lib -> usr/lib and the like, as on the host."""
    return tuple((link, os.readlink(link)) for link in ("/lib", "/lib64") if os.path.islink(link))
