"""Regret of every cheap layer metric against measured layer gain: 0 = it picks the best layers, 1 = random ones."""

import numpy as np
from matplotlib.lines import Line2D

from colocate.figures.style import BLUE, MUTED, ORANGE, canvas, label, legend, message

LOOKS = {"top": ("o", BLUE, "the highest layers of the metric"), "bottom": ("s", ORANGE, "its lowest layers")}


def draw(inputs: dict):
    table = inputs["regret"]
    if not len(table):
        return message("This study has not measured layer gain (select.layer_gain), so no metric can be scored.")
    table = table.dropna(subset="regret")
    against = list(dict.fromkeys(table["against"]))
    best = table[table["against"] == against[0]].groupby("metric")["regret"].min()
    names = list(best.sort_values(ascending=False).index)
    figure, axes = canvas(1.0 + 0.24 * len(names), columns=len(against), sharey=True)
    for axis, kind in zip(axes[0], against, strict=True):
        for value, style in ((0, "-"), (1, "--")):
            axis.axvline(value, color=MUTED, linestyle=style, linewidth=0.8)
        for direction, (marker, colour, _) in LOOKS.items():
            part = table[(table["against"] == kind) & (table["direction"] == direction)].set_index("metric")
            part = part.reindex([name for name in names if name in part.index])
            place = np.array([names.index(name) for name in part.index]) + (0.13 if direction == "top" else -0.13)
            low, high = (part[end].fillna(part["regret"]) for end in ("ci_low", "ci_high"))
            axis.hlines(place, low, high, color=colour)
            axis.plot(part["regret"], place, marker, color=colour, markersize=4)
        axis.set_title(label(kind))
        axis.set_xlabel("regret: 0 = best layers, 1 = random")
    axes[0, 0].set_yticks(range(len(names)), [label(name) for name in names])
    handles = [
        Line2D([], [], marker=marker, linestyle="", color=colour, markersize=4, label=words)
        for marker, colour, words in LOOKS.values()
    ]
    legend(figure, handles)
    return figure


def table(inputs: dict):
    """The file's own columns: metric, direction, against, k, regret, ci_low, ci_high, n_seeds."""
    return inputs["regret"]
