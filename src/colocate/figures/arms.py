"""Forest plot: the reference arm minus every other arm, on composite accuracy and on held-out loss, with 95 %
intervals.
"""

from colocate.figures.style import BLUE, INK, MUTED, PAPER, canvas, label, message
from colocate.results import reference_contrasts


def draw(inputs: dict):
    reference, outcomes = reference_contrasts(inputs["contrasts"])
    if not outcomes:
        return message("No arm has been contrasted with another.")
    others = list(dict.fromkeys(arm for table in outcomes.values() for arm in table["arm_b"]))
    figure, axes = canvas(1.2 + 0.34 * len(others), 1, len(outcomes), sharey=True)
    for axis, (outcome, table) in zip(axes[0], outcomes.items(), strict=True):
        in_points = outcome == "accuracy"
        intervals(axis, table, others, 100 if in_points else 1)
        axis.set_title("composite accuracy" if in_points else "held-out loss")
        unit = "percentage points" if in_points else "nat per token"
        side = f"{label(reference)} better →" if in_points else f"← {label(reference)} better"
        axis.set_xlabel(f"{label(reference)} minus the other ({unit})\n{side}")
    axes[0, 0].set_yticks(range(len(others)), [f"minus {label(arm)}" for arm in others])
    axes[0, 0].set_ylim(len(others) - 0.4, -0.7)
    return figure


def intervals(axis, table, others: list[str], unit: float) -> None:
    """One line a contrast; the primary family filled and with its Holm-corrected p at the right edge."""
    axis.axvline(0, color=INK, linewidth=1)
    for row in table.to_dict("records"):
        y, primary = others.index(row["arm_b"]), row["family"] == "primary"
        axis.plot([unit * row["ci_low"], unit * row["ci_high"]], [y, y], color=BLUE, solid_capstyle="butt")
        face = BLUE if primary else PAPER
        axis.plot(unit * row["difference"], y, "o", color=BLUE, markerfacecolor=face, markersize=6)
        if primary:
            place = {"xycoords": ("axes fraction", "data"), "va": "center", "annotation_clip": False}
            axis.annotate(f"p = {row['p_adjusted']:.2g}", (1.01, y), color=MUTED, fontsize=8, **place)
    axis.grid(visible=False, axis="y")
    axis.margins(x=0.08)
