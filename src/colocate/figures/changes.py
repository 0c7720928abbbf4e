"""What training changed in each layer: every measure of the arms against base over depth, a line an arm."""

from colocate.figures.style import arm_colour, arm_marker, label, layer_axis, message, panels, x_title


def draw(inputs: dict):
    from matplotlib.lines import Line2D

    rows = table(inputs)
    if not len(rows):
        return message("No trained arm has been compared with the base model layer by layer (select.arm_profiles).")
    metrics, arms = list(dict.fromkeys(rows["metric"])), list(dict.fromkeys(rows["arm"]))
    figure, axes = panels(len(metrics), 2.9, min(2, len(metrics)), sharex=True)
    for axis, metric in zip(axes, metrics, strict=True):
        for arm in arms:
            part = rows[(rows["metric"] == metric) & (rows["arm"] == arm)]
            axis.plot(part["layer"], part["value"], color=arm_colour(arm), marker=arm_marker(arm), markersize=3)
        axis.set_title(label(metric))
        layer_axis(axis, int(rows["layer"].max()) + 1)
    x_title(axes, "layer")
    looks = [(arm_colour(arm), arm_marker(arm), label(arm)) for arm in arms]
    handles = [Line2D([], [], color=colour, marker=mark, markersize=4, label=words) for colour, mark, words in looks]
    figure.legend(handles=handles, loc="outside upper left", ncols=3)
    return figure


def table(inputs: dict):
    """arm, metric, layer, value (mean over seeds), n_seeds."""
    found = inputs["arm_profiles"]
    if not len(found):
        return found
    grouped = found.groupby(["arm", "metric", "layer"], sort=False)["value"]
    return grouped.agg(value="mean", n_seeds="count").reset_index()
