"""Devices of a job: one lock per GPU outside SLURM, energy counters, peak memory.

Snakemake counts GPUs but does not say which one a local job gets, so concurrent jobs would all take card 0. Here a job
takes the first cards whose lock files are free and waits while too few are; the locks end with the process, however it
ends.
Inside SLURM the scheduler has already set CUDA_VISIBLE_DEVICES.
"""

import fcntl
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
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
    if "SLURM_JOB_ID" in os.environ:
        return None
    there = list_gpus()
    if not there:
        return None
    if len(there) < cards:
        raise InputError(f"models.*.gpus: found {cards}, but this machine has {len(there)}: lower it, or use a cluster")
    folder = folder or Path(tempfile.gettempdir()) / f"colocate-gpus-{os.getuid()}"
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        with ExitStack() as locks:
            taken = []
            for card in there:
                lock = locks.enter_context((folder / f"{card}.lock").open("a"))
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


def joules() -> float | None:
    """Energy counter of what can be read: the card in use (NVML, through torch) or the CPU packages (RAPL); else None.

    Take it at the start and the end. It counts the whole card or package, other jobs on it included.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        query = ["nvidia-smi", "--query-gpu=total_energy_consumption", "--format=csv,noheader,nounits"]
        answer = subprocess.run(query, capture_output=True, text=True, timeout=60)
        values = answer.stdout.split()
        return float(values[0]) / 1000 if answer.returncode == 0 and values and values[0].isdigit() else None
    try:
        return sum(int(path.read_text()) for path in RAPL.glob("intel-rapl:?/energy_uj")) / 1e6 or None
    except OSError:
        return None
