"""A small study on the cluster of the tests: how it is started, looked at, and disturbed from outside."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from cluster import Cluster

from conftest import Checkout
from tiny import GEOMETRY

DRIVER = Path(__file__).parent / "fast_snakemake.py"
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}
FIELDS = "JobID,Name,State,Comment,NodeList,MinMemory,TimeLimit,tres-per-job,StartTime,EndTime,WorkDir"


class Study(NamedTuple):
    """A finished run."""

    checkout: Checkout
    printed: str
    submitted: list[dict[str, str]]


def study(folder: Path, model: Path) -> Checkout:
    """A checkout of config/ci.yaml on a tiny model: two arms, one benchmark, a checkpoint after every step."""
    checkout = Checkout(folder)
    (checkout.folder / "slurm").symlink_to("profiles/slurm")
    checkout.configfiles.append("config/ci.yaml")
    checkout.overlay(
        "tiny",
        {
            "study": "tiny",
            "select": {"models": ["tiny"], "arms": ["base", "colocated", "mid_block"], "benchmarks": ["mini_arc"]},
            "models": {"tiny": {"source": f"path:{model}", "geometry": GEOMETRY, "dtype": "float32"}},
            "layer_sets": {"sensitive": {"top": 1}, "positional": {"top": 1}, "middle": {"segments": "01110"}},
            "training": {"max_length": 1024, "tokens_per_step": 128, "checkpoint_every": 1},
            "statistics": {"primary_against": ["mid_block"]},
            "gpus": 1,
        },
    )
    return checkout


def start(checkout: Checkout, cluster: Cluster, *words: str, **environment: str) -> subprocess.Popen:
    """The driver, as `snakemake --profile slurm WORDS` on a login node; both streams are in its stdout."""
    command = [sys.executable, str(DRIVER), "--profile", "slurm", *words, "--config", "device=cpu"]
    command += ["--configfile", *checkout.configfiles]
    surroundings = cluster.environment | {"COLOCATE_SLURM_PARTITION": "all", "NO_COLOR": "1"} | environment
    surroundings["PATH"] = f"{Path(sys.executable).parent}:{surroundings['PATH']}"
    return subprocess.Popen(
        command, cwd=checkout.folder, env=surroundings, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finish(driver: subprocess.Popen, seconds: float = 600) -> str:
    printed, _ = driver.communicate(timeout=seconds)
    assert driver.returncode == 0, printed[-6000:]
    return printed


def jobs(checkout: Checkout, cluster: Cluster) -> list[dict[str, str]]:
    """The jobs of this checkout that SLURM knows, ended ones too, in the order of their submission."""
    found = [job for job in cluster.jobs(FIELDS) if job["WorkDir"] == str(checkout.folder)]
    return sorted(found, key=lambda job: int(job["JobID"]))


def rule_of(job: dict) -> str:
    return re.match(r"rule_(.*?)_wildcards", job["Comment"] + "_wildcards").group(1)


def final(checkout: Checkout) -> dict[str, bytes]:
    """What an undisturbed run and a disturbed one must agree on, to the byte: statistics and adapters."""
    folder = checkout.folder / "results/tiny/tiny"
    patterns = ("statistics/*.csv", "statistics/*.json", "adapters/*/*/manifest.json", "adapters/*/*/*.safetensors")
    files = [path for pattern in patterns for path in folder.glob(pattern) if not path.name.endswith(".run.json")]
    assert len([path for path in files if path.suffix == ".safetensors"]) == 2
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# --- disturbing -------------------------------------------------------------------------------------------------------


def until(found: Callable, what: str, driver: subprocess.Popen | None = None, seconds: float = 240, every: float = 0.2):
    """What `found` returns once that is true. Fails after `seconds`, and at once where the driver has ended."""
    deadline = time.monotonic() + seconds
    while not (result := found()):
        if driver is not None and driver.poll() is not None:
            raise AssertionError(f"the driver has ended, and not: {what}\n{driver.communicate()[0][-6000:]}")
        assert time.monotonic() < deadline, f"after {seconds:.0f} s still not: {what}"
        time.sleep(every)
    return result


def running(checkout: Checkout, cluster: Cluster, *words: str) -> dict[str, str] | None:
    """A running job whose comment has all these words."""
    found = (job for job in jobs(checkout, cluster) if job["State"] == "RUNNING")
    return next((job for job in found if all(word in job["Comment"] for word in words)), None)


def script(checkout: Checkout, *words: str) -> int | None:
    """Process id of a running script of this checkout whose command line has all these words."""
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError, IndexError):
            line = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            named = len(line) > 1 and line[1].startswith(str(checkout.folder / "workflow/scripts"))
            if named and all(any(word in part for part in line) for word in words):
                return int(entry.name)
    return None


def hold_at_checkpoint(checkout: Checkout, arms: list[str], driver: subprocess.Popen) -> dict[str, int]:
    """Stop (SIGSTOP) the training of each arm between its first checkpoint and its end; returns their process ids."""
    found, held = {}, {}

    def all_held() -> bool:
        for arm in set(arms) - set(held):
            found[arm] = found.get(arm) or script(checkout, "train_arm.py", f"/adapters/{arm}/")
            kept = checkout.folder.glob(f"scratch/tiny/tiny/{arm}/seed0/*/checkpoint.pt")
            if found[arm] and next(kept, None):
                os.kill(found[arm], signal.SIGSTOP)
                held[arm] = found[arm]
        return len(held) == len(arms)

    until(all_held, f"{' and '.join(arms)} are held after a checkpoint", driver, 400, every=0.01)
    return held


def ancestors(pid: int, program: str = "slurmstepd") -> list[int]:
    """The processes around one of a SLURM job, itself first, up to the daemon of its step."""
    chain = []
    while pid > 1 and program not in Path(f"/proc/{pid}/comm").read_text():
        chain.append(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return chain


def alive(pid: int) -> bool:
    """Whether a process is there, and not a zombie."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
