"""Training loss by tokens, one panel an arm with all others in grey; held-out loss before and after."""

from colocate.figures.style import GRID, INK, ORANGE, arm_colour, label, legend, message, panels, x_title

HELD_OUT = {"validate": ("o", ORANGE), "test": ("D", INK)}


def draw(inputs: dict):
    rows = table(inputs)  # thinned to what 900 pixels can show of a long run
    if rows.empty:
        return message("No arm has been trained.")
    arms = list(dict.fromkeys(rows["arm"]))
    figure, axes = panels(len(arms), 1.75, 4, sharex=True, sharey=True)
    for axis, arm in zip(axes, arms, strict=True):
        for (other, _), run in rows.groupby(["arm", "seed"], sort=False):
            own = other == arm
            train = run[run["split"] == "train"]
            colour, width = (arm_colour(arm), 0.9) if own else (GRID, 0.6)
            axis.plot(train["tokens"] / 1000, train["loss"], color=colour, linewidth=width, zorder=3 if own else 1)
            for split, (marker, ink) in HELD_OUT.items():
                held = run[(run["split"] == split) & own]
                axis.plot(held["tokens"] / 1000, held["loss"], marker, color=ink, markersize=4, zorder=4)
        axis.set_title(label(arm), fontsize=8)
    x_title(axes, "thousand tokens")
    figure.supylabel("loss (nat per token)", fontsize=9)
    legend(figure, keys())
    return figure


def keys() -> list:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=INK, linewidth=0.9, label="training loss, one line a seed, in the arm's colour")]
    lines.append(Line2D([], [], color=GRID, label="the other arms"))
    for split, (marker, ink) in HELD_OUT.items():
        lines.append(Line2D([], [], marker=marker, linestyle="", markersize=4, color=ink, label=f"held out: {split}"))
    return lines


def table(inputs: dict):
    """arm, seed, step, split, loss, tokens: at most 200 steps of a run and split."""
    import pandas as pd

    found = inputs["training_logs"]
    if not len(found):
        return found
    runs = found.groupby(["arm", "seed", "split"], sort=False)
    thinned = [run.iloc[:: max(1, len(run) // 200)] for _, run in runs]
    return pd.concat(thinned, ignore_index=True)[["arm", "seed", "step", "split", "loss", "tokens"]]
