"""Time, memory, energy and cost, by arm and by kind of job."""

import pandas as pd

from colocate import formats as f
from colocate.compute import AFTER
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
    """The study by kind of job, what took most time first, with its total."""
    rows = []
    kinds = list(compute.groupby("rule", sort=False)) if len(compute) else []
    kinds.sort(key=lambda kind: -pd.to_numeric(kind[1]["seconds"]).sum())
    for rule, part in [*kinds, ("all jobs", compute)] if kinds else ():
        sums = part[["seconds", "joules", "cost"]].apply(pd.to_numeric).sum(min_count=1)
        cells = [f.number(len(part)), f.duration(sums["seconds"]), *_memory(part), f.scaled(sums["joules"], "J")]
        rows.append([label(str(rule)), *cells, money(sums["cost"], part)])
    columns = ["kind of job", "#jobs", "#time, added up", "#peak memory", "#peak GPU memory", "#energy", "#cost"]
    return Table("The study by kind of job", columns, rows)


def ledger(compute: pd.DataFrame, finished: bool) -> str:
    """Which of the study's jobs are in the bill, which are not, and why; a study that goes on is not counted."""
    if not len(compute):
        return ""
    if not finished:
        return f"In the bill: {f.number(len(compute))} jobs that have ended."
    lost = compute[pd.to_numeric(compute["seconds"]).isna()]["rule"].value_counts()
    after = ", ".join(label(rule) for rule in AFTER)
    said = f"In the bill: {len(compute)} of the study's {len(compute) + len(AFTER)} jobs. "
    said += f"Not in it, because they come after it: {after}."
    if len(lost):
        named = ", ".join(f"{n} {label(rule)}" for rule, n in lost.items())
        said += f" Without numbers, because their records are lost: {named}."
    return said


def per_point(inputs: dict, compute: pd.DataFrame) -> Table:
    """What each arm's training gave over base on the mean of all benchmarks, and its price for a point."""
    table = inputs["contrasts"]
    jobs = by_arm(compute[compute["rule"] == "train_arm"]) if len(compute) else compute
    rows = []
    if len(table):
        table = table.query("arm_b == 'base' and outcome == 'accuracy' and benchmark == 'composite'")
    for row in table.to_dict("records"):
        part = jobs[jobs["arm"] == row["arm_a"]] if len(jobs) else jobs
        cost = pd.to_numeric(part["cost"]).mean() if len(part) else None
        gain, low, high = (100 * row[key] for key in ("difference", "ci_low", "ci_high"))
        price = f.NONE
        if not (f.missing(low) or f.missing(cost)):
            price = "no gain shown" if low <= 0 else money(cost / gain, part)
            price += f" ({money(cost / high, part)} to {money(cost / low, part)})" if low > 0 else ""
        cells = [f"{f.fixed(gain, 1, True)} ({f.interval(low, high, 1, True)})", money(cost, part), price]
        rows.append([label(row["arm_a"]), *cells])
    columns = ["arm", "#points over base (95 % interval)", "#cost of one training", "#cost of a point gained"]
    return Table("What a point over the untrained model costs", columns, rows)


def forecast(table: pd.DataFrame) -> Table:
    """Seconds and cost by kind of job, as the plan foresaw them and as they were."""
    rows = []
    for row in table.to_dict("records"):
        seconds = [f.duration(row.get(key)) for key in ("forecast_seconds", "seconds")]
        costs = [f.fixed(row.get(key), 3) for key in ("forecast_cost", "cost")]
        foreseen, measured = row.get("forecast_seconds"), row.get("seconds")
        known = foreseen and not (f.missing(foreseen) or f.missing(measured))
        ratio = f.fixed(measured / foreseen, 2) if known else f.NONE
        used = [
            f.percent(row.get("utilisation"), 0),
            f.duration(row.get("gpu_seconds") or None),
            f.scaled(row.get("joules"), "J"),
        ]
        rows.append([label(str(row["rule"])), f.number(row.get("jobs")), *seconds, ratio, *costs, *used])
    columns = ["kind of job", "#jobs", "#time, forecast", "#time, measured", "#measured over forecast"]
    columns += ["#cost, forecast", "#cost", "#busy", "#GPU time", "#energy"]
    return Table("The bill against its forecast", columns, rows)


def totals(compute: pd.DataFrame) -> str:
    """A sentence: what training alone took, and everything, beside what the published study says it cost."""
    if not len(compute):
        return ""
    said = []
    for words, part in (("Training alone", compute[compute["rule"] == "train_arm"]), ("everything", compute)):
        sums = part[["seconds", "cost"]].apply(pd.to_numeric).sum()
        said.append(f"{words} took {f.duration(sums['seconds'])} of job time and {money(sums['cost'], compute)}")
    return (
        f"{', '.join(said)}, at this study's prices. Rao 2026 reports 100 US dollars for Llama 3.1 8B, without parts."
    )


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
