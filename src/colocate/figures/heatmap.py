"""Arms x benchmarks: accuracy as a number, the change from the base model as a colour."""

import numpy as np

from colocate.figures.style import MUTED, ON_DARK, ON_LIGHT, PAPER, canvas, label, message
from colocate.results import accuracies

LEAST = 5.0  # points: the colours span at least so much, or chance would look like an effect


def draw(inputs: dict):
    rows = table(inputs)
    if not len(rows):
        return message("No arm has been evaluated.")
    arms, benchmarks = list(dict.fromkeys(rows["arm"])), list(dict.fromkeys(rows["benchmark"]))
    wide = rows.pivot(index="arm", columns="benchmark").loc[arms]
    accuracy, change = (wide[column][benchmarks].to_numpy(float) for column in ("accuracy", "change"))
    span = max(LEAST, np.nanmax(np.abs(change), initial=0))
    figure, axes = canvas(1.0 + 0.34 * len(arms))
    axis = axes[0, 0]
    mesh = axis.pcolormesh(change, cmap="PuOr", vmin=-span, vmax=span, edgecolors=PAPER, linewidth=1.5)
    for i, arm in enumerate(arms):
        for j in range(len(benchmarks)):
            known = np.isfinite(accuracy[i, j])
            dark = abs(np.nan_to_num(change[i, j])) > 0.6 * span
            colour = MUTED if not np.isfinite(change[i, j]) else ON_DARK if dark else ON_LIGHT
            words = f"{accuracy[i, j]:.1f}" if known else "not run"
            weight = "bold" if arm == "base" else "normal"
            axis.text(j + 0.5, i + 0.5, words, ha="center", va="center", color=colour, fontsize=8.5, weight=weight)
    n = rows.groupby("benchmark")["n"].max()
    names = [label(name) + (f"\nn = {n[name]:.0f}" if np.isfinite(n[name]) else "") for name in benchmarks]
    axis.set_xticks(np.arange(len(benchmarks)) + 0.5, names)
    axis.set_yticks(np.arange(len(arms)) + 0.5, [label(arm) for arm in arms])
    axis.xaxis.tick_top()
    axis.invert_yaxis()
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    figure.colorbar(mesh, ax=axis, label="change from base (points)", shrink=0.8)
    return figure


def table(inputs: dict):
    """arm, benchmark, n, accuracy and change from base in per cent and points; the mean of all benchmarks last."""
    import pandas as pd

    found = accuracies(inputs["evaluations"])
    if not len(found) or not found["accuracy"].notna().any():
        return pd.DataFrame()
    rows = found[["arm", "benchmark", "n"]].assign(accuracy=100 * found["accuracy"].astype(float))
    whole = rows.groupby("arm", sort=False)["accuracy"].agg(lambda values: values.mean(skipna=False))
    mean = pd.DataFrame({"arm": whole.index, "benchmark": "mean of all", "accuracy": whole.to_numpy()})
    rows = pd.concat([rows, mean], ignore_index=True)
    base = rows[rows["arm"] == "base"].set_index("benchmark")["accuracy"]
    return rows.assign(change=rows["accuracy"] - rows["benchmark"].map(base))
