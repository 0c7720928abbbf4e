"""The bill, one row a job, and what the jobs ran on and when: out of the run records.

Cost (colocate.prices) is worked out here and not in the jobs, so that a new price reruns nothing but this table.
"""

from collections import Counter
from collections.abc import Iterable
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
FORECAST = [
    *("rule", "stage", "jobs", "forecast_seconds", "seconds", "gpu_seconds", "joules", "forecast_cost", "cost"),
    *("currency", "utilisation"),
]


def model_of(path: str | Path) -> str:
    """The model that a run record speaks of: resources/models/{model}.run.json, else results/{study}/{model}/..."""
    parts = Path(path).parts
    return parts[2] if parts[0] == "results" else Path(path).name.removesuffix(".run.json")


def collect(records: Iterable[str | Path], prices: dict):
    """Table with COLUMNS, one row a run record, in the order given; what a job does not know stays empty."""
    import pandas as pd

    rows = []
    for path in records:
        record = read_json(path)
        missing = [key for key in ("rule", "seconds", "threads", "peak_memory_mib") if key not in record]
        if missing:
            raise InputError(f"{path}: not a run record: key {missing[0]} is missing; delete it to run its job again")
        row = {column: record.get(column) for column in COLUMNS}
        memory = record["peak_memory_mib"]
        row["model"] = model_of(path)
        row |= {"peak_memory_mib": memory["cpu"], "peak_gpu_memory_mib": memory["gpu"]}
        rows.append(row | {"cost": cost(record, prices), "currency": prices["currency"]})
    return pd.DataFrame(rows, columns=COLUMNS)


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
