"""Each arm minus base on every benchmark and on neutral text: what training took away, and what it gave."""

from colocate.figures.style import INK, arm_colour, arm_marker, label, message, panels, x_title

MEASURED = {
    "accuracy": "accuracy (points)",
    "gold_logprob": "log p, right answer (nat)",
    "margin": "margin, right answer (nat)",
    "kl": "divergence (nat per token)",
}
NEUTRAL = "neutral_kl"  # divergence from base on text of no task, in nat per token


def draw(inputs: dict):
    rows = table(inputs)
    if not len(rows):
        return message("The change from the base model (statistics/forgetting.csv) has not been worked out.")
    keys = list(dict.fromkeys(zip(rows["benchmark"], rows["outcome"], strict=True)))
    arms = list(dict.fromkeys(rows["arm"]))
    figure, axes = panels(len(keys), 0.55 + 0.22 * len(arms), 3, sharey=True)
    for axis, (benchmark, outcome) in zip(axes, keys, strict=True):
        axis.axvline(0, color=INK, linewidth=1)
        part = rows[(rows["benchmark"] == benchmark) & (rows["outcome"] == outcome)]
        scale = 100 if outcome == "accuracy" else 1
        for row in part.to_dict("records"):
            y, colour = arms.index(row["arm"]), arm_colour(row["arm"])
            axis.plot([scale * row["ci_low"], scale * row["ci_high"]], [y, y], color=colour)
            axis.plot(scale * row["difference"], y, arm_marker(row["arm"]), color=colour, markersize=5)
        words = "neutral text" if benchmark == NEUTRAL else label(benchmark)
        axis.set_title(f"{words}: {MEASURED[outcome]}", fontsize=8)
        axis.grid(visible=False, axis="y")
    axes[0].set_yticks(range(len(arms)), [label(arm) for arm in arms])
    axes[0].set_ylim(len(arms) - 0.4, -0.6)
    x_title(axes, "arm minus base")
    return figure


def table(inputs: dict):
    """The file's own columns: arm, benchmark, outcome, difference, ci_low, ci_high, p, n_items, n_seeds."""
    found = inputs["forgetting"]
    return found.dropna(subset="difference").reset_index(drop=True) if len(found) else found
