"""How many items a stable layer ranking needs: reliability and top layers against the number of items."""

from colocate.figures.style import MARKERS, MUTED, SERIES, canvas, label, message

PANELS = (
    ("reliability", "reliability of the profile", 0.9),
    ("jaccard", "top layers shared with all items (Jaccard)", None),
)


def draw(inputs: dict):
    table = inputs["stability"]
    if not len(table):
        return message("No profile of this study is a mean over items.")
    figure, axes = canvas(3.1, columns=2, sharex=True)
    for axis, (column, words, goal) in zip(axes[0], PANELS, strict=True):
        for number, (profile, part) in enumerate(table.groupby("profile", sort=False)):
            style = {"marker": MARKERS[number % len(MARKERS)], "color": SERIES[number % len(SERIES)], "markersize": 4}
            axis.plot(part["n_items"], part[column], label=label(profile), **style)
        published = table.loc[table["published"].astype(bool), "n_items"]
        if len(published):
            axis.axvline(published.iloc[0], color=MUTED, linestyle=":", linewidth=1)
            axis.annotate(
                f" {published.iloc[0]:.0f}: as published",
                (published.iloc[0], 0.02),
                xycoords=("data", "axes fraction"),
                color=MUTED,
                fontsize=8,
            )
        if goal:
            axis.axhline(goal, color=MUTED, linestyle="--", linewidth=0.8)
        axis.set_xscale("log")
        sizes = sorted(table["n_items"].unique())
        shown = [n for n in sizes if n in (4, 8, 15, 30, 60, 120, 240, 500, 1000) or n == sizes[-1]]
        axis.set_xticks(shown, [f"{n:.0f}" for n in shown])
        axis.minorticks_off()
        axis.set_ylim(-0.05, 1.05)
        axis.set_xlabel("items (pairs or texts)")
        axis.set_title(words)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=4)
    return figure


def table(inputs: dict):
    """profile, n_items, reliability, rank_correlation, jaccard, draws, published."""
    return inputs["stability"]
