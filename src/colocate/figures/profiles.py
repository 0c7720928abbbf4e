"""Every layer profile over depth, one panel each, with its interval; the layers that S and R choose are shaded in all
panels.

S: the layers that a `top` rule takes from the primary sensitivity profile; R: the same for the primary RoPE influence.
"""

import numpy as np

from colocate.figures.style import INK, MUTED, RED, SETS, WIDE, label, layer_axis, legend, message, panels, x_title
from colocate.results import chosen_sets, primary_pair


def draw(inputs: dict):
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    profiles = inputs["profiles"]
    if not profiles:
        return message("No layer profile has been computed.")
    primary = primary_pair(inputs["correlations"])
    sets = chosen_sets(inputs["layer_sets"], inputs["correlations"])
    figure, axes = panels(len(profiles), 1.95, 3 if len(profiles) > 4 else 2, sharex=True)
    for axis, (name, table) in zip(axes, profiles.items(), strict=True):
        shade(axis, sets)
        line_with_band(axis, table)
        noise_floor(axis, inputs["variants"].get(name))
        axis.set_title(label(name) + (" (primary)" if name in primary else ""))
    x_title(axes, "layer")
    words = {letter: f"{letter}: chosen by {label(str(name))}" for letter, name in zip("SR", primary, strict=True)}
    handles = [Patch(color=SETS[letter], alpha=0.3, label=words[letter]) for letter in sets]
    if any(len(floor_of(variants)) for variants in inputs["variants"].values()):
        handles.append(Line2D([], [], color=RED, linestyle="--", linewidth=1, label="3 × rounding noise"))
    if handles:
        legend(figure, handles)
    return figure


def shade(axis, sets: dict[str, list[int]]) -> None:
    """Shade the layers of S and R; a layer in both is split, S above and R below."""
    both = set.intersection(*map(set, sets.values())) if len(sets) == 2 else set()
    for letter, layers in sets.items():
        for layer in layers:
            bottom, top = {"S": (0.5, 1), "R": (0, 0.5)}[letter] if layer in both else (0, 1)
            axis.axvspan(layer - 0.5, layer + 0.5, bottom, top, color=SETS[letter], alpha=0.18, linewidth=0)


def line_with_band(axis, table) -> None:
    """Value and 95 % interval over layers; a log scale where the values span more than a factor of 30."""
    layer = table["layer"].to_numpy()
    value, low, high = (table[name].to_numpy(float) for name in ("value", "ci_low", "ci_high"))
    finite = value[np.isfinite(value)]
    if finite.size and finite.min() > 0 and finite.max() > WIDE * finite.min():
        axis.set_yscale("log")
        low = np.where(low > 0, low, finite.min())  # a bound at or below zero has no place on a log scale
    axis.fill_between(layer, low, high, color=INK, alpha=0.16, linewidth=0)
    axis.plot(layer, value, color=INK, marker="o", markersize=2.6)
    for missing in layer[~np.isfinite(value)]:
        axis.axvline(missing, color=MUTED, linestyle=":", linewidth=0.8)
    layer_axis(axis, int(layer.max()) + 1)


def floor_of(variants):
    """Mean over items of the rounding noise, by layer; empty where the metric has none."""
    import pandas as pd

    if variants is None:
        return pd.Series(dtype=float)
    return variants[variants["variant"] == "noise_floor"].groupby("layer")["value"].mean()


def noise_floor(axis, variants) -> None:
    floor = 3 * floor_of(variants)
    if len(floor):
        axis.plot(floor.index, floor, color=RED, linestyle="--", linewidth=1)


def table(inputs: dict):
    """profile, layer, value, ci_low, ci_high, n, noise_floor (NaN without one), primary, chosen."""
    import pandas as pd

    sets = chosen_sets(inputs["layer_sets"], inputs["correlations"])
    primary = dict(zip(primary_pair(inputs["correlations"]), "SR", strict=True))
    parts = []
    for name, profile in inputs["profiles"].items():
        own = profile["layer"].isin(sets.get(primary.get(name), []))
        floor = profile["layer"].map(floor_of(inputs["variants"].get(name)))
        parts.append(profile.assign(profile=name, noise_floor=floor, primary=name in primary, chosen=own))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
