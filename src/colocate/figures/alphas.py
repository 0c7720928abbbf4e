"""Learned RoPE scales alpha, one panel an arm: layer along x, a colour a KV head, a marker a seed, log scale around
1.
"""

import numpy as np

from colocate.figures.style import INK, MARKERS, MUTED, SERIES, label, layer_axis, legend, message, panels, x_title


def draw(inputs: dict):
    from matplotlib.ticker import MaxNLocator

    table = inputs["alphas"]
    if table.empty:
        return message("No arm of this study learns RoPE scales.")
    arms, seeds = list(dict.fromkeys(table["arm"])), sorted(table["seed"].unique())
    n_layers = inputs["geometry"].get("n_layers", int(table["layer"].max()) + 1)
    figure, axes = panels(len(arms), 1.95, 3, sharex=True, sharey=True)
    for axis, arm in zip(axes, arms, strict=True):
        axis.axhline(0, color=INK, linewidth=1)
        own = table[table["arm"] == arm]
        for index, seed in enumerate(seeds):
            rows = own[own["seed"] == seed]
            shift = 0.4 * ((index + 0.5) / len(seeds) - 0.5)  # seeds side by side
            colours = [SERIES[head % len(SERIES)] for head in rows["kv_head"]]
            marker = MARKERS[index % len(MARKERS)]
            axis.scatter(rows["layer"] + shift, np.log(rows["alpha"]), 15, colours, marker=marker, linewidth=0)
        mean = np.log(own["alpha"]).groupby(own["layer"]).mean()
        axis.plot(mean.index, mean, "_", color=INK, markersize=7)
        axis.set_title(label(arm))
        layer_axis(axis, n_layers)
    # Linear in log alpha with round values of alpha as ticks: a log axis has none over so small a range.
    ticks = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(*np.exp(axes[0].get_ylim()))
    ticks = [tick for tick in ticks if tick > 0]
    axes[0].set_yticks(np.log(ticks), [f"{tick:.3g}" for tick in ticks])
    x_title(axes, "layer")
    figure.supylabel("α (log scale)", fontsize=9)
    legend(figure, keys(int(table["kv_head"].max()) + 1, seeds), 8)
    return figure


def keys(n_heads: int, seeds: list[int]) -> list:
    from matplotlib.lines import Line2D

    def key(marker: str, colour: str, text: str):
        return Line2D([], [], marker=marker, linestyle="", markersize=4.5, color=colour, label=text)

    heads = [key("s", SERIES[head % len(SERIES)], f"KV head {head}") for head in range(n_heads)]
    shapes = [key(MARKERS[index % len(MARKERS)], MUTED, f"seed {seed}") for index, seed in enumerate(seeds)]
    return [*heads, *shapes, key("_", INK, "mean of the layer")]


def table(inputs: dict):
    """arm, seed, layer, kv_head, alpha."""
    return inputs["alphas"]
