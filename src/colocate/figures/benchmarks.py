"""Accuracy of every arm, one panel a benchmark: mean and seeds, Wilson's interval, lines for the base and guessing."""

import numpy as np

from colocate.figures.style import INK, MUTED, PAPER, arm_colour, arm_marker, label, message, panels, x_title
from colocate.results import accuracies
from colocate.statistics.benchmarks import chance


def draw(inputs: dict):
    table = accuracies(inputs["evaluations"])
    if table.empty:
        return message("No arm has been evaluated.")
    benchmarks, arms = list(dict.fromkeys(table["benchmark"])), list(dict.fromkeys(table["arm"]))
    figure, axes = panels(len(benchmarks), 0.55 + 0.23 * len(arms), 3, sharey=True)
    for axis, benchmark in zip(axes, benchmarks, strict=True):
        rows = table[table["benchmark"] == benchmark]
        for row in rows.to_dict("records"):
            one_arm(axis, arms.index(row["arm"]), row)
        guessing = chance(benchmark)
        if guessing:
            axis.axvline(100 * guessing, color=MUTED, linewidth=1, linestyle=":")
        n = rows["n"].max()
        axis.set_title(f"{label(benchmark)}, n = {n:.0f}" if np.isfinite(n) else label(benchmark))
        axis.grid(visible=False, axis="y")
        axis.set_xlim(left=0)
        axis.tick_params(axis="y", length=0)
    x_title(axes, "accuracy (%)")
    axes[0].set_yticks(range(len(arms)), [label(arm) for arm in arms])
    axes[0].set_ylim(len(arms) - 0.4, -0.6)
    return figure


def one_arm(axis, y: int, row: dict) -> None:
    if not np.isfinite(row["accuracy"]):
        box = {"facecolor": PAPER, "edgecolor": "none", "pad": 1}
        place = {"va": "center", "transform": axis.get_yaxis_transform(), "zorder": 5}
        axis.text(0.02, y, row["status"], fontsize=7.5, color=MUTED, bbox=box, **place)
        return
    is_base = row["arm"] == "base"
    colour = arm_colour(row["arm"])
    if is_base:
        axis.axvline(100 * row["accuracy"], color=INK, linewidth=1, linestyle="--")
    axis.plot([100 * row["ci_low"], 100 * row["ci_high"]], [y, y], color=colour, linewidth=1.2)
    axis.plot(100 * row["accuracy"], y, arm_marker(row["arm"]), color=colour, markersize=5, clip_on=False, zorder=4)
    if len(row["by_seed"]) > 1:
        seeds = [100 * value for value in row["by_seed"]]
        axis.plot(seeds, [y] * len(seeds), "|", color=INK, markersize=8, clip_on=False, zorder=4)


def table(inputs: dict):
    """arm, benchmark, accuracy, ci_low, ci_high (shares of 1), n, by_seed, status."""
    found = accuracies(inputs["evaluations"])
    return found.assign(by_seed=[" ".join(map(str, values)) for values in found["by_seed"]]) if len(found) else found
