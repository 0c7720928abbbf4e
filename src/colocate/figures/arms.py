"""Forest plot: the reference arm minus every other arm, on composite accuracy and on held-out loss, with 95 %
intervals.
"""

from colocate.figures.style import GRID, INK, MUTED, PAPER, arm_colour, arm_marker, canvas, label, message
from colocate.results import reference_contrasts


def draw(inputs: dict):
    reference, _ = reference_contrasts(inputs["contrasts"])
    found = table(inputs)
    outcomes = {outcome: part for outcome, part in found.groupby("outcome", sort=False)} if len(found) else {}
    if not outcomes:
        return message("No arm has been contrasted with another.")
    others = list(dict.fromkeys(arm for rows in outcomes.values() for arm in rows["arm_b"]))
    figure, axes = canvas(1.2 + 0.34 * len(others), 1, len(outcomes), sharey=True)
    for axis, (outcome, rows) in zip(axes[0], outcomes.items(), strict=True):
        in_points = outcome == "accuracy"
        intervals(axis, rows, others, 100 if in_points else 1)
        axis.set_title("composite accuracy" if in_points else "held-out loss")
        unit = "percentage points" if in_points else "nat per token"
        side = f"{label(reference)} better →" if in_points else f"← {label(reference)} better"
        axis.set_xlabel(f"{label(reference)} minus the other ({unit})\n{side}")
    axes[0, 0].set_yticks(range(len(others)), [f"minus {label(arm)}" for arm in others])
    axes[0, 0].set_ylim(len(others) - 0.4, -0.7)
    return figure


def intervals(axis, rows, others: list[str], unit: float) -> None:
    """One line a contrast; the primary family filled and with its Holm-corrected p at the right edge."""
    axis.axvline(0, color=INK, linewidth=1)
    for row in rows.dropna(subset="mde").to_dict("records"):
        width = unit * row["mde"]
        axis.barh(others.index(row["arm_b"]), 2 * width, 0.5, left=-width, color=GRID, zorder=0)
    for row in rows.to_dict("records"):
        y, primary = others.index(row["arm_b"]), row["family"] == "primary"
        colour, marker = arm_colour(row["arm_b"]), arm_marker(row["arm_b"])
        axis.plot([unit * row["ci_low"], unit * row["ci_high"]], [y, y], color=colour, solid_capstyle="butt")
        face = colour if primary else PAPER
        axis.plot(unit * row["difference"], y, marker, color=colour, markerfacecolor=face, markersize=6)
        if primary:
            place = {"xycoords": ("axes fraction", "data"), "va": "center", "annotation_clip": False}
            axis.annotate(f"p = {row['p_adjusted']:.2g}", (1.01, y), color=MUTED, fontsize=8, **place)
    axis.grid(visible=False, axis="y")
    axis.margins(x=0.08)
    axis.use_sticky_edges = False  # else a bar that ends furthest out is cut at its end


def table(inputs: dict):
    """Every contrast drawn, with `mde`: the smallest difference that it would show four times in five."""
    import pandas as pd

    _, outcomes = reference_contrasts(inputs["contrasts"])
    rows = pd.concat(outcomes.values(), ignore_index=True) if outcomes else pd.DataFrame()
    keys = ["arm_a", "arm_b", "benchmark", "outcome"]
    if not len(rows) or not len(inputs["power"]):
        return rows.assign(mde=float("nan"))
    return rows.drop(columns="mde", errors="ignore").merge(inputs["power"][[*keys, "mde"]], on=keys, how="left")
