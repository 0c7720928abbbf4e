"""Section 5: what to adapt, and what it was chosen from."""

from colocate import formats as f
from colocate.figures.style import label
from colocate.report.table import Table


def section(inputs: dict) -> dict:
    """What section 5 shows of one model."""
    return {"recommendation": inputs["recommendation"], "candidates": candidates(inputs)}


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
