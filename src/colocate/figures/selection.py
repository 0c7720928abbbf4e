"""How surely each layer is among the highest of its profile: bars over depth, one panel a primary profile."""

from colocate.figures.style import MUTED, SETS, canvas, label, layer_axis, message
from colocate.results import chosen_sets, primary_pair


def draw(inputs: dict):
    rows = table(inputs)
    if not len(rows):
        return message("The items of the primary profiles have not been drawn anew.")
    names = list(dict.fromkeys(rows["profile"]))
    figure, axes = canvas(0.5 + 1.5 * len(names), len(names), sharex=True, sharey=True)
    for axis, name in zip(axes[:, 0], names, strict=True):
        part = rows[rows["profile"] == name]
        colour = SETS[part["set"].iloc[0]]
        faces = [colour if chosen else "none" for chosen in part["chosen"]]
        axis.bar(part["layer"], part["probability"], 0.8, color=faces, edgecolor=colour, linewidth=1)
        axis.axhline(0.9, color=MUTED, linestyle="--", linewidth=0.8)
        axis.set_title(f"{part['set'].iloc[0]}: top {part['top'].iloc[0]:.0f} of {label(name)}")
        axis.set_ylim(0, 1.04)
        layer_axis(axis, int(part["layer"].max()) + 1)
    axes[-1, 0].set_xlabel("layer")
    figure.supylabel("share of draws that choose the layer", fontsize=9)
    return figure


def table(inputs: dict):
    """set, profile, layer, probability, top, n_items, chosen: the two primary profiles."""
    import pandas as pd

    found, parts = inputs["selection"], []
    sets = chosen_sets(inputs["layer_sets"], inputs["correlations"])
    for letter, profile in zip("SR", primary_pair(inputs["correlations"]), strict=True):
        part = found[found["profile"] == profile] if len(found) else found
        if len(part):
            parts.append(part.assign(set=letter, chosen=part["layer"].isin(sets.get(letter, []))))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
