"""What the two primary metrics measure: the sensitivity beside its controls, the RoPE influence beside its noise floor.

The distance of a right and a wrong answer is no measure of rightness as long as two wrong answers are as far apart.
"""

import numpy as np

from colocate.figures.style import BLUE, GREEN, INK, ORANGE, PINK, WIDE, canvas, label, layer_axis, legend, message
from colocate.results import primary_pair

CONTRASTS = {  # first part of a variant's name -> its words, colour and line
    "task": ("right and wrong", INK, "-"),
    "wrong_wrong": ("wrong and wrong", ORANGE, "--"),
    "paraphrase": ("two right wordings", GREEN, "-."),
    "swap": ("same answers, contexts swapped", PINK, ":"),
}


def draw(inputs: dict):
    sensitivity, rope = primary_pair(inputs["correlations"])
    profiles, variants = inputs["profiles"], inputs["variants"]
    if sensitivity not in variants or sensitivity not in profiles:
        return message("The primary sensitivity has no controls.")
    whole = {name: table[table["kv_head"] < 0] for name, table in variants.items()}
    items = {
        contrast: whole[sensitivity].query("variant == @name").pivot(index="item", columns="layer", values="value")
        for contrast, name in controls_of(profiles[sensitivity], whole[sensitivity]).items()
    }
    figure, axes = canvas(3.0, 1, 3)
    distances(axes[0, 0], items, sensitivity)
    rightness(axes[0, 1], items)
    noise(axes[0, 2], profiles.get(rope), whole.get(rope), rope)
    for axis in axes[0]:
        layer_axis(axis, len(profiles[sensitivity]))
        axis.set_xlabel("layer")
    legend(figure, axes[0, 0].get_legend_handles_labels()[0])
    return figure


def controls_of(profile, variants) -> dict[str, str]:
    """{contrast: variant} with the profile's own pooling and form: those of the variant whose means are the profile."""
    means = variants.groupby(["variant", "layer"], sort=False)["value"].mean()
    printed = profile.set_index("layer")["value"]
    own = [
        name
        for name in variants["variant"].unique()
        if np.allclose(means[name].reindex(printed.index), printed, equal_nan=True)
    ]
    form = own[0].partition("/")[2] if own else None
    names = {contrast: f"{contrast}/{form}" for contrast in CONTRASTS}
    return {contrast: name for contrast, name in names.items() if name in set(variants["variant"])}


def distances(axis, items: dict, sensitivity: str) -> None:
    for contrast, table in items.items():
        words, colour, line = CONTRASTS[contrast]
        axis.plot(table.columns, table.mean(), color=colour, linestyle=line, label=words)
    values = np.concatenate([table.mean().to_numpy() for table in items.values()] or [[]])
    if values.size and values.min() > 0 and values.max() > WIDE * values.min():
        axis.set_yscale("log")
    axis.set_title(label(sensitivity))
    axis.set_ylabel("1 − cos, mean over items")


def rightness(axis, items: dict) -> None:
    """Right-wrong over wrong-wrong of the same item: geometric mean over items, 95 % interval (t of log ratios)."""
    from scipy.stats import t

    axis.set_title("right–wrong over wrong–wrong")
    axis.axhline(1, color=INK, linewidth=1)
    if not {"task", "wrong_wrong"} <= set(items):
        return
    positive = [np.log(items[contrast].where(items[contrast] > 0)) for contrast in ("task", "wrong_wrong")]
    ratio = positive[0] - positive[1]
    mean, half = ratio.mean(), ratio.sem() * t.ppf(0.975, ratio.count() - 1)
    axis.fill_between(mean.index, np.exp(mean - half), np.exp(mean + half), color=BLUE, alpha=0.2, linewidth=0)
    axis.plot(mean.index, np.exp(mean), color=BLUE)
    axis.set_ylabel("ratio, 95 % interval")


def noise(axis, profile, variants, rope: str) -> None:
    axis.set_title(f"{label(rope)} and rounding noise")
    if profile is None:
        return
    axis.plot(profile["layer"], profile["value"], color=INK, label="RoPE influence")
    floor = variants[variants["variant"] == "noise_floor"] if variants is not None else None
    if floor is not None and len(floor):
        mean = 3 * floor.groupby("layer")["value"].mean()
        axis.plot(mean.index, mean, color=ORANGE, linestyle="--", label="3 × noise floor")
    axis.set_yscale("log")
    axis.legend()


def table(inputs: dict):
    """profile, variant, layer, value (mean over items), n: what the panels show of the two primary metrics."""
    import pandas as pd

    parts = []
    for name in primary_pair(inputs["correlations"]):
        if name in inputs["variants"] and name in inputs["profiles"]:
            whole = inputs["variants"][name].query("kv_head < 0")
            shown = {*controls_of(inputs["profiles"][name], whole).values(), "output", "noise_floor"}
            means = whole[whole["variant"].isin(shown)].groupby(["variant", "layer"], sort=False)["value"]
            parts.append(means.agg(value="mean", n="count").reset_index().assign(profile=name))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
