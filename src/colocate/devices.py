"""Devices of a job: one lock per GPU outside SLURM, energy counters, peak memory.

Snakemake counts GPUs but does not say which one a local job gets, so concurrent jobs would all take card 0. Here a job
takes the first cards whose lock files are free and waits while too few are; the locks end with the process, however it
ends. Inside SLURM the scheduler has already set CUDA_VISIBLE_DEVICES; only where the whole run is one allocation
(COLOCATE_ALLOCATION=1, profiles/allocation) its jobs share out the allocation's cards in the same way.

COLOCATE_GPU_SHARE=n lets n jobs share a card: it has n locks, and a card with fewer jobs on it is taken first.
"""

import fcntl
import itertools
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from colocate.errors import InputError

RAPL = Path("/sys/class/powercap")
_held = ExitStack()  # open lock files: closing one would free its card


def list_gpus() -> list[str]:
    """Indices of the NVIDIA cards this process may use, from CUDA_VISIBLE_DEVICES or nvidia-smi; [] if none."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [index for index in visible.split(",") if index not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, timeout=60)
    return answer.stdout.split() if answer.returncode == 0 else []


def take_gpu(folder: Path | None = None, poll_seconds: float = 2.0, cards: int = 1) -> str | None:
    """Reserve cards for this process and name them in CUDA_VISIBLE_DEVICES; None where there are none or in SLURM.

    Must run before torch starts CUDA. Blocks while fewer than `cards` are free, and holds none of them meanwhile.
    InputError where the machine has fewer.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is not None and not os.environ.get("COLOCATE_ALLOCATION"):
        return None
    there = list_gpus()
    if not there:
        return None
    if len(there) < cards:
        raise InputError(f"models.*.gpus: found {cards}, but this machine has {len(there)}: lower it, or use a cluster")
    # Cards of two allocations on one node may have the same name, each its own: the allocation is part of the folder's.
    folder = folder or Path(tempfile.gettempdir()) / "-".join(filter(None, (f"colocate-gpus-{os.getuid()}", job)))
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        with ExitStack() as locks:
            taken = []
            for place, card in itertools.product(range(_share()), there):
                if card in taken:
                    continue
                lock = locks.enter_context((folder / f"{card}.{place}.lock").open("a"))
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                taken.append(card)
                if len(taken) == cards:
                    _held.push(locks.pop_all())
                    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)
                    return os.environ["CUDA_VISIBLE_DEVICES"]
        time.sleep(poll_seconds * random.uniform(0.5, 1.5))  # two that each hold what the other lacks must not stay so


def _share() -> int:
    """Jobs that may share a card: COLOCATE_GPU_SHARE, 1 if it is not set."""
    said = os.environ.get("COLOCATE_GPU_SHARE", "1")
    if not said.isdigit() or int(said) < 1:
        raise InputError(f"COLOCATE_GPU_SHARE: found {said!r}; allowed: a whole number from 1, jobs that share a card")
    return int(said)


def card_memory_mib() -> float | None:
    """Memory of the smallest card that this process may use, in MiB; None where there is none, or it does not say."""
    cards = list_gpus()
    if not cards or shutil.which("nvidia-smi") is None:
        return None
    sizes = _ask_smi("memory.total", *cards)
    return min(sizes) if sizes else None


def _ask_smi(quantity: str, *cards: str) -> list[float]:
    """A quantity of these cards (all, if none is named), as nvidia-smi (NVML) tells it; [] where it does not."""
    query = ["nvidia-smi", f"--query-gpu={quantity}", "--format=csv,noheader,nounits"]
    query += ["-i", ",".join(cards)] if cards else []
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=60)
        return [float(value) for value in answer.stdout.split()] if answer.returncode == 0 else []
    except (OSError, subprocess.TimeoutExpired, ValueError):  # [N/A] for what a card does not count
        return []


class CardMeter:
    """Utilisation and power of the cards of this process, sampled in a thread: `start`, then `stop` once.

    Counts whole cards, other jobs on them included. Without a card, or nvidia-smi, all of it is None.
    """

    def __init__(self, every: float = 5.0):
        self.every, self.shares, self.watts = every, [], []
        self._end, self._thread = threading.Event(), threading.Thread(target=self._sample, daemon=True)

    def start(self) -> "CardMeter":
        self.cards = [card for card in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if card not in ("", "-1")]
        self.since = time.monotonic()
        if self.cards and shutil.which("nvidia-smi"):
            self._thread.start()
        return self

    def _sample(self) -> None:
        while True:  # at once: a short job has one sample
            shares, watts = (_ask_smi(quantity, *self.cards) for quantity in ("utilization.gpu", "power.draw"))
            self.shares += [sum(shares) / len(shares) / 100] if shares else []
            self.watts += [sum(watts)] if watts else []
            if self._end.wait(self.every):
                return

    def stop(self) -> dict[str, float | None]:
        """{"gpu_utilisation": mean share of time in which the cards computed, "joules": mean power times seconds}."""
        seconds = time.monotonic() - self.since
        self._end.set()
        share, watts = (sum(found) / len(found) if found else None for found in (self.shares, self.watts))
        joules = None if watts is None else round(watts * seconds, 3)
        return {"gpu_utilisation": None if share is None else round(share, 3), "joules": joules}


def peak_memory_mib() -> dict[str, float | None]:
    """Largest resident memory of this process so far and, if CUDA was used, largest allocation on the card, in MiB."""
    torch = sys.modules.get("torch")
    cuda = torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized()
    return {
        "cpu": round(_resident_high_water_kib() / 1024, 1),
        "gpu": round(torch.cuda.max_memory_allocated() / 2**20, 1) if cuda else None,
    }


def _resident_high_water_kib() -> int:
    """VmHWM where Linux tells it: ru_maxrss also counts what the parent held when it forked this process."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    found = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return found[0] if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def cpu_joules() -> float | None:
    """Energy counter of the CPU packages (RAPL), where it can be read; else None.

    Take it at the start and the end. It counts whole packages, other jobs on them included.
    """
    try:
        return sum(int(path.read_text()) for path in RAPL.glob("intel-rapl:?/energy_uj")) / 1e6 or None
    except OSError:
        return None
