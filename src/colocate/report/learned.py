"""Section 4: what the arms learned. RoPE scales, and layer gain against each cheap metric."""

from colocate import formats as f
from colocate.figures.style import label
from colocate.report.table import Table


def section(inputs: dict) -> dict:
    """What section 4 shows of one model."""
    return {"alphas": alphas(inputs), "regret": regret(inputs)}


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
