"""Spearman correlation over layers for each pair of profiles, the lower triangle, with numbers."""

import numpy as np

from colocate.figures.style import ON_DARK, ON_LIGHT, PAPER, canvas, label, message, signed


def draw(inputs: dict):
    profiles = {name: table.set_index("layer")["value"] for name, table in inputs["profiles"].items()}
    names = list(profiles)
    if len(names) < 2:
        return message("Fewer than two layer profiles have been computed.")
    matrix = lower_triangle(profiles)
    figure, axes = canvas(1.1 + 0.42 * len(names))
    axis = axes[0, 0]
    # From the second row on: the first has no profile before it.
    mesh = axis.pcolormesh(matrix[1:, :-1], cmap="PuOr_r", vmin=-1, vmax=1, edgecolors=PAPER, linewidth=1)
    for i, j in zip(*np.nonzero(np.isfinite(matrix)), strict=True):
        colour = ON_DARK if abs(matrix[i, j]) > 0.6 else ON_LIGHT
        axis.text(j + 0.5, i - 0.5, signed(matrix[i, j]), ha="center", va="center", color=colour)
    middles = np.arange(len(names) - 1) + 0.5
    axis.set_xticks(middles, [label(name) for name in names[:-1]], rotation=20 if len(names) < 7 else 45, ha="right")
    axis.set_yticks(middles, [label(name) for name in names[1:]])
    axis.invert_yaxis()
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    figure.colorbar(mesh, ax=axis, label="rank correlation over layers", shrink=0.9)
    return figure


def lower_triangle(profiles: dict) -> np.ndarray:
    """(n, n) Spearman correlations below the diagonal, NaN elsewhere; layers that lack one of the two values are left
    out.
    """
    from scipy.stats import spearmanr

    values = list(profiles.values())
    matrix = np.full((len(values), len(values)), np.nan)
    for i, first in enumerate(values):
        for j, second in enumerate(values[:i]):
            both = first.to_frame("x").join(second.rename("y"), how="inner").dropna()
            matrix[i, j] = spearmanr(both["x"], both["y"]).statistic if len(both) > 2 else np.nan
    return matrix


def table(inputs: dict):
    """first, second, r_s: every pair of profiles."""
    import pandas as pd

    profiles = {name: table.set_index("layer")["value"] for name, table in inputs["profiles"].items()}
    names, matrix = list(profiles), lower_triangle(profiles)
    rows = [(names[j], names[i], matrix[i, j]) for i in range(len(names)) for j in range(i)]
    return pd.DataFrame(rows, columns=["first", "second", "r_s"])
