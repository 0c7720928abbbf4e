"""The tables of the report: each function takes results as `colocate.results` reads them, returns a `Table` of text.

A table without rows is left out by the template, which then says why. Numbers are rounded here and nowhere else; the
CSV files beside the report have them in full.
"""

from dataclasses import dataclass

import pandas as pd

from colocate import formats as f
from colocate.figures.layer_sets import tracks
from colocate.figures.style import label
from colocate.results import accuracies, reference_contrasts

VERDICTS = (
    "reproduced",
    "contradicted",
    "inconclusive",
    "not_tested",
    "holds_here",
    "does_not_hold_here",
    "cannot_tell",
)
OUTCOMES = {  # outcome -> words, factor, unit, decimals
    "accuracy": ("accuracy", 100, "points", 1),
    "gold_logprob": ("log-probability of the gold answer", 1, "nat", 3),
    "margin": ("margin of the gold answer", 1, "nat", 3),
    "heldout_loss": ("held-out loss", 1, "nat per token", 3),
}


@dataclass(frozen=True)
class Table:
    """Text cells; the first of each row is its header.

    A column whose name begins with # holds one number a cell and is set flush right; with ! it holds verdicts.
    """

    caption: str
    columns: list[str]
    rows: list[list[str]]

    @property
    def head(self) -> list[str]:
        return [column.lstrip("#!") for column in self.columns]

    @property
    def kinds(self) -> list[str]:
        """num, verdict or text, by column."""
        return [{"#": "num", "!": "verdict"}.get(column[0], "text") for column in self.columns]


def profiles(inputs: dict) -> Table:
    """One row a layer, one column a profile: value and 95 % interval."""
    tables = {name: table.set_index("layer") for name, table in inputs["profiles"].items()}
    layers = sorted(set().union(*(table.index for table in tables.values())))

    def cell(table: pd.DataFrame, layer: int) -> str:
        if layer not in table.index:
            return f.NONE
        row = table.loc[layer]
        bounds = "" if f.missing(row["ci_low"]) else f" ({f.number(row['ci_low'])} to {f.number(row['ci_high'])})"
        return f.number(row["value"]) + bounds

    rows = [[str(layer), *(cell(table, layer) for table in tables.values())] for layer in layers]
    columns = [
        "layer",
        *(f"#{label(name)}, n\u00a0=\u00a0{f.number(table['n'].max())}" for name, table in tables.items()),
    ]
    return Table("Layer profiles: value and 95 % interval over items", columns, rows)


def correlations(inputs: dict) -> Table:
    """Size of every correlation, the primary pair first."""
    rows = []
    for name, row in _pairs(inputs["correlations"]):
        without = f.fixed(row["r_dis"], 2, True)
        if not f.missing(row["ci_low"]):
            without += f" ({f.interval(row['ci_low'], row['ci_high'], 2, True)})"
        reliability = f"{f.fixed(row['reliability_x'])} and {f.fixed(row['reliability_y'])}"
        cells = [f.fixed(row["r_s"], 2, True), f.fixed(row["partial_r_s"], 2, True), without, reliability]
        items = f"{f.number(row['n_items_x'])} and {f.number(row['n_items_y'])}"
        rows.append([name, *cells, items, f.number(row["n_layers"])])
    columns = ["profiles", "#r_s", "#r_s given depth", "#r without item noise (95 % interval over items)"]
    columns += ["reliability of each", "items of each", "#layers"]
    return Table("Rank correlations of sensitivity and RoPE influence", columns, rows)


def p_values(inputs: dict) -> Table:
    """All p values of every correlation, those that are not valid included and called so."""
    keys = ("p_depth", "p_depth3", "p_raw", "p_modified_t", "p_plain")
    rows = [[name, *(f.p_value(row[key]) for key in keys)] for name, row in _pairs(inputs["correlations"])]
    columns = ["profiles", "#given depth, the primary test", "#given depth, cubic", "#surrogates", "#modified t"]
    return Table("Their p values", [*columns, "#plain t, as printed; not valid for neighbouring layers"], rows)


def _pairs(table: pd.DataFrame):
    """(name of the pair in words, row), the primary pair first."""
    if len(table):
        for row in table.sort_values("primary", ascending=False, kind="stable").to_dict("records"):
            primary = " (primary)" if row["primary"] else ""
            yield f"{label(row['sensitivity'])} and {label(row['rope'])}{primary}", row


def specifications(inputs: dict) -> Table:
    """How r_s spreads over all readings of the two quantities: one row a pair of profiles."""
    table = inputs["specifications"]
    rows = []
    for (sensitivity, rope), part in table.groupby(["sensitivity", "rope"], sort=False) if len(table) else ():
        r = part["r_s"]
        cells = [f.number(len(part)), f.fixed(r.median(), 2, True), f.interval(r.min(), r.max(), 2, True)]
        cells += [f.percent((r <= -0.5).mean(), 0), f.percent((part["p_depth"] <= 0.05).mean(), 0)]
        rows.append([f"{label(sensitivity)} and {label(rope)}", *cells])
    columns = ["profiles", "#specifications", "#median r_s", "#range of r_s", "#share at or below −0.5"]
    columns.append("#share with p given depth at most 0.05")
    return Table("Other readings of the same two quantities: pooling, form, control, sign", columns, rows)


def arms(inputs: dict) -> Table:
    """What each arm adapts, and its budget; seeds with the same layers share a row."""
    rows = []
    for track in tracks(inputs["arms"]):
        arm = next(one for one in inputs["arms"] if one["arm"] == track["arm"] and one["seed"] == track["seeds"][0])
        deviation, n = arm.get("budget_deviation") or 0, arm["n_trainable"]
        share = f" ({f.percent(deviation / (n - deviation), 2)})" if deviation else ""
        cells = [
            f.layers(track["lora"]),
            f.layers(track["garfa"]),
            _span(arm["rank"]),
            _span(arm["alpha"]),
            f.number(n),
        ]
        rates = f"{arm['lr_lora']:g} and {arm['lr_garfa']:g}"
        rows.append([track["label"], *cells, f.number(deviation) + share, rates])
    columns = [
        "arm",
        "LoRA layers",
        "GARFA layers",
        "#rank",
        "#LoRA alpha",
        "#trainable parameters",
        "#off its budget by",
    ]
    return Table("What each arm trains", [*columns, "learning rates, LoRA and GARFA"], rows)


def _span(value) -> str:
    """One number, or the span of numbers by layer."""
    values = sorted(set(value.values())) if isinstance(value, dict) else [value]
    return f.number(values[0]) if len(values) == 1 else f"{f.number(values[0])} to {f.number(values[-1])}"


def benchmarks(inputs: dict) -> Table:
    """Arms x benchmarks: accuracy (mean over seeds), Wilson interval; last the mean of all benchmarks."""
    table = accuracies(inputs["evaluations"])
    names = list(dict.fromkeys(table["benchmark"]))
    rows = []
    for arm, part in table.groupby("arm", sort=False):
        cells = {row["benchmark"]: row for row in part.to_dict("records")}
        values = [cells[name]["accuracy"] if name in cells else float("nan") for name in names]
        mean = float("nan") if any(map(f.missing, values)) else 100 * sum(values) / len(values)
        seeds = max(len(row["by_seed"]) for row in cells.values())
        rows.append([label(arm), f.number(seeds), *(_accuracy(cells.get(name)) for name in names), f.fixed(mean, 1)])
    n = table.groupby("benchmark")["n"].max()
    columns = [
        "arm",
        "#seeds",
        *(f"#{label(name)}, n\u00a0=\u00a0{f.number(n[name])}" for name in names),
        "#mean of all",
    ]
    return Table("Accuracy in per cent (95 % Wilson interval over items)", columns, rows)


def _accuracy(row: dict | None) -> str:
    if row is None:
        return "not evaluated"
    if f.missing(row["accuracy"]):
        return row["status"]
    accuracy, low, high = (f.fixed(100 * row[key], 1) for key in ("accuracy", "ci_low", "ci_high"))
    return f"{accuracy} ({low}–{high})"


def evaluations(inputs: dict) -> Table:
    """Every evaluation on its own."""
    rows = []
    for row in inputs["evaluations"].to_dict("records"):
        cells = [label(row["benchmark"]), f.number(row["n"]), f.percent(row["accuracy"]), f.percent(row["stderr"])]
        near = "near chance" if row.get("near_chance") is True else ""
        said = "; ".join(filter(None, [str(row["status"] or ""), near]))
        cells += [f.number(row.get("gold_logprob")), f.number(row.get("margin")), said]
        rows.append([f"{label(row['arm'])}, seed {row['seed']}", *cells])
    columns = ["arm", "benchmark", "#n", "#accuracy", "#standard error", "#gold log-probability (nat)", "#margin (nat)"]
    return Table("Every evaluation", [*columns, "status"], rows)


def contrasts(inputs: dict, primary: bool) -> Table:
    """Contrasts of the primary family, or all others."""
    table = inputs["contrasts"]
    table = table[(table["family"] == "primary") == primary] if len(table) else table
    rows = []
    for row in table.to_dict("records"):
        words, factor, unit, digits = OUTCOMES.get(row["outcome"], (label(row["outcome"]), 1, "", 3))
        difference = f"{f.fixed(factor * row['difference'], digits, True)} {unit}"
        bounds = f.interval(factor * row["ci_low"], factor * row["ci_high"], digits, True)
        cells = [f"{words}, {label(str(row['benchmark']))}", difference, bounds, f.p_value(row["p"])]
        cells += [f.p_value(row["p_adjusted"])] if primary else []
        note = row.get("note")
        cells += [f.number(row["n_items"]), f.number(row["n_seeds"]), "" if f.missing(note) else str(note)]
        rows.append([f"{label(row['arm_a'])} − {label(row['arm_b'])}", *cells])
    columns = ["contrast", "outcome", "#difference", "#95 % interval", "#p", *(["#p, Holm"] if primary else [])]
    caption = "Primary contrasts" if primary else "Exploratory contrasts: not corrected, they suggest and do not show"
    return Table(caption, [*columns, "#items", "#seeds", "note"], rows)


def alphas(inputs: dict) -> Table:
    """One row an arm and seed: how far the scales moved, and where most."""
    rows = []
    for (arm, seed), part in inputs["alphas"].groupby(["arm", "seed"], sort=False):
        by_layer = part.groupby("layer")["alpha"].mean()
        top = by_layer.idxmax()
        first = ", the first adapted one" if top == by_layer.index.min() else ""
        cells = [
            f.number(len(part)),
            f.fixed(part["alpha"].mean(), 3),
            f.interval(part["alpha"].min(), part["alpha"].max(), 3),
        ]
        rows.append(
            [f"{label(arm)}, seed {seed}", *cells, f.percent((part["alpha"] > 1).mean(), 0), f"layer {top}{first}"]
        )
    columns = ["arm", "#scales", "#mean α", "#smallest to largest", "#above 1", "largest mean at"]
    return Table("Learned RoPE scales", columns, rows)


def claims(inputs: dict) -> Table:
    """Claims with a verdict in either setting: what was published, what was measured, and why the verdict is so."""
    judged = [(name, both) for name, both in _claims(inputs) if _tested(both)]
    with_direct = any(both.get("direct", {}).get("verdict", "not_tested") != "not_tested" for _, both in judged)
    rows = []
    for name, both in judged:
        here = both.get("conceptual") or both["direct"]
        unit = _words(here.get("unit"))
        threshold = f.NONE if f.missing(here["threshold"]) else f"{here['threshold']:g} {unit}".strip()
        verdicts = [_verdict(both.get("conceptual", {}))] + [_verdict(both.get("direct", {}))] * with_direct
        rows.append([name, *verdicts, _words(here["published"]), _measured(here, unit), threshold, _words(here["why"])])
    columns = ["claim", "!here", *["!in the published setting"] * with_direct, "published"]
    columns += ["#measured here (95 % interval)", "smallest size that counts", "why"]
    return Table("Verdict on the published claims", columns, rows)


def untested(inputs: dict) -> Table:
    """Claims without a verdict in any setting, and what they need."""
    rows = []
    for name, both in _claims(inputs):
        if not _tested(both):
            row = both.get("conceptual") or both["direct"]
            rows.append([name, _words(row["published"]), _measured(row, _words(row.get("unit"))), _words(row["why"])])
    columns = ["claim", "published", "#measured here, but not judged", "why it was not judged"]
    return Table("Published claims that this study cannot judge", columns, rows)


def sources(inputs: dict) -> Table:
    """Where each claim comes from, what was measured of it, and why its own setting has the verdict it has."""
    rows = [
        [name, *(_words(both.get("direct", {}).get(key)) for key in ("source", "known", "estimand", "why"))]
        for name, both in _claims(inputs)
    ]
    columns = ["claim", "source", "how it is known", "what is measured", "verdict in the published setting: why"]
    return Table("Sources of the claims", columns, rows)


def _tested(both: dict) -> bool:
    return any(row["verdict"] != "not_tested" for row in both.values())


def _words(value) -> str:
    return "" if f.missing(value) else str(value)


def _measured(row: dict, unit: str) -> str:
    digits = 1 if "point" in unit else 2
    bounds = "" if f.missing(row["ci_low"]) else f" ({f.interval(row['ci_low'], row['ci_high'], digits)})"
    return f.fixed(row["measured"], digits) + bounds


def tally(inputs: dict) -> str:
    """How often each conceptual verdict fell, in words."""
    table = inputs["claims"]
    if not len(table):
        return ""
    verdicts = table[table["scope"] == "conceptual"]["verdict"]
    counts = [f"{label(verdict)}: {(verdicts == verdict).sum()}" for verdict in (*VERDICTS[4:], "not_tested")]
    direct = (table[table["scope"] == "direct"]["verdict"] != "not_tested").sum()
    return f"{len(verdicts)} claims. In this setting {', '.join(counts)}. In the published setting tested: {direct}."


def _claims(inputs: dict):
    """(claim in words, {scope: row})."""
    table = inputs["claims"]
    for name, part in table.groupby("claim", sort=False) if len(table) else ():
        rows = {row["scope"]: row for row in part.to_dict("records")}
        text = next(iter(rows.values())).get("text")
        yield (label(str(name)) if f.missing(text) else str(text)), rows


def _verdict(row: dict) -> str:
    """A verdict in words, its sub-label in brackets."""
    if not row:
        return f.NONE
    if row["verdict"] not in VERDICTS:
        return str(row["verdict"])
    sub = row.get("label")
    return label(row["verdict"]) + ("" if f.missing(sub) or not sub else f" ({sub})")


def candidates(inputs: dict) -> Table:
    """Arms that the recommendation chose from, by held-out loss on validate."""
    rows = []
    for arm in inputs["recommendation"].get("candidates", []):
        above = arm.get("above_best") or {}
        worse = f.fixed(above.get("difference"), 3, True)
        if not f.missing(above.get("ci_low")):
            worse += f" ({f.interval(above['ci_low'], above['ci_high'], 3, True)})"
        cells = [f.fixed(arm["validate_loss"], 3), worse, f.p_value(arm["p_adjusted"])]
        rows.append([label(arm["arm"]), *cells, f.percent(arm["compute_share"], 0), f.number(arm["n_trainable"])])
    columns = ["arm", "#validate loss (nat per token)", "#above the best (95 % interval)", "#p, Holm"]
    columns += ["#training compute against all layers", "#trainable parameters"]
    return Table("What the recommendation chose from", columns, rows)


def power(inputs: dict) -> Table:
    """The smallest difference that contrasts with the reference arm can show, by benchmark and outcome."""
    table = inputs["power"]
    name, _ = reference_contrasts(inputs["contrasts"])
    table = table[table["arm_a"] == name] if len(table) else table
    rows = []
    for (benchmark, outcome), part in table.groupby(["benchmark", "outcome"], sort=False) if len(table) else ():
        words, factor, unit, digits = OUTCOMES.get(outcome, (label(outcome), 1, "", 3))
        low, high = (f.fixed(factor * value, digits) for value in (part["mde"].min(), part["mde"].max()))
        span = low if low == high else f"{low} to {high}"
        cells = [words, f"{span} {unit}", f.number(part["n_items"].max()), f.number(part["n_seeds"].max())]
        rows.append([label(str(benchmark)), *cells])
    columns = ["benchmark", "outcome", "#smallest difference it can show", "#items", "#seeds"]
    return Table("Power: what a contrast with the reference arm would show four times in five, at 5 %", columns, rows)


def reference(inputs: dict) -> str:
    """The arm that the primary contrasts test, in words, or nothing."""
    name, _ = reference_contrasts(inputs["contrasts"])
    return label(name) if name else ""


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
        rows.append([label(arm), *cells, _money(mean["cost"], part)])
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
        rows.append([label(str(rule)), *cells, _money(sums["cost"], part)])
    columns = ["kind of job", "#jobs", "#time, added up", "#peak memory", "#peak GPU memory", "#energy", "#cost"]
    return Table("The whole study", columns, rows)


def by_arm(compute: pd.DataFrame) -> pd.DataFrame:
    """Jobs of arms with `arm` and `seed`, out of labels such as `train_arm colocated seed 0`."""
    found = compute["label"].str.extract(r"(?P<arm>[\w-]+) seed (?P<seed>\d+)$")
    return compute.assign(arm=found["arm"], seed=found["seed"]).dropna(subset="arm")


def _memory(part: pd.DataFrame) -> list[str]:
    largest = part[["peak_memory_mib", "peak_gpu_memory_mib"]].apply(pd.to_numeric).max()
    return [f.NONE if f.missing(value) else f"{f.number(round(value))} MiB" for value in largest]


def _money(value, part: pd.DataFrame) -> str:
    if f.missing(value):
        return f.NONE
    return f"{f.fixed(value, 2 if value >= 1 else 4)} {part['currency'].iloc[0]}"


def plain(caption: str, table: pd.DataFrame) -> Table:
    """Any table as it is, numbers rounded."""
    rows = [[f.number(value) for value in row] for row in table.itertuples(index=False, name=None)]
    numeric = [pd.api.types.is_numeric_dtype(table[column]) for column in table.columns]
    columns = [("#" if number else "") + label(str(name)) for name, number in zip(table.columns, numeric, strict=True)]
    return Table(caption, columns, rows)
