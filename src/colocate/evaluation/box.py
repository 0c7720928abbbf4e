"""One walled process (Box), and the watch over the pair that runs a program: worker and checker (inside.py)."""

import inspect
import json
import os
import platform
import select
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

from colocate.evaluation import inside, seccomp, walls
from colocate.evaluation.clock import Clock, child_of, is_alive
from colocate.evaluation.walls import Limits

LOOK = 0.05  # seconds between two looks at the clocks
GONE = 10.0  # seconds to wait for killed processes to be gone
ENVIRONMENT = {"PATH": "/usr/bin", "LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class Box:
    """An interpreter that plays one role of inside.py; in bubblewrap, or (`bubblewrap` None) as a plain process."""

    def __init__(
        self,
        role: str,
        pipes: list[int],
        streams: tuple[int | BinaryIO, BinaryIO],
        limits: Limits,
        packages: list[Path],
        bubblewrap: str | None,
        folder: str,
    ):
        walled = bubblewrap is not None
        settings = {
            "role": role,
            "limits": walls.resources(limits, walled),
            "path": walls.search_path(packages, walled),
            "pipes": pipes,
        }
        source = inspect.getsource(inside)
        command = [walls.interpreter(), "-I", "-S", "-B", "-c", source, json.dumps(settings)]
        inherited, self._first = list(pipes), None
        told, tell = os.pipe()
        with tempfile.TemporaryFile() as calls, os.fdopen(told) as info:
            if walled:
                calls.write(seccomp.program(platform.machine()))
                calls.seek(0)
                extra = ["--seccomp", str(calls.fileno()), "--info-fd", str(tell)]
                command = [bubblewrap, *walls.options(limits, packages), *extra, "--", *command]
                inherited += [calls.fileno(), tell]
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=streams[0],
                    stdout=streams[1],
                    stderr=subprocess.STDOUT,
                    env=ENVIRONMENT,
                    cwd=folder,
                    pass_fds=inherited,
                    start_new_session=True,
                )
            finally:
                os.close(tell)
            with suppress(ValueError):  # nothing was told: bubblewrap failed
                self._first = json.loads(info.read())["child-pid"]

    def python(self) -> int | None:
        """The process number of the interpreter, None where it is gone."""
        return self._process.pid if self._first is None else child_of(self._first)

    def files(self) -> int:
        """Files and folders in the working folder: tmpfs bounds bytes, and each empty file takes kernel memory."""
        with suppress(OSError):
            folder = os.statvfs(f"/proc/{self._first}/root/work")
            return folder.f_files - folder.f_ffree
        return 0

    def code(self) -> int:
        """The exit status, once it has one; a signal's number + 128 inside of bubblewrap, its negative outside."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(GONE)
        return self._process.returncode

    def stop(self) -> None:
        """Return when nothing is left: with bwrap its first process inside dies, and with that one all others there."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        end = time.monotonic() + GONE
        while self._first is not None and is_alive(self._first) and time.monotonic() < end:
            time.sleep(0.002)


def execute(job: dict, limits: Limits, packages: list[Path], bubblewrap: str | None, folder: str = "/") -> str:
    """Run the program of `job` (arguments of inside.check): "" where it passes, else the reason why not."""
    with ExitStack() as stack:
        output, given = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(2))
        given.write(json.dumps(job).encode())
        given.seek(0)
        (calls, call), (replies, reply), (verdicts, verdict) = os.pipe(), os.pipe(), os.pipe()
        stack.callback(os.close, verdicts)
        boxes = []
        try:
            for role, pipes, source in (
                ("worker", [calls, reply], subprocess.DEVNULL),
                ("checker", [replies, call, verdict], given),
            ):
                boxes.append(Box(role, pipes, (source, output), limits, packages, bubblewrap, folder))
                stack.callback(boxes[-1].stop)
        finally:  # only those inside hold them now: a process that ends is seen to end
            for end in (calls, call, replies, reply, verdict):
                os.close(end)
        reason = _watch(verdicts, boxes, limits)
        if reason in (inside.UNBORN, inside.CUT_SHORT):
            return _last_words(output) or _how(boxes[0].code(), reason)
        return reason


def _watch(verdicts: int, boxes: list[Box], limits: Limits) -> str:
    """Wait for the checker's verdict, or for a limit. Time before both interpreters are up does not count."""
    end, clock, text = time.monotonic() + limits.wall_seconds, None, b""
    poll = select.poll()
    poll.register(verdicts, select.POLLIN)
    while time.monotonic() < end:
        if poll.poll(LOOK * 1000):
            part = os.read(verdicts, 2**16)
            if not part:
                return inside.UNBORN if clock is None else "the tests ended before their last line"
            text += part
            *lines, _ = text.decode().split("\n")
            if lines and lines[-1] != inside.READY:
                return json.loads(lines[-1])
            if lines and clock is None:
                clock = Clock([pid for box in boxes if (pid := box.python())])
        reason = "" if clock is None else _exceeded(clock, boxes, limits)
        if reason:
            return reason
    return f"stopped after {limits.wall_seconds:g} s"


def _exceeded(clock: Clock, boxes: list[Box], limits: Limits) -> str:
    used = clock.read()
    if used.processor > limits.seconds:
        return f"stopped after {limits.seconds:g} s of processor time"
    if used.asleep > limits.seconds:
        return f"stopped after {limits.seconds:g} s asleep"
    if used.threads > limits.threads:
        return f"stopped with more than {limits.threads} threads"
    if any(box.files() > limits.files for box in boxes):
        return f"stopped with more than {limits.files} files"
    return ""


def _last_words(output: BinaryIO) -> str:
    output.seek(max(0, output.seek(0, os.SEEK_END) - 4096))
    lines = output.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")[-inside.SHOWN :]


def _how(code: int | None, reason: str) -> str:
    return reason if code == 0 else f"ended with code {code}"
