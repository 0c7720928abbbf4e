"""Training loss by tokens, one panel an arm with all others in grey; held-out loss before and after."""

from colocate.figures.style import BLUE, GRID, INK, ORANGE, label, legend, message, panels

HELD_OUT = {"validate": ("o", ORANGE), "test": ("D", INK)}


def draw(inputs: dict):
    table = inputs["training_logs"]
    if table.empty:
        return message("No arm has been trained.")
    arms = list(dict.fromkeys(table["arm"]))
    figure, axes = panels(len(arms), 1.75, 4, sharex=True, sharey=True)
    for axis, arm in zip(axes, arms, strict=True):
        for (other, _), run in table.groupby(["arm", "seed"], sort=False):
            own = other == arm
            train = run[run["split"] == "train"]
            train = train.iloc[:: max(1, len(train) // 200)]  # what 900 pixels can show of a long run
            colour, width = (BLUE, 0.9) if own else (GRID, 0.6)
            axis.plot(train["tokens"] / 1000, train["loss"], color=colour, linewidth=width, zorder=3 if own else 1)
            for split, (marker, ink) in HELD_OUT.items():
                held = run[(run["split"] == split) & own]
                axis.plot(held["tokens"] / 1000, held["loss"], marker, color=ink, markersize=4, zorder=4)
        axis.set_title(label(arm), fontsize=8)
    figure.supxlabel("thousand tokens", fontsize=9)
    figure.supylabel("loss (nat per token)", fontsize=9)
    legend(figure, keys())
    return figure


def keys() -> list:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=BLUE, linewidth=0.9, label="training loss, one line a seed")]
    lines.append(Line2D([], [], color=GRID, label="the other arms"))
    for split, (marker, ink) in HELD_OUT.items():
        lines.append(Line2D([], [], marker=marker, linestyle="", markersize=4, color=ink, label=f"held out: {split}"))
    return lines
