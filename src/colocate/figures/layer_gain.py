"""Measured layer gain against each cheap metric, layer by layer, as ranks."""

from colocate.figures.style import label, message, panels, signed, x_title

GAIN = "layer_gain"


def draw(inputs: dict):
    rows = table(inputs)
    if not len(rows):
        return message("This study has not measured layer gain (select.layer_gain).")
    names = list(dict.fromkeys(rows["metric"]))
    figure, axes = panels(len(names), 2.0, 4, sharex=True, sharey=True)
    for axis, name in zip(axes, names, strict=True):
        part = rows[rows["metric"] == name]
        axis.scatter(part["metric_rank"], part["gain_rank"], c=part["layer"], cmap="cividis", s=26)
        axis.set_title(f"{label(name)}: {signed(part['metric_rank'].corr(part['gain_rank']))}", fontsize=8)
    x_title(axes, "rank of the layer by the metric")
    figure.supylabel("rank by measured gain", fontsize=9)
    mesh = axes[0].collections[0]
    figure.colorbar(mesh, ax=axes, label="layer", shrink=0.8, aspect=30)
    return figure


def table(inputs: dict):
    """metric, layer, metric_rank, gain_rank: rank 1 is the lowest; layers without one of the two are left out."""
    import pandas as pd

    profiles = inputs["profiles"]
    if GAIN not in profiles:
        return pd.DataFrame()
    gain = profiles[GAIN].set_index("layer")["value"].rename("gain")
    parts = []
    for name, profile in profiles.items():
        if name.startswith(GAIN):
            continue
        both = profile.set_index("layer")[["value"]].join(gain, how="inner").dropna()
        ranks = {"layer": both.index, "metric_rank": both["value"].rank(), "gain_rank": both["gain"].rank()}
        parts.append(pd.DataFrame({"metric": name} | ranks))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
