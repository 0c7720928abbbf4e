"""Hostile programs (hostile.py, hostile_score.py): each is contained, none passes, and the machine is as before."""

import ctypes
import os
import platform
import re
import signal
import socket
import tempfile
from pathlib import Path

import pytest

import hostile
import hostile_score
from colocate.evaluation import sandbox
from colocate.evaluation.sandbox import Limits

TESTS = """
def check(candidate):
    assert candidate(2, 3) == 5
    assert candidate(20, 22) == 42
check(add)
"""
HONEST = "def add(a, b):\n    return a + b\n"
# Inodes, and with them kernel memory, are bounded by the size of the folder; a second is enough for every attack.
LIMITS = Limits(seconds=1)
ADOPT = 36  # prctl(PR_SET_CHILD_SUBREAPER): a process that leaves its parents becomes a child of this one
ONLY_X86 = {name for name, (program, _) in hostile.PROGRAMS.items() if "syscall(" in program} | {"32-bit system calls"}

pytestmark = pytest.mark.skipif(not sandbox.available()[0], reason=sandbox.available()[1])


def children() -> set[int]:
    """Living children, with those that left their parents. bubblewrap's dead ones, init's to bury, are buried."""
    mine = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # ended meanwhile
            continue
        if int(parent) == os.getpid():
            mine.add(int(path.parent.name))
            if state == "Z":
                os.waitpid(int(path.parent.name), 0)
                mine.remove(int(path.parent.name))
    return mine


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """What the programs are after: a secret file and variable, and listeners that nobody may reach."""
    folder = tmp_path_factory.mktemp("places")
    secret = folder / "secret.txt"
    secret.write_text("secret")
    short = tempfile.mkdtemp()  # the path of a Unix socket has at most 107 bytes
    listeners = [socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)]
    abstract = f"colocate-{os.getpid()}"
    listeners[1].bind(f"{short}/s")
    listeners[2].bind(f"\0{abstract}")
    for listener in listeners:
        listener.listen()
        listener.setblocking(False)
    yield (
        {
            "SECRET": secret,
            "PORT": listeners[0].getsockname()[1],
            "SOCKET": f"{short}/s",
            "ABSTRACT": abstract,
            "PID": os.getpid(),
        },
        listeners,
    )
    for listener in listeners:
        listener.close()
    os.remove(f"{short}/s")
    os.rmdir(short)


@pytest.fixture
def as_before(places, tmp_path, monkeypatch):
    """After the test: the same processes, descriptors, temporary files; the secret whole, no visitor, no signal."""
    values, listeners = places
    libc = ctypes.CDLL(None)
    libc.prctl(ADOPT, 1, 0, 0, 0)
    monkeypatch.setenv("SECRET_TOKEN", "secret")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    signals = []
    previous = {n: signal.signal(n, lambda *a: signals.append(a[0])) for n in (signal.SIGTERM, signal.SIGUSR1)}
    before = children(), len(os.listdir("/proc/self/fd"))
    yield values
    assert (children(), len(os.listdir("/proc/self/fd"))) == before
    assert not signals
    assert os.listdir(tmp_path) == []
    assert values["SECRET"].read_text() == "secret"
    assert os.listdir(values["SECRET"].parent) == ["secret.txt"]
    for listener in listeners:
        with pytest.raises(BlockingIOError):
            listener.accept()
    for number, handler in previous.items():
        signal.signal(number, handler)
    libc.prctl(ADOPT, 0, 0, 0, 0)


def outcome(program: str, values: dict) -> sandbox.Outcome:
    for name, value in values.items():
        program = program.replace(f"<{name}>", str(value))
    return sandbox.run(program, LIMITS, tests=TESTS, functions=("add",))


def test_an_honest_program_passes(as_before):
    assert outcome(HONEST, as_before) == sandbox.Outcome(True, "")


@pytest.mark.parametrize("name", hostile.PROGRAMS)
def test_the_machine_is_safe(name, as_before):
    if name in ONLY_X86 and platform.machine() != "x86_64":
        pytest.skip("the program calls the kernel by the numbers of x86-64")
    program, reason = hostile.PROGRAMS[name]
    result = outcome(program, as_before)
    assert not result.passed
    assert re.search(reason, result.reason), result.reason


@pytest.mark.parametrize("name", hostile_score.PROGRAMS)
def test_the_score_is_safe(name, as_before):
    program, reason = hostile_score.PROGRAMS[name]
    result = outcome(program, as_before)
    assert not result.passed
    assert re.search(reason, result.reason), result.reason


def test_the_attacks_on_the_score_would_pass_if_they_answered(as_before):
    """The tests above fail programs for what they do, not for how they are written."""
    for program in (hostile.when_called("return a + b"), hostile.PRELUDE + hostile_score.FAKE + HONEST):
        assert outcome(program, as_before) == sandbox.Outcome(True, "")


def test_a_right_answer_counts_whatever_else_a_program_prints(as_before):
    noise = "print('AssertionError', flush=True)\nimport sys; sys.stderr.write('Traceback')\n"
    assert outcome(noise + HONEST, as_before).passed
