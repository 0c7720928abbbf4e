"""The bill: one row a job, out of the run records.

Cost = seconds x price: a job on a GPU pays for one card (`gpu_hour`), any other for its CPU threads (`cpu_hour` each).
It is worked out here and not in the jobs, so that a new price reruns nothing but this table.
"""

from collections.abc import Iterable
from pathlib import Path

from colocate.errors import InputError
from colocate.files import read_json

COLUMNS = [
    *("rule", "model", "label", "device", "dtype", "threads", "seconds", "tokens", "steps", "flops"),
    *("peak_memory_mib", "peak_gpu_memory_mib", "joules", "cost", "currency"),
]


def cost(record: dict, prices: dict) -> float:
    """Price of one job, in the currency of `prices` (gpu_hour, cpu_hour)."""
    on_gpu = record.get("device") == "cuda"
    hourly = prices["gpu_hour"] if on_gpu else prices["cpu_hour"] * record["threads"]
    return record["seconds"] / 3600 * hourly


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
