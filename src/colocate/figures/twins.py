"""The primary rank correlation in the model and in copies of it that have learnt nothing."""

import numpy as np

from colocate.figures.style import BLUE, MUTED, ORANGE, PAPER, canvas, message
from colocate.results import primary_pair

KINDS = {
    "model": ("the model itself", BLUE),
    "random": ("random weights", ORANGE),
    "shuffled": ("layers shuffled", MUTED),
}
PANELS = {"r_s": "rank correlation", "partial_r_s": "rank correlation given depth"}


def draw(inputs: dict):
    rows = table(inputs)
    kinds = [kind for kind in KINDS if kind in set(rows["kind"])] if len(rows) else []
    if kinds in ([], ["model"]):
        return message("This study has no twins with random weights or shuffled layers (twins.random, twins.shuffled).")
    figure, axes = canvas(0.9 + 0.45 * len(kinds), 1, 2, sharey=True)
    for axis, (column, words) in zip(axes[0], PANELS.items(), strict=True):
        axis.axvline(0, color=MUTED, linewidth=1)
        for y, kind in enumerate(kinds):
            values = rows.loc[rows["kind"] == kind, column].to_numpy(float)
            colour = KINDS[kind][1]
            face = colour if kind == "model" else PAPER
            heights = y + np.linspace(-0.15, 0.15, len(values)) * (len(values) > 1)
            axis.plot(values, heights, "o", color=colour, markerfacecolor=face)
        axis.set_title(words)
        axis.set_xlim(-1.05, 1.05)
    axes[0, 0].set_yticks(range(len(kinds)), [KINDS[kind][0] for kind in kinds])
    axes[0, 0].set_ylim(len(kinds) - 0.5, -0.5)
    return figure


def table(inputs: dict):
    """kind, seed, r_s, partial_r_s: the model first."""
    import pandas as pd

    sensitivity, rope = primary_pair(inputs["correlations"])
    parts = []
    if sensitivity is not None:
        own = inputs["correlations"].query("sensitivity == @sensitivity and rope == @rope")
        parts.append(own.assign(kind="model", seed=0)[["kind", "seed", "r_s", "partial_r_s"]])
    if len(inputs["twins"]):
        parts.append(inputs["twins"][["kind", "seed", "r_s", "partial_r_s"]])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
