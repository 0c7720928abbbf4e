"""Every reading of the two quantities: r_s in order, and below it which choices each reading makes.

Readings that another one stands for are left out. Columns are readings, sorted by r_s; a mark in a row says that the
reading makes that choice.
"""

import pandas as pd
from matplotlib.lines import Line2D

from colocate.figures.style import BLUE, GREEN, GRID, INK, MUTED, RED, WIDTH, label, legend, message

CHOICES = ("contrast", "pool", "form", "pairs", "method", "log_alpha", "text_tokens", "sign", "dtype")
SIGNIFICANT = 0.05


def draw(inputs: dict):
    from matplotlib.figure import Figure

    table = leading(inputs["specifications"])
    if len(table) < 2:
        return message("Fewer than two readings of the two quantities have been correlated.")
    rows = rows_of(table)
    figure = Figure(figsize=(WIDTH, 2.6 + 0.155 * len(rows)), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[2.2, 0.155 * len(rows)])
    place = range(len(table))
    sure = (table["p_depth"] <= SIGNIFICANT).to_numpy()
    size = 4 if len(table) > 150 else 9
    top.axhline(0, color=MUTED, linewidth=0.8)
    top.scatter(place, table["r_s"], s=size, color=[BLUE if found else MUTED for found in sure], linewidths=0)
    handles = [
        Line2D([], [], marker="o", linestyle="", color=MUTED, markersize=4, label="one reading"),
        Line2D([], [], marker="o", linestyle="", color=BLUE, markersize=4, label="p given depth at most 0.05"),
    ]
    marks = (
        ("published", "as published, as far as it is printed", "v", RED),
        ("frozen", "fixed beforehand", "D", GREEN),
    )
    for column, words, marker, colour in marks:
        chosen = [i for i, found in enumerate(table[column].astype(bool)) if found]
        if chosen:
            top.scatter(chosen, table["r_s"].iloc[chosen], s=34, marker=marker, facecolors="none", edgecolors=colour)
            handles.append(Line2D([], [], marker=marker, linestyle="", color=colour, fillstyle="none", label=words))
    top.set_ylim(-1.05, 1.05)
    top.set_ylabel("rank correlation")
    for height, (choice, value) in enumerate(rows):
        made = [i for i, found in enumerate(table[choice] == value) if found]
        bottom.vlines(made, height - 0.36, height + 0.36, color=INK, linewidth=min(3.0, 450 / len(table)))
    names = [f"{label(choice)}: {label(str(value))}" for choice, value in rows]
    bottom.set_yticks(range(len(rows)), names, fontsize=7)
    edges = [i - 0.5 for i in range(1, len(rows)) if rows[i][0] != rows[i - 1][0]]
    bottom.hlines(edges, -0.5, len(table) - 0.5, color=GRID, linewidth=0.8)
    bottom.set_ylim(len(rows) - 0.4, -0.6)
    bottom.grid(visible=False)
    bottom.tick_params(axis="y", length=0)
    bottom.set_xlim(-0.015 * len(table) - 0.5, 1.015 * len(table) - 0.5)
    bottom.set_xlabel(f"{len(table)} readings, sorted by their rank correlation")
    legend(figure, handles)
    return figure


def leading(table: pd.DataFrame) -> pd.DataFrame:
    """Readings that stand for themselves, sorted by r_s."""
    if not len(table):
        return table
    alone = table["collapsed_into"].isna() | (table["collapsed_into"] == "")
    return table[alone].dropna(subset="r_s").sort_values("r_s", kind="stable", ignore_index=True)


def rows_of(table: pd.DataFrame) -> list[tuple[str, object]]:
    """(choice, value) of every choice that the readings make in more than one way."""
    found = ((choice, sorted(table[choice].dropna().unique())) for choice in CHOICES if choice in table)
    return [(choice, value) for choice, values in found if len(values) > 1 for value in values]


def table(inputs: dict) -> pd.DataFrame:
    """Every reading that stands for itself, sorted by r_s, with the choices it makes."""
    return leading(inputs["specifications"])
