"""Time, memory, energy and cost, by arm and by kind of job."""

import pandas as pd

from colocate import formats as f
from colocate.figures.style import label
from colocate.report.table import Table


def compute_by_arm(inputs: dict, compute: pd.DataFrame) -> Table:
    """Training: what one run of each arm takes, the mean over its seeds."""
    jobs = by_arm(compute[compute["rule"] == "train_arm"]) if len(compute) else compute
    rows = []
    for arm, part in jobs.groupby("arm", sort=False) if len(jobs) else ():
        trainable = [one["n_trainable"] for one in inputs["arms"] if one["arm"] == arm]
        mean = part[["tokens", "flops", "seconds", "joules", "cost"]].apply(pd.to_numeric).mean()
        cells = [f.number(trainable[0]) if trainable else f.NONE, f.number(len(part)), f.number(mean["tokens"])]
        cells += [
            f.scaled(mean["flops"], "FLOP"),
            f.duration(mean["seconds"]),
            *_memory(part),
            f.scaled(mean["joules"], "J"),
        ]
        rows.append([label(arm), *cells, money(mean["cost"], part)])
    columns = [
        "arm",
        "#trainable parameters",
        "#runs",
        "#tokens",
        "#compute",
        "#time",
        "#peak memory",
        "#peak GPU memory",
    ]
    return Table("Training, per run: mean over seeds, largest memory", [*columns, "#energy", "#cost"], rows)


def compute_by_rule(compute: pd.DataFrame) -> Table:
    """The whole study by kind of job, with its total."""
    rows = []
    for rule, part in [*compute.groupby("rule", sort=False), ("all jobs", compute)] if len(compute) else ():
        sums = part[["seconds", "joules", "cost"]].apply(pd.to_numeric).sum(min_count=1)
        cells = [f.number(len(part)), f.duration(sums["seconds"]), *_memory(part), f.scaled(sums["joules"], "J")]
        rows.append([label(str(rule)), *cells, money(sums["cost"], part)])
    columns = ["kind of job", "#jobs", "#time, added up", "#peak memory", "#peak GPU memory", "#energy", "#cost"]
    return Table("The whole study", columns, rows)


def by_arm(compute: pd.DataFrame) -> pd.DataFrame:
    """Jobs of arms with `arm` and `seed`, out of labels such as `train_arm colocated seed 0`."""
    found = compute["label"].str.extract(r"(?P<arm>[\w-]+) seed (?P<seed>\d+)$")
    return compute.assign(arm=found["arm"], seed=found["seed"]).dropna(subset="arm")


def _memory(part: pd.DataFrame) -> list[str]:
    largest = part[["peak_memory_mib", "peak_gpu_memory_mib"]].apply(pd.to_numeric).max()
    return [f.NONE if f.missing(value) else f"{f.number(round(value))} MiB" for value in largest]


def money(value, part: pd.DataFrame) -> str:
    if f.missing(value):
        return f.NONE
    return f"{f.fixed(value, 2 if value >= 1 else 4)} {part['currency'].iloc[0]}"
