"""Create or repair the project's environment, `.venv`: `make env` runs this, before every other target.

One environment serves the driver and the jobs: this repository, installed editable, with the exact versions of
lock.txt and extras.txt as pip constraints. pip's own settings (a mirror, a proxy, a wheel folder) hold as everywhere.
Nothing is done, within milliseconds, if the stamp in `.venv` still fits: same place, same lock, same pyproject.toml,
every package that was installed still there, and the wanted extras among those installed.

Uses the standard library alone, and no syntax newer than Python 3.6, so that an old Python gets a clear answer.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import deque
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
# Extras that set-up adds by itself where the machine has the program.
DETECTED = {"slurm": "sbatch", "gpu": "nvidia-smi"}
LARGE_MB = 30


class CannotCreate(Exception):
    """Why there is no environment, and what to do about it."""


def check_python(version, has_venv, program):
    """Refuse a Python that is too old or cannot make virtual environments."""
    name = "{}.{}".format(*version[:2])
    if tuple(version[:2]) < OLDEST:
        raise CannotCreate(
            f"Python {OLDEST[0]}.{OLDEST[1]} or newer is needed; {program} is Python {name}. Name another one: "
            "make env PYTHON=python3.12"
        )
    if not has_venv:
        raise CannotCreate(
            f"{program} (Python {name}) cannot make virtual environments, because it has no ensurepip. Install it "
            f"(Debian and Ubuntu: apt-get install python{name}-venv), or name another Python: "
            "make env PYTHON=python3.12"
        )


def can_make_environments():
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return False
    return True


def digest(root):
    """sha256 over the files that decide what is installed."""
    total = hashlib.sha256()
    for name in ("envs/lock.txt", "envs/extras.txt", "pyproject.toml"):
        total.update((root / name).read_bytes() + b"\0")
    return total.hexdigest()


def installed(venv):
    """Names of the installed distributions with their versions, as their folders are called."""
    return sorted(path.name for path in venv.glob("lib/python*/site-packages/*.dist-info"))


def read_stamp(venv):
    try:
        return json.loads((venv / "colocate.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def python_of(venv):
    """Minor version of the environment's Python, such as 3.11, or None if it does not run or has no pip."""
    question = "import sys, pip; print('{}.{}'.format(*sys.version_info))"
    try:
        python = str(venv / "bin/python")
        return subprocess.check_output([python, "-c", question], stderr=subprocess.DEVNULL, timeout=60).decode().strip()
    except (OSError, subprocess.SubprocessError):
        return None


def state(root, extras, python=None):
    """What to do about `.venv` and why: ("keep" | "update" | "create", reason). `python`: the wanted minor version."""
    venv = root / ".venv"
    if not venv.exists():
        return "create", "there is none"
    if (venv / "unfinished").exists():
        return "create", "an earlier set-up did not finish"
    stamp = read_stamp(venv)
    if stamp is None or not (venv / "bin/python").exists():
        found = python_of(venv)
        if found is None or tuple(map(int, found.split("."))) < OLDEST or found != (python or found):
            return "create", "it is broken"
        return "update", "it was not made by this set-up"
    if stamp["root"] != str(root):
        return "create", "the folder has moved"
    if python is not None and stamp["python"] != python:
        return "create", f"it has Python {stamp['python']} and {python} is wanted"
    if stamp["digest"] != digest(root):
        return "update", "the lock or pyproject.toml has changed"
    lost = sorted(set(stamp["packages"]) - set(installed(venv)))
    if lost:
        return "update", f"packages are missing or changed: {', '.join(lost[:3])}{', ...' if lost[3:] else ''}"
    added = sorted(set(extras) - set(stamp["extras"]))
    if added:
        return "update", f"to add {' and '.join(added)}"
    return "keep", ""


def install(root, extras):
    """Run pip in `.venv`; shows large downloads as they start, and the end of pip's output if it fails."""
    venv = root / ".venv"
    settings = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    settings.update(PIP_USER="0", PIP_NO_INPUT="1", PIP_DISABLE_PIP_VERSION_CHECK="1")
    constraints = [part for name in ("lock.txt", "extras.txt") for part in ("-c", str(root / "envs" / name))]
    target = f"{root}[{','.join(['test', *extras])}]"
    command = [str(venv / "bin/python"), "-m", "pip", "install", "--progress-bar", "off", *constraints, "-e", target]
    tail = deque(maxlen=25)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=settings, cwd=str(root)
    ) as pip:
        for line in pip.stdout:
            tail.append(line)
            size = re.match(r"\s*Downloading (\S+?)(?:\.metadata)? \(([\d.]+) (MB|GB)\)", line)
            if size and (size.group(3) == "GB" or float(size.group(2)) >= LARGE_MB):
                say(f"  downloading {size.group(1).rsplit('/', 1)[-1]} ({size.group(2)} {size.group(3)})")
            elif line.startswith("Installing collected packages:"):
                say(f"  installing {line.count(',') + 1} packages")
    if pip.returncode != 0:
        raise CannotCreate("pip failed; the end of what it said:\n" + "".join(tail))


def say(text):
    print(text, flush=True)


def make(root, action, reason, extras):
    """Create or update `.venv`, and stamp it once all is done. An interrupted attempt starts anew the next time."""
    venv = root / ".venv"
    old = read_stamp(venv) or {}
    if action == "create":
        shutil.rmtree(str(venv), ignore_errors=True)
        old = {}
    extras = sorted(set(extras) | set(old.get("extras", [])))
    pins = sum("==" in line for line in (root / "envs/lock.txt").read_text(encoding="utf-8").splitlines())
    doing = {"create": "creating", "update": "updating"}[action]
    more = f" and the extras {', '.join(extras)}" if extras else ""
    say(f"Environment: {doing} .venv ({reason}): {pins} pinned packages{more}. This takes a few minutes.")
    venv.mkdir(exist_ok=True)
    (venv / "unfinished").touch()
    if action == "create":
        # Called from inside an environment (even this one, which is gone now), the Python behind it is the one to use.
        base = getattr(sys, "_base_executable", None) or sys.executable
        subprocess.run([base, "-m", "venv", str(venv)], check=True)
    try:
        install(root, extras)
    except CannotCreate:
        if action == "update":  # pip changes nothing before it has all it needs: what was there still works
            (venv / "unfinished").unlink()
        raise
    stamp = {
        "root": str(root),
        "python": python_of(venv),
        "digest": digest(root),
        "extras": extras,
        "packages": installed(venv),
    }
    (venv / "colocate.json").write_text(json.dumps(stamp, indent=1), encoding="utf-8")
    (venv / "unfinished").unlink()
    say(f"Environment: .venv is ready (Python {stamp['python']}); programs find it after: source .venv/bin/activate")


def main(argv=None):
    parser = argparse.ArgumentParser(description="Create or repair the environment .venv.")
    parser.add_argument("--extras", default="", help="extras to add: slurm gpu")
    parser.add_argument("--say", action="store_true", help="say so where nothing is to be done")
    parser.add_argument("--this-python", action="store_true", help="insist on the Python that runs this script")
    options = parser.parse_args(argv)
    asked = options.extras.replace(",", " ").split()
    unknown = sorted(set(asked) - set(DETECTED))
    extras = sorted(set(asked) | {name for name, program in DETECTED.items() if shutil.which(program)})
    python = "{}.{}".format(*sys.version_info) if options.this_python else None
    try:
        if unknown:
            raise CannotCreate(f"unknown extra {unknown[0]}; there are: {' '.join(DETECTED)}")
        with open(__file__) as lock:
            with contextlib.suppress(OSError):  # a network file system may have no locks
                fcntl.flock(lock, fcntl.LOCK_EX)
            action, reason = state(ROOT, extras, python)
            if action == "create":
                check_python(sys.version_info, can_make_environments(), sys.executable)
            if action != "keep":
                make(ROOT, action, reason, extras)
            elif options.say:
                say("Environment: .venv is there and up to date. Next: make study, or source .venv/bin/activate")
    except (CannotCreate, subprocess.CalledProcessError) as error:
        print(f"Environment: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nEnvironment: stopped; the next make starts it anew.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
