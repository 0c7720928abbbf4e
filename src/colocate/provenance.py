"""One workflow job: its options, log, progress, outputs that appear whole or not at all, and its run record.

A script is `with Job(__doc__, inputs="model pairs*", outputs="profile run") as job:` and one call of the library:

- every named input and output is one option (`--model FILE`; `*` takes several files, `?` may be left out), beside
  `--settings JSON`, `--threads N` and `--log FILE`;
- `job.out.NAME` is a private path beside the real one. On success all are moved into place; after an error none is.
  An attempt that a newer one has replaced (a node declared lost whose process lives on) finds that it no longer owns
  the outputs, and moves nothing. Once the newer one has delivered, the old one ends as a success, however it ended:
  were it to fail, the Snakemake around it would delete the newer one's outputs as those of a failed job;
- what the libraries print goes to the log; progress and errors also to the terminal;
- the run record (versions, digests, device, dtype, seconds, tokens, peak memory, joules) is the output named `run`;
  where a job declares none, it lies beside the log, so that a lost one repeats nothing.
"""

import argparse
import atexit
import contextlib
import errno
import fcntl
import gc
import json
import logging
import os
import platform
import shutil
import signal
import sys
import time
import traceback
import uuid
from pathlib import Path
from types import SimpleNamespace

from colocate import devices, digests, files, spending
from colocate.errors import InputError

log = logging.getLogger("colocate")
# Garbage of a generation is looked for after so many new objects, or searches of the one before. With Python's own 700
# and 10 a fifth of the time in which a job imports torch and transformers goes into searches that find nothing.
GARBAGE = (100_000, 20, 20)
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # such errors of a write name no file


class ProgressBar:
    """Lines such as `train_arm colocated seed 0  [#####.....]  50 %  loss 1.93  41 s left`, one in `every` s."""

    def __init__(self, label: str, stream, every: float = 10.0):
        self.label, self.stream, self.every = label, stream, every
        self.start = self.last = time.monotonic()

    def __call__(self, fraction: float, note: str = "") -> None:
        now = time.monotonic()
        if now - self.last < self.every or not 0 < fraction < 1:
            return
        self.last = now
        left = (now - self.start) * (1 - fraction) / fraction
        filled = int(20 * fraction)
        bar = "#" * filled + "." * (20 - filled)
        parts = [self.label, f"[{bar}] {fraction:4.0%}", note, f"{left:.0f} s left"]
        print("  ".join(part for part in parts if part), file=self.stream, flush=True)


def _parser(doc: str, inputs: list[str], outputs: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind, names in (("input", inputs), ("output", outputs)):
        for name in names:
            bare = name.rstrip("*?")
            many = {"nargs": "*", "default": []} if name.endswith("*") else {}
            help_text = f"{kind} file or folder{'s' if many else ''}"
            required = not name.endswith(("*", "?"))
            parser.add_argument(f"--{bare}", type=Path, required=required, metavar="PATH", help=help_text, **many)
    parser.add_argument(
        "--settings", type=json.loads, default={}, metavar="JSON", help="settings, as the config has them"
    )
    parser.add_argument("--label", default="", help="what the progress lines call this job")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--gpus", type=int, default=1, help="cards that a job of a model takes, where it finds any")
    parser.add_argument("--log", type=Path, help="log file (default: the terminal)")
    return parser


def _remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


class Ownership:
    """The latest attempt at an output owns it: a token file beside the output names that attempt."""

    def __init__(self, output: Path):
        self.file = output.with_name(f".{output.name}.owner")
        self.token = uuid.uuid4().hex
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self._locked("a+") as file:
            file.truncate(0)
            file.write(self.token)

    @contextlib.contextmanager
    def _locked(self, mode: str):
        with self.file.open(mode) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file

    @contextlib.contextmanager
    def held(self):
        """Hold the lock while moving outputs; an error if a newer attempt owns them, or has already delivered them."""
        with contextlib.ExitStack() as stack:
            try:
                owned = stack.enter_context(self._locked("r+")).read() == self.token
            except FileNotFoundError:
                owned = False
            if not owned:
                raise InputError(f"{self.file.parent}: a newer attempt owns this output; nothing was moved")
            yield
            self.file.unlink(missing_ok=True)

    def release(self) -> bool:
        """Remove the token, if it is still this attempt's; returns whether it was."""
        with contextlib.suppress(FileNotFoundError), self._locked("r+") as file:
            if file.read() == self.token:
                self.file.unlink(missing_ok=True)
                return True
        return False


class Job:
    """See the module's docstring. `input`, `out`: paths by name. `record`: what a script adds to the run record."""

    def __init__(self, doc: str, inputs: str = "", outputs: str = "", argv: list[str] | None = None):
        self.script = Path(sys.argv[0])
        self.name = self.script.stem
        names_in, names_out = inputs.split(), outputs.split()
        args = _parser(doc, names_in, names_out).parse_args(argv)
        self.settings, self.threads, self.log_file = args.settings, args.threads, args.log
        self.gpus = max(1, args.gpus)  # a study that asks its cluster for none still takes the card of this machine
        self.label = " ".join(part for part in (self.name, args.label) if part)
        self.input = SimpleNamespace(**{name.rstrip("*?"): getattr(args, name.rstrip("*?")) for name in names_in})
        self.final = {name.rstrip("?"): getattr(args, name.rstrip("?")) for name in names_out}
        self.final = {name: path for name, path in self.final.items() if path is not None}
        self.record, self.delivered = {}, False

    def __enter__(self) -> "Job":
        for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[variable] = str(self.threads)
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        gc.set_threshold(*GARBAGE)
        if self.settings.get("device") in ("auto", "cuda"):  # a job of a model; must come before torch starts CUDA
            devices.take_gpu(cards=self.gpus)
        self.terminal = os.fdopen(os.dup(2), "w")
        if self.log_file is not None:
            self.log_file.parent.mkdir(parents=True, exist_ok=True)
            stream = self.log_file.open("w")
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
            sys.stdout.reconfigure(line_buffering=True)  # into a file it would be held back, and come after the error
        logging.basicConfig(
            level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", stream=sys.stderr
        )
        self.progress = ProgressBar(self.label, self.terminal)
        self.budget = contextlib.ExitStack()
        try:
            self.budget.enter_context(spending.within(self.name, self.log_file))
        except InputError as refused:
            self._say(str(refused))
            raise SystemExit(1) from None
        first = next(iter(self.final.values()))
        self.owner = Ownership(first)
        attempt = self.owner.token[:8]
        private = {name: path.with_name(f".{attempt}.{path.name}") for name, path in self.final.items()}
        for path in self.final.values():
            path.parent.mkdir(parents=True, exist_ok=True)
            for left_over in path.parent.glob(f".????????.{path.name}"):  # of an attempt that was killed
                _remove(left_over)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave through __exit__, so that nothing stays behind
        self.out = SimpleNamespace(**private)
        self.private = private
        if self.script.parent.name == "scripts":  # of the workflow: no other program is ended by a job inside it
            atexit.register(self._leave)
        self.start, self.start_joules, self.cards = time.monotonic(), devices.cpu_joules(), None
        if self.settings.get("device") in ("auto", "cuda"):
            self.cards = devices.CardMeter().start()
        return self

    def __exit__(self, kind, error, trace) -> bool:
        try:
            if error is None:
                self._deliver()
                self.delivered = True
                return False
        except InputError as refused:
            kind, error, trace = InputError, refused, None
        finally:
            self.budget.close()
            for path in self.private.values():
                _remove(path)
            replaced = error is not None and not self.owner.release()
        if replaced and all(path.exists() for path in self.final.values()):
            traceback.print_exception(kind, error, trace)
            said = f"{self.label}: a newer attempt has delivered; this one ends here"
            for stream in (sys.stderr, self.terminal):  # the log may have been removed, nobody may read the terminal
                with contextlib.suppress(OSError):
                    print(said, file=stream, flush=True)
            raise SystemExit(0)
        if isinstance(error, SystemExit | KeyboardInterrupt):
            return False
        traceback.print_exception(kind, error, trace)
        reason = str(error) if isinstance(error, InputError) else f"{kind.__name__}: {error}"
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            place = error.filename or next(iter(self.final.values())).parent
            reason = f"{place}: cannot be written: {error.strerror}; nothing was put in place"
        self._say(reason)
        raise SystemExit(1)

    def _leave(self) -> None:
        """End the process of a delivered job at once: taking torch apart would take it more than a second."""
        if self.delivered and not hasattr(sys, "last_type"):  # set where the script failed after its job
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)

    def _say(self, reason: str) -> None:
        """Why the job ends, in its log and on the terminal."""
        print(f"ERROR: {reason}", file=sys.stderr, flush=True)
        if self.log_file is not None:
            print(f"{self.label}: ERROR: {reason}", file=self.terminal, flush=True)

    @property
    def identity(self) -> str:
        """Settings, code and packages of this job in one text: what its outputs depend on besides its inputs."""
        script = self.script.resolve()
        settings = json.dumps(self.settings, sort_keys=True)
        return "\n".join([settings, digests.code(script), digests.environment(script)])

    def collect(self, folder: Path, names: dict[str, str]) -> None:
        """Move files of a folder that the library filled to the outputs: {output name: file name}."""
        for name, file in names.items():
            (folder / file).replace(self.private[name])

    def _deliver(self) -> None:
        with self.owner.held():
            missing = [name for name, path in self.private.items() if name != "run" and not path.exists()]
            if missing:
                raise InputError(f"{self.name} did not write its output {missing[0]}")
            beside_log = self.log_file and self.log_file.with_suffix(".run.json")
            if record := self.private.get("run", beside_log):
                files.write_json(record, self._run_record())
            for name, path in self.private.items():
                final = self.final[name]
                if final.is_dir() and not final.is_symlink():
                    shutil.rmtree(final)
                path.replace(final)

    def _run_record(self) -> dict:
        used = frozenset(name.split(".")[0] for name in sys.modules)
        _, declared = digests.closure(self.script.resolve())
        end_joules = devices.cpu_joules()
        measured = {
            "seconds": round(time.monotonic() - self.start, 3),
            "joules": None if None in (self.start_joules, end_joules) else round(end_joules - self.start_joules, 3),
            "cpu_seconds": round(time.process_time(), 3),
            "peak_memory_mib": devices.peak_memory_mib(),
        }
        if self.cards:
            measured |= {name: value for name, value in self.cards.stop().items() if value is not None}
        place = {"rule": self.name, "label": self.label, "threads": self.threads, "host_machine": platform.machine()}
        outputs = {name: files.sha256(path) for name, path in self.private.items() if name != "run" and path.is_file()}
        return {
            **place,
            **measured,
            "settings": self.settings,
            "versions": {"python": platform.python_version()} | digests.versions(used & declared | {"torch"} & used),
            "code": digests.code(self.script.resolve()),
            "outputs_sha256": outputs,
            **self.record,
        }
