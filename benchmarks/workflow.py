"""How long Snakemake takes before the first job starts, and for dry runs, by the number of jobs.

    python benchmarks/workflow.py [--jobs 131 208 1000 10000] [--parent FOLDER]

The default study with fewer or more seeds, in an empty folder: as a dry run; and started for real, until its first job
has started. Wall seconds and processor seconds: the second hardly depend on other work.
The last lines say what Python and Snakemake need by themselves, and what one light job costs beyond the start of Python
with its imports. Exit status 1 if a target is missed (processor seconds).
"""

import argparse
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIXED, PER_SEED = 54, 77  # jobs of the default study: 208 with two seeds
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


def fresh(folder: Path) -> None:
    for name in (".snakemake", "results", "logs", "resources", "scratch", "reports"):
        shutil.rmtree(folder / name, ignore_errors=True)


def first_start(folder: Path, files: list[str]) -> tuple[float, float]:
    """Wall and processor seconds of Snakemake from the command until the first job has started; then all is killed.

    In a folder where nothing has run yet. A job has started when its log is there: the first thing that its script
    opens, so that the start of its Python is in the wall time.
    """
    fresh(folder)
    start = time.perf_counter()
    process = subprocess.Popen(
        snakemake(*files), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not any(folder.glob("logs/**/*.log")) and process.poll() is None:
        time.sleep(0.01)
    wall = time.perf_counter() - start
    if process.poll() is not None:
        sys.exit(f"no job has started: {' '.join(snakemake(*files))} ended with {process.returncode}")
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    fresh(folder)
    return wall, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime and stime: proc(5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[131, 208, 1000, 10_000], help="sizes of the study")
    parser.add_argument("--parent", type=Path, help="where the temporary folder is made")
    args = parser.parse_args()
    missed = []
    with tempfile.TemporaryDirectory(dir=args.parent) as name:
        folder = Path(name)
        checkout(folder)
        print("jobs    dry run: wall s  processor s  ms a job   first job after: wall s  processor s")
        for wanted in sorted(args.jobs):
            seeds = max(1, round((wanted - FIXED) / PER_SEED))
            (folder / "config/size.yaml").write_text(f"seeds: {list(range(seeds))}\n")
            files = ["--configfile", "config/config.yaml", "config/size.yaml"]
            wall, cpu, printed = measured(snakemake("--dry-run", *files), folder)
            jobs = sum("  reason: " in line for line in printed.splitlines())
            started, first = first_start(folder, files)
            print(
                f"{jobs:<7} {wall:15.1f} {cpu:12.1f} {1000 * cpu / jobs:9.1f} {started:26.1f} {first:12.1f}", flush=True
            )
            target = START_TARGET + (LARGE_TARGET - START_TARGET) * (jobs > 200) * jobs / 10_000
            for what, took in (("dry run", cpu), ("first job", first)):
                missed += [f"{jobs} jobs, {what}: {took:.1f} s, target {target:.1f} s"] if took > target else []
        _, bare, _ = measured([sys.executable, "-c", "import snakemake.cli, snakemake.workflow"], folder)
        print(f"importing Snakemake alone: {bare:.1f} processor s")
        out = ["--table", "a.csv", "--needed", "b.csv", "--log", "c.log"]
        published = ["--numbers", "data/published/numbers.csv", "--claims", "data/published/claims.csv"]
        script = [sys.executable, str(ROOT / f"workflow/scripts/{LIGHT_JOB}.py"), *published, *out]
        _, alone, _ = measured(script, folder)
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
