"""Section 6: what the printed numbers of the two studies can show before anything is run."""

from pathlib import Path

import pandas as pd

from colocate import formats as f
from colocate.figures.style import label
from colocate.report.table import Table, read


def section(results: Path) -> dict:
    """What section 6 shows, out of the study's folder."""
    return {
        "reanalysis": reanalysis(read(results / "reanalysis.csv")),
        "needed": needed(read(results / "needed.csv")),
    }


def reanalysis(table: pd.DataFrame) -> Table:
    """What the printed numbers of the two studies can show, without any run."""
    rows = []
    for row in table.to_dict("records"):
        small = "p of" in row["quantity"] or "no common layer" in row["quantity"]
        digits = 2 if small or "correlation" in row["quantity"] or "CKA" in row["quantity"] else 1
        estimate = (
            f.p_value(row["estimate"]) if small and "printed" in row["quantity"] else f.fixed(row["estimate"], digits)
        )
        cells = [str(row["printed"]), f.number(row["n"]), f.number(row["count"]), estimate]
        cells += [f.interval(row["ci_low"], row["ci_high"], digits), row["comparison"], row["says"]]
        cells = ["" if f.missing(cell) else cell.replace("+-", "\N{PLUS-MINUS SIGN}") for cell in cells]
        study = {"rao2026": "Rao 2026", "zhao2026": "Zhao et al. 2026"}.get(row["study"], row["study"])
        rows.append([f"{study}: {row['quantity']}", *cells])
    columns = ["quantity", "as printed", "#n", "#count", "#estimate", "#95 % interval, or range", "how", "what it says"]
    return Table("From print alone: counts, intervals and p values behind the printed numbers", columns, rows)


def needed(table: pd.DataFrame) -> Table:
    """Items that each claim of accuracy would need, by number of seeds."""
    if not len(table):
        return Table("", [], [])
    wide = table.pivot(index="claim", columns="n_seeds", values="n_items").loc[list(dict.fromkeys(table["claim"]))]
    effect = table.groupby("claim").first()
    rows = [
        [
            label(claim),
            f"{f.number(effect['effect'][claim])} {effect['unit'][claim]}",
            *("never" if n == float("inf") else f.number(n) for n in wide.loc[claim]),
        ]
        for claim in wide.index
    ]
    columns = ["claim", "size", *(f"#{n} seed{'s' * (n > 1)}" for n in wide.columns)]
    return Table("Items a benchmark would need to show each claim four times in five, by training seeds", columns, rows)
