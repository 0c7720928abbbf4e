"""The bill, one row a job, and what the jobs ran on and when: out of the run records.

    python -m colocate.compute [STUDY]      (make times): jobs and minutes of a finished study, by rule

Cost (colocate.prices) is worked out here and not in the jobs, so that a new price reruns nothing but this table.
Four jobs come after it and are not in it (AFTER). Of a job whose record is lost there is a row without numbers.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from colocate.errors import InputError
from colocate.files import read_json
from colocate.prices import cost, hourly

COLUMNS = [
    *("rule", "model", "label", "device", "dtype", "threads", "seconds", "tokens", "steps", "flops"),
    *("peak_memory_mib", "peak_gpu_memory_mib", "joules", "cost", "currency"),
    *("cpu_seconds", "gpu_utilisation"),
]
MACHINE = ("host_machine", "gpu_name", "device", "dtype", "threads")  # what tells kinds of machine apart
AFTER = ("collect_compute", "compare_models", "write_report", "describe_run")  # one job of each
SHARED = {"fetch_model": "resources/downloads", "fetch_benchmark": "resources/datasets"}  # records shared by studies
FORECAST = [
    *("rule", "stage", "jobs", "forecast_seconds", "seconds", "gpu_seconds", "joules", "forecast_cost", "cost"),
    *("currency", "utilisation"),
]


def model_of(path: str | Path) -> str:
    """The model that a run record speaks of: resources/models/{model}.run.json, else results/{study}/{model}/..."""
    parts = Path(path).parts
    return parts[2] if parts[0] == "results" else Path(path).name.removesuffix(".run.json")


def undeclared(jobs: dict[str, list[str]], logs: str | Path) -> dict[Path, tuple[str, str]]:
    """{run record: (rule, name)} of jobs whose record is no input of the bill.

    jobs    {rule: names of its jobs, such as "tiny/colocated/seed0", or "" for the only one}
    logs    folder of the study's logs
    """
    places = {}
    for rule, names in jobs.items():
        folder = SHARED.get(rule, f"{logs}/{rule}")
        places |= {Path(f"{folder}/{name}".rstrip("/") + ".run.json"): (rule, name) for name in names}
    return places


def collect(records: Iterable[str | Path], prices: dict, others: Mapping[Path, tuple[str, str]] | None = None):
    """Table with COLUMNS, one row a job, in the order given; what is not known of a job stays empty.

    records     run records
    others      of `undeclared`: more of them, which may be missing
    """
    import pandas as pd

    rows = [_row(path, prices) | {"model": model_of(path)} for path in records]
    for path, (rule, name) in (others or {}).items():
        model = None if rule == "fetch_benchmark" else name.partition("/")[0] or None
        lost = {"rule": rule, "label": f"{rule} {name.replace('/', ' ')}".strip(), "currency": prices["currency"]}
        rows.append((_row(path, prices) if path.is_file() else lost) | {"model": model})
    return pd.DataFrame(rows, columns=COLUMNS)


def _row(path: str | Path, prices: dict) -> dict:
    record = read_json(path)
    missing = [key for key in ("rule", "seconds", "threads", "peak_memory_mib") if key not in record]
    if missing:
        raise InputError(f"{path}: not a run record: key {missing[0]} is missing; delete it to run its job again")
    row, memory = {column: record.get(column) for column in COLUMNS}, record["peak_memory_mib"]
    row |= {"peak_memory_mib": memory["cpu"], "peak_gpu_memory_mib": memory["gpu"]}
    return row | {"cost": cost(record, prices), "currency": prices["currency"]}


def environment(records: Iterable[str | Path]) -> dict:
    """What the jobs of these run records ran on, and when.

    versions    {package: its versions over all records, sorted}
    machines    [{host_machine, gpu_name, device, dtype, threads, jobs}]: kinds of machine, the one of most jobs first
    begin, end  of the first and the last job, UTC, to the second: times at which records were written, less the
                seconds each one holds. Files that were copied without their times keep durations, not dates
    """
    versions: dict[str, set[str]] = {}
    kinds, times = Counter(), []
    for path in records:
        record, end = read_json(path), Path(path).stat().st_mtime
        times.append((end - record.get("seconds", 0.0), end))
        for package, version in record.get("versions", {}).items():
            versions.setdefault(package, set()).add(version)
        if record.get("device"):
            kinds[tuple(record.get(key) for key in MACHINE)] += 1
    if not times:
        raise InputError("no run record: nothing tells when this study was run; run its jobs first")
    begin, end = min(start for start, _ in times), max(end for _, end in times)
    return {
        "versions": {package: sorted(found) for package, found in sorted(versions.items())},
        "machines": [dict(zip(MACHINE, kind, strict=True), jobs=jobs) for kind, jobs in kinds.most_common()],
        "begin": datetime.fromtimestamp(begin, UTC).isoformat(timespec="seconds"),
        "end": datetime.fromtimestamp(end, UTC).isoformat(timespec="seconds"),
    }


def forecast(table, expected: dict[str, dict[str, float]], stages: dict[str, str], prices: dict):
    """Table with FORECAST: what each rule's finished jobs were expected to take and took, in the order of `expected`.

    table       of `collect`
    expected    {rule: {"cuda", "float32", "bfloat16": seconds of one job, before anything was measured}}
    stages      {rule: its stage}
    joules      empty where no job was measured; utilisation: of cards, or CPU seconds over seconds and threads
    """
    import pandas as pd

    rows = []
    for rule, seconds in expected.items():
        jobs = table[table["rule"] == rule]
        if jobs.empty:
            continue
        on_gpu = jobs["device"] == "cuda"
        devices = zip(on_gpu, jobs["dtype"], strict=True)
        kind = ["cuda" if gpu else "bfloat16" if dtype == "bfloat16" else "float32" for gpu, dtype in devices]
        each = pd.Series([seconds[one] for one in kind], index=jobs.index)
        price = pd.Series([hourly(prices, gpu, n) for gpu, n in zip(on_gpu, jobs["threads"], strict=True)], jobs.index)
        busy = pd.to_numeric(jobs["gpu_utilisation"]) * jobs["seconds"]
        busy = busy.where(on_gpu, pd.to_numeric(jobs["cpu_seconds"]) / jobs["threads"])
        known = jobs["seconds"][busy.notna()].sum()
        rows.append(
            [rule, stages[rule], len(jobs), each.sum(), jobs["seconds"].sum(), jobs["seconds"][on_gpu].sum()]
            + [pd.to_numeric(jobs["joules"]).sum(min_count=1), (each * price).sum() / 3600, jobs["cost"].sum()]
            + [prices["currency"], busy.sum() / known if known else None]
        )
    return pd.DataFrame(rows, columns=FORECAST)


def minutes(study: str, root: str | Path = ".") -> str:
    """Jobs and minutes of a study by rule, most minutes first, the four after the bill included.

    InputError where the study is not finished: compute.csv comes last but for those.
    """
    import pandas as pd

    path = Path(root) / "results" / study / "compute.csv"
    if not path.is_file():
        there = sorted(found.parent.name for found in path.parents[1].glob("*/compute.csv"))
        raise InputError(f"{path}: no such file; finished studies here: {', '.join(there) or 'none'}")
    jobs = pd.read_csv(path)[["rule", "seconds"]]
    last = [Path(root) / "logs" / study / f"{rule}.run.json" for rule in AFTER]
    last = [(record["rule"], record["seconds"]) for record in map(read_json, filter(Path.is_file, last))]
    jobs = pd.concat([jobs, pd.DataFrame(last, columns=list(jobs))])
    rules = jobs.groupby("rule")["seconds"].agg(["size", "count", "sum"])
    rules = rules.sort_values("sum", ascending=False, kind="stable")
    rows = [(rule, row["size"], row["sum"] / 60) for rule, row in rules.iterrows()]
    said = [f"Study {study}: job time, added up, from the start of a job's script to its end", ""]
    said += [f"{'rule':20} {'jobs':>6} {'minutes':>9}"]
    said += [
        f"{rule:20} {n:6.0f} {took:9.2f}" for rule, n, took in [*rows, ("all", len(jobs), jobs.seconds.sum() / 60)]
    ]
    lost = rules["size"] - rules["count"]
    if lost.any():
        said += ["", "Not measured: " + ", ".join(f"{n} {rule}" for rule, n in lost[lost > 0].items())]
    return "\n".join([*said, "", f"Every job: {path}"])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m colocate.compute", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("study", nargs="?", help="the study's name (default: the one that was finished last)")
    try:
        print(minutes(parser.parse_args(argv).study or latest()))
    except InputError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    return 0


def latest(root: str | Path = ".") -> str:
    """The study whose bill was made last. InputError where none is finished."""
    found = sorted(Path(root).glob("results/*/compute.csv"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise InputError("no study has been finished here: results/*/compute.csv is made at its end; run: make study")
    return found[-1].parent.name


if __name__ == "__main__":
    sys.exit(main())
