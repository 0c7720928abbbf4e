"""Section 4: what the arms learned. RoPE scales, and layer gain against each cheap metric."""

from colocate import formats as f
from colocate.figures.style import label
from colocate.report.table import Table


def section(inputs: dict) -> dict:
    """What section 4 shows of one model."""
    return {function.__name__: function(inputs) for function in (alphas, temperatures, losses, changes, regret)}


def alphas(inputs: dict) -> Table:
    """One row an arm and seed: how far the scales moved, and where most."""
    return _per_head(inputs["alphas"], "alpha", "Learned RoPE scales", ["scales", "mean α"])


def temperatures(inputs: dict) -> Table:
    """The same of the learned temperatures of attention logits, the control for GARFA."""
    return _per_head(inputs["temperatures"], "temperature", "Learned temperatures", ["temperatures", "mean"])


def _per_head(table, column: str, caption: str, names: list[str]) -> Table:
    rows = []
    for (arm, seed), part in table.groupby(["arm", "seed"], sort=False):
        by_layer = part.groupby("layer")[column].mean()
        top = by_layer.idxmax()
        first = ", the first adapted one" if top == by_layer.index.min() else ""
        cells = [
            f.number(len(part)),
            f.fixed(part[column].mean(), 3),
            f.interval(part[column].min(), part[column].max(), 3),
        ]
        rows.append(
            [f"{label(arm)}, seed {seed}", *cells, f.percent((part[column] > 1).mean(), 0), f"layer {top}{first}"]
        )
    columns = ["arm", *(f"#{name}" for name in names), "#smallest to largest", "#above 1", "largest mean at"]
    return Table(caption, columns, rows)


def regret(inputs: dict) -> Table:
    """Every cheap metric scored by measured layer gain."""
    rows = []
    for row in inputs["regret"].to_dict("records"):
        value = f.fixed(row["regret"], 2)
        if not f.missing(row.get("ci_low")):
            value += f" ({f.interval(row['ci_low'], row['ci_high'], 2)})"
        note = "" if f.missing(row.get("note")) else str(row["note"])
        cells = [row["direction"], label(row["against"]), f.number(row["k"]), value, f.number(row["n_seeds"]), note]
        rows.append([label(row["metric"]), *cells])
    columns = ["metric", "its layers", "against", "#k", "#regret (95 % over seeds)", "#seeds", "note"]
    return Table("Regret of each metric: 0 = the best layers, 1 = no better than random ones", columns, rows)


def losses(inputs: dict) -> Table:
    """Held-out loss before and after training, one row a run."""
    table = inputs["training_logs"]
    held = table[table["split"].isin(["validate", "test"])] if len(table) else table
    rows = []
    for (arm, seed), part in held.groupby(["arm", "seed"], sort=False) if len(held) else ():
        cells = []
        for split in ("validate", "test"):
            loss = part[part["split"] == split].sort_values("step")["loss"]
            before, after = (loss.iloc[0], loss.iloc[-1]) if len(loss) > 1 else (None, None)
            change = None if before is None else after - before
            cells += [f.fixed(before, 3), f.fixed(after, 3), f.fixed(change, 3, True)]
        rows.append([f"{label(arm)}, seed {seed}", *cells])
    columns = [f"#{split}, {when}" for split in ("validate", "test") for when in ("before", "after", "change")]
    return Table("Held-out loss before and after training (nat per token)", ["run", *columns], rows)


def changes(inputs: dict) -> Table:
    """Where each arm changed most and least by each measure against base: means over seeds."""
    table = inputs["arm_profiles"]
    grouped = table.sort_values("metric", kind="stable").groupby(["metric", "arm"], sort=False) if len(table) else ()
    rows = []
    for (metric, arm), part in grouped:
        by_layer = part.groupby("layer")["value"].mean().dropna()
        if not len(by_layer):
            continue
        n = len(by_layer)
        fifths = [by_layer[by_layer.index < n // 5], by_layer[by_layer.index >= n - n // 5]]
        middle = by_layer.drop([*fifths[0].index, *fifths[1].index])
        cells = [f.number(values.mean()) for values in (fifths[0], middle, fifths[1])]
        ends = [f"{f.number(by_layer[at])} at layer {at}" for at in (by_layer.idxmin(), by_layer.idxmax())]
        rows.append([f"{label(metric)}: {label(arm)}", *cells, *ends])
    columns = ["measure, arm", "#first fifth", "#middle", "#last fifth", "smallest", "largest"]
    return Table("Change by depth against the base model: means over layers and seeds", columns, rows)
