"""Several finished studies, or models, on one page: `python -m colocate.report.compare STUDY STUDY...`.

Three questions over all models of the studies named: how large is the correlation of the two profiles, by family and
size, and what is its mean over families (random effects, `colocate.statistics.across`); which arm, that is which set of
layers, wins on which model; which rule for choosing layers loses least, arms by held-out loss above the best arm and
cheap metrics by their regret against measured layer gain. Source: `results/{study}/{model}/` as
`colocate.results.LAYOUT` has it. A model without a part is named in its place. One file: reports/compare-{...}.html.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from colocate import figures
from colocate import formats as f
from colocate.errors import InputError
from colocate.figures import style
from colocate.figures.style import label
from colocate.files import write_text
from colocate.report import charts, page, scripts
from colocate.report.table import Table
from colocate.results import load_inputs
from colocate.statistics import across

KINDS = ("geometry", "correlations", "contrasts", "regret")
EMPTY = {
    "correlations": ["primary", "r_s", "r_dis", "ci_low", "ci_high", "p_depth"],
    "contrasts": ["arm_a", "arm_b", "benchmark", "outcome", "difference", "ci_low", "ci_high"],
    "regret": ["metric", "direction", "against", "k", "regret"],
}


def write_comparison(studies: Sequence[str], root: str | Path = ".") -> Path:
    """Write the page on `studies` (names of folders in results/); returns its path."""
    root = Path(root)
    models = load(studies, root / "results")
    table = across.compare(*({name: one[kind] for name, one in models.items()} for kind in KINDS[:3]))
    out = root / "reports" / f"compare-{'-'.join(studies)}.html"
    html = (
        page.environment()
        .get_template("compare.html.j2")
        .render(
            studies=studies,
            n_models=len(models),
            figure=_figure(table),
            coefficients=coefficients(table),
            pooled=[row for row in table.to_dict("records") if row["model"] not in models],
            wins={outcome: wins(models, outcome) for outcome in ("heldout_loss", "accuracy")},
            arms=arms_by_shortfall(models),
            metrics=metrics_by_regret(models),
            absent=absent(models),
            theme=sorted(page.THEME.items()),
            swatches={},
            scripts=scripts.scripts(),
            policy=scripts.policy(),
            several=False,
            titles={},
        )
    )
    write_text(out, html)
    return out


def load(studies: Sequence[str], results: Path) -> dict[str, dict]:
    """{model: its inputs}; a model that several studies have carries the study's name behind its own."""
    if not studies:
        raise InputError('name the studies to compare, folders of results/: make compare STUDIES="a b"')
    found = []
    for study in dict.fromkeys(studies):
        folders = [path.parent for path in sorted((results / study).glob("*/geometry.json"))]
        if not folders:
            there = sorted({path.parts[-3] for path in results.glob("*/*/geometry.json")})
            raise InputError(f"{results / study}: no model with results; studies here: {', '.join(there) or 'none'}")
        found += [(study, folder) for folder in folders]
    names = [folder.name for _, folder in found]
    models = {}
    for study, folder in found:
        inputs = load_inputs(folder, KINDS)
        for kind, columns in EMPTY.items():
            if not len(inputs[kind]):
                inputs[kind] = pd.DataFrame(columns=columns)
        models[folder.name if names.count(folder.name) == 1 else f"{folder.name} ({study})"] = inputs
    return models


def coefficients(table: pd.DataFrame) -> Table:
    """One row a model, by family and size, then the means over families."""
    rows = []
    for row in _by_size(table).to_dict("records"):
        dis = f.fixed(row["r_dis"], 2, True)
        if not f.missing(row["ci_low"]):
            dis += f" ({f.interval(row['ci_low'], row['ci_high'], 2, True)})"
        attention = "" if f.missing(row["attention"]) else row["attention"]
        family = "" if f.missing(row["family"]) else row["family"]
        cells = [family, f.scaled(row["n_params"]), attention, f.number(row["n_layers"]), f.fixed(row["r_s"], 2, True)]
        note = "" if f.missing(row["note"]) else row["note"]
        rows.append([row["model"], *cells, dis, f.p_value(row["p_depth"]), note])
    columns = ["model", "family", "#parameters", "attention", "#layers", "#r_s", "#without item noise (95 %)"]
    caption = "Correlation of sensitivity and RoPE influence, by family and size"
    return Table(caption, [*columns, "#p given depth", "note"], rows)


def _by_size(table: pd.DataFrame) -> pd.DataFrame:
    """Models by family and size; the means over families stay last."""
    models = table[table["family"].notna()].sort_values(["family", "n_params"], kind="stable")
    return pd.concat([models, table[table["family"].isna()]])


def _against_base(contrasts: pd.DataFrame, outcome: str) -> pd.DataFrame:
    """Contrasts of every arm with base, by arm: held-out loss, or accuracy over all benchmarks."""
    rows = contrasts[(contrasts["outcome"] == outcome) & (contrasts["arm_b"] == "base")]
    rows = rows[rows["benchmark"] == "composite"] if outcome == "accuracy" else rows
    return rows.drop_duplicates("arm_a").set_index("arm_a")


def wins(models: dict[str, dict], outcome: str) -> Table:
    """One row an arm, one column a model: difference from base with its interval; the best of each model is marked."""
    sign, factor, digits, words = {
        "heldout_loss": (-1, 1, 3, "Held-out loss less that of base, nat a token: lower is better"),
        "accuracy": (1, 100, 1, "Accuracy over all benchmarks less that of base, points: higher is better"),
    }[outcome]
    tables = {name: _against_base(inputs["contrasts"], outcome) for name, inputs in models.items()}
    tables = {name: rows for name, rows in tables.items() if len(rows)}
    arms = list(dict.fromkeys(arm for rows in tables.values() for arm in rows.index))
    best = {name: (sign * rows["difference"]).idxmax() for name, rows in tables.items()}
    lines = []
    for arm in arms:
        cells = []
        for name, rows in tables.items():
            if arm not in rows.index:
                cells.append(f.NONE)
                continue
            row = rows.loc[arm]
            bounds = f.interval(factor * row["ci_low"], factor * row["ci_high"], digits, True)
            mark = " best" if best[name] == arm else ""
            cells.append(f"{f.fixed(factor * row['difference'], digits, True)} ({bounds}){mark}")
        won = sum(winner == arm for winner in best.values())
        lines.append([label(arm), *cells, f"{won} of {len(tables)}"])
    lines.sort(key=lambda line: -int(line[-1].split()[0]))
    return Table(words, ["arm", *(f"#{name}" for name in tables), "#best on"], lines)


def arms_by_shortfall(models: dict[str, dict]) -> Table:
    """Arms by how far their held-out loss lies above that of the best arm of the same model, the mean over models."""
    parts = []
    for name, inputs in models.items():
        rows = _against_base(inputs["contrasts"], "heldout_loss")["difference"].astype(float)
        parts.append(pd.DataFrame({"model": name, "arm": rows.index, "above": (rows - rows.min()).to_numpy()}))
    table = pd.concat(parts, ignore_index=True)
    rows = []
    for arm, part in table.groupby("arm", sort=False) if len(table) else ():
        rows.append((part["above"].mean(), [label(str(arm)), *_spread(part["above"], 3)]))
    rows.sort(key=lambda row: row[0])
    columns = ["arm", "#above the best arm (nat a token), mean", "#largest", "#models", "#models where it is best"]
    return Table("Arms by what they lose against the best one", columns, [cells for _, cells in rows])


def metrics_by_regret(models: dict[str, dict]) -> Table:
    """Layer-choice rules that are cheap: highest or lowest layers of a metric, by mean regret over models."""
    parts = [inputs["regret"].assign(model=name) for name, inputs in models.items()]
    table = pd.concat(parts, ignore_index=True).dropna(subset="regret")
    rows = []
    for (metric, direction, against), part in table.groupby(["metric", "direction", "against"], sort=False):
        words = {"top": "highest", "bottom": "lowest"}[direction]
        cells = [f"{words} layers of {label(metric)}", label(against)]
        lowest = table[table["against"] == against].groupby("model")["regret"].min()
        above = part["regret"].astype(float)
        best = int((above.to_numpy() <= lowest.loc[part["model"]].to_numpy(float)).sum())
        spread = [f.fixed(above.mean(), 2), f.fixed(above.max(), 2), f.number(len(above)), f.number(best)]
        rows.append((above.mean(), [*cells, *spread]))
    rows.sort(key=lambda row: row[0])
    columns = ["rule", "measured against", "#regret, mean", "#largest", "#models", "#models where it is best"]
    caption = "Leaderboard of layer-choice rules by regret: 0 = the best layers, 1 = no better than random ones"
    return Table(caption, columns, [cells for _, cells in rows])


def _spread(values: pd.Series, digits: int) -> list[str]:
    best = int((values == 0).sum())
    return [f.fixed(values.mean(), digits), f.fixed(values.max(), digits), f.number(len(values)), f.number(best)]


def absent(models: dict[str, dict]) -> list[str]:
    """What each model does not have, in words."""
    words = {"correlations": "its profiles are not correlated", "contrasts": "its arms are not compared"}
    words |= {"regret": "no layer gain was measured"}
    missing = {name: [said for kind, said in words.items() if not len(one[kind])] for name, one in models.items()}
    return [f"{name}: {', '.join(said)}." for name, said in missing.items() if said]


def _figure(table: pd.DataFrame) -> dict:
    """The coefficients as a forest plot, inlined as the report's figures are."""
    import matplotlib

    title = "The coefficient by family and size"
    with matplotlib.rc_context(style.STYLE):
        drawn = forest(table)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "forest.svg"
        figures.save(drawn, path)
        svg = page.inline_svg(path.read_text(encoding="utf-8"), "compare-forest", title)
    caption = (
        "Rank correlation of sensitivity and RoPE influence without item noise, with its 95 % interval, largest model "
        "of a family last. Diamonds: means over families (random effects). No line where a model has no interval."
    )
    chart = charts.specification("coefficients", _by_size(table), title)
    return {"id": "figure-forest", "title": title, "caption": caption, "svg": svg, "chart": chart, "files": []}


def forest(table: pd.DataFrame):
    """Coefficient and interval of each model; drawn from the top."""
    rows = _by_size(table)
    rows = rows[rows["r_dis"].notna()]
    if not len(rows):
        return style.message("No model of these studies has a correlation with an interval.")
    figure, axes = style.canvas(0.8 + 0.32 * len(rows))
    axis, place = axes[0, 0], list(range(len(rows)))[::-1]
    pooled = rows["family"].isna().to_numpy()
    axis.hlines(place, rows["ci_low"].astype(float), rows["ci_high"].astype(float), color=style.INK)
    for chosen, marker, colour in ((~pooled, "o", style.BLUE), (pooled, "D", style.RED)):
        where = [at for at, one in zip(place, chosen, strict=True) if one]
        axis.plot(rows["r_dis"].astype(float)[chosen], where, marker, color=colour)
    axis.axvline(0, color=style.MUTED, linewidth=0.8)
    sizes = ["" if f.missing(n) else f", {f.scaled(n)}" for n in rows["n_params"].astype(float)]
    axis.set_yticks(place, [f"{name}{size}" for name, size in zip(rows["model"], sizes, strict=True)])
    axis.set_xlim(-1.02, 1.02)
    axis.set_xlabel("rank correlation of sensitivity and RoPE influence, without item noise")
    return figure


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", help="names of studies: folders of results/")
    try:
        names = parser.parse_args(argv).studies
        bad = [name for name in names if not re.fullmatch(r"[\w.-]+", name)]
        if bad:
            raise InputError(f"{bad[0]}: a study is named as its folder in results/, without slashes")
        print(f"Open {write_comparison(names)} in a browser")
    except InputError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
