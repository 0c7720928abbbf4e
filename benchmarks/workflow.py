"""How long Snakemake takes before the first job starts, and for dry runs, by the number of jobs.

    python benchmarks/workflow.py [--jobs 171 1000 10000] [--parent FOLDER]

The default study with more seeds, as a dry run in an empty folder; and a real start: from the command to the first job
of the default study that has started. Wall seconds and processor seconds: the second hardly depend on other work.
The last lines say what Python and Snakemake need by themselves, and what one light job costs beyond the start of Python
with its imports. Exit status 1 if a target is missed (processor seconds).
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIXED, PER_SEED = 53, 70  # jobs of the default study: 193 with two seeds
START_TARGET, LARGE_TARGET, JOB_TARGET = 4.0, 25.0, 0.5  # seconds: default study, 10,000 jobs, one light job
LIGHT_JOB = "reanalyse_print"


def measured(command: list[str], folder: Path) -> tuple[float, float, str]:
    """Wall and processor seconds of a command, its children included, and what it printed."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(done.stdout[-3000:])
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, done.stdout


def checkout(folder: Path) -> None:
    for name in ("workflow", "config", "data", "profiles"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "Snakefile", folder)


def snakemake(*options: str) -> list[str]:
    return [sys.executable, "-m", "snakemake", "--cores", "1", *options]


def first_start(folder: Path) -> float:
    """Seconds from the command until a job of the default study writes its log."""
    log, start = folder / f"logs/smollm2/{LIGHT_JOB}.log", time.perf_counter()
    process = subprocess.Popen(
        snakemake("results/smollm2/reanalysis.csv"), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not log.exists() and process.poll() is None:
        time.sleep(0.01)
    took = time.perf_counter() - start
    process.wait()
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[171, 1000, 10_000], help="sizes of the study")
    parser.add_argument("--parent", type=Path, help="where the temporary folder is made")
    args = parser.parse_args()
    missed = []
    with tempfile.TemporaryDirectory(dir=args.parent) as name:
        folder = Path(name)
        checkout(folder)
        print("jobs    dry run: wall s  processor s  ms a job")
        for wanted in sorted(args.jobs):
            seeds = max(1, round((wanted - FIXED) / PER_SEED))
            (folder / "config/size.yaml").write_text(f"seeds: {list(range(seeds))}\n")
            files = ["--configfile", "config/config.yaml", "config/size.yaml"]
            wall, cpu, printed = measured(snakemake("--dry-run", *files), folder)
            jobs = sum("  reason: " in line for line in printed.splitlines())
            print(f"{jobs:<7} {wall:15.1f} {cpu:12.1f} {1000 * cpu / jobs:9.1f}", flush=True)
            target = START_TARGET + (LARGE_TARGET - START_TARGET) * (jobs > 200) * jobs / 10_000
            missed += [f"{jobs} jobs: {cpu:.1f} s, target {target:.1f} s"] if cpu > target else []
        _, bare, _ = measured([sys.executable, "-c", "import snakemake.cli, snakemake.workflow"], folder)
        print(f"importing Snakemake alone: {bare:.1f} processor s")
        print(f"from the command to the first job of a run: {first_start(folder):.1f} s of wall time")
        out = ["--table", "a.csv", "--needed", "b.csv", "--log", "c.log"]
        published = ["--numbers", "data/published/numbers.csv", "--claims", "data/published/claims.csv"]
        script = [sys.executable, str(ROOT / f"workflow/scripts/{LIGHT_JOB}.py"), *published, *out]
        _, alone, _ = measured(script, folder)
        os.remove(folder / "results/smollm2/reanalysis.csv")
        target = "results/smollm2/reanalysis.csv"
        _, one, _ = measured(snakemake(target), folder)
        _, none, _ = measured(snakemake(target), folder)
        print(f"one light job: {one - none - alone:.2f} processor s beyond its script ({alone:.1f} s)")
        missed += [f"a light job: {one - none - alone:.2f} s"] if one - none - alone > JOB_TARGET else []
    for line in missed:
        print("missed:", line)
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
