"""The primary pair of profiles, one numbered dot a layer: as ranks, and as ranks less their line in depth.

The right panel shows why r_s alone says little: two quantities that both drift with depth correlate whatever else
they do.
"""

import numpy as np

from colocate.figures.style import MUTED, ON_DARK, ON_LIGHT, canvas, label, message, signed
from colocate.results import primary_pair


def draw(inputs: dict):
    names = primary_pair(inputs["correlations"])
    rows = table(inputs)
    if not len(rows):
        return message("The primary pair of profiles has not been correlated.")
    layers = rows["layer"].to_numpy()
    ranks, residuals = ([rows[f"{side}_{kind}"] for side in "xy"] for kind in ("rank", "residual"))
    row = inputs["correlations"].query("sensitivity == @names[0] and rope == @names[1]").iloc[0]

    figure, axes = canvas(4.3, 1, 2)
    titles = (
        f"as ranks: rₛ = {signed(row['r_s'])}",
        f"given depth: partial rₛ = {signed(row['partial_r_s'])}, p = {row['p_depth']:.2g}",
    )
    units = ("rank", "rank less its line in depth")
    for axis, points, title, unit in zip(axes[0], (ranks, residuals), titles, units, strict=True):
        dots = numbered(axis, *points, layers)
        axis.set_title(title)
        axis.set_xlabel(f"{label(names[0])} ({unit})")
        axis.set_ylabel(f"{label(names[1])} ({unit})")
        axis.margins(0.07)
    figure.colorbar(dots, ax=axes[0], label="layer", shrink=0.7, aspect=30)
    return figure


def numbered(axis, x, y, layers):
    """Dots with the layer's number inside, coloured by depth."""
    dots = axis.scatter(x, y, c=layers, cmap="cividis", s=140, linewidth=0.6, edgecolor=MUTED)
    for layer, left, up in zip(layers, x, y, strict=True):
        colour = ON_LIGHT if dots.norm(layer) > 0.5 else ON_DARK
        axis.text(left, up, str(layer), ha="center", va="center", fontsize=7, color=colour)
    return dots


def table(inputs: dict):
    """layer, x, y (the two profiles), x_rank, y_rank, x_residual, y_residual (ranks less their line in depth)."""
    import pandas as pd
    from scipy.stats import rankdata

    names = primary_pair(inputs["correlations"])
    if any(name not in inputs["profiles"] for name in names):
        return pd.DataFrame()
    first, second = (inputs["profiles"][name].set_index("layer")["value"] for name in names)
    rows = pd.DataFrame({"x": first, "y": second}).dropna().rename_axis("layer").reset_index()
    for side in "xy":
        rank = rankdata(rows[side])
        rows[f"{side}_rank"] = rank
        rows[f"{side}_residual"] = rank - np.polyval(np.polyfit(rows["layer"], rank, 1), rows["layer"])
    return rows
