"""Does one sensitivity profile serve every domain and language? domains.csv: one row for each two of them.

profile,kind,a,b    kind domain or language; a and b two of them
r_s                 Spearman's correlation of the two profiles, each the mean over its own items
r_dis, ci_*         correlation of the item profiles without item noise, with its intervals (reliability.py)
reliability_a, _b   of each profile over its items
jaccard             of the top k layers of each
n_a, n_b            items
note                why something is missing: too few items, or all items of one domain (then b is empty)
"""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from colocate.statistics.correlations import TOP
from colocate.statistics.reliability import FEWEST_ITEMS, associate, item_scores, item_values, jaccard, top_of
from colocate.statistics.stability import top_count, with_values
from colocate.statistics.surrogates import depth_basis

KINDS = ("domain", "language")
_NAMES = (
    "profile,kind,a,b,r_s,r_dis,jaccard,n_a,n_b,ci_low,ci_high,ci90_low,ci90_high,reliability_a,reliability_b,top,note"
)
COLUMNS = _NAMES.split(",")
DRAWS = 500


def domains(
    items: dict[str, pd.DataFrame | None], labels: dict[str, dict[str, str]], top: float = TOP, seed: int = 0
) -> pd.DataFrame:
    """The table with COLUMNS.

    items     sensitivity profiles: name to `item,layer,value`; an item of several pairs is named `p+q`
    labels    {"domain": {pair id: its domain}, "language": {...}}; items without a label are left out
    """
    rows = []
    for name, table in items.items():
        if table is None:
            continue
        for kind in KINDS:
            rows += _of_kind(name, table, kind, labels[kind], top, seed)
    return pd.DataFrame(rows, columns=COLUMNS)


def _of_kind(name: str, table: pd.DataFrame, kind: str, label: dict[str, str], top: float, seed: int) -> list[dict]:
    layers, first = with_values(table), table["item"].astype(str).str.split("+").str[0]
    labelled = table.assign(label=first.map(label)).dropna(subset=["label"])
    parts = {str(value): rows for value, rows in labelled.groupby("label")}
    start = {"profile": name, "kind": kind}
    if len(parts) == 1:
        only, n = next(iter(parts)), labelled["item"].nunique()
        note = f"all pairs are of one {kind}, {only}: nothing to compare; add pairs of another {kind}"
        return [start | {"a": only, "b": "", "n_a": n, "note": note}]
    n_items = {value: rows["item"].nunique() for value, rows in parts.items()}
    few = {value for value, n in n_items.items() if n < FEWEST_ITEMS}
    means = {value: item_values(rows, layers, f"{name}, {value}").mean() for value, rows in parts.items()}
    scores = {value: item_scores(rows, layers, f"{name}, {value}") for value, rows in parts.items() if value not in few}
    k, basis = top_count(len(layers), top), depth_basis(np.array(layers, float), 0)
    rng, rows = np.random.default_rng([seed, 3]), []
    for a, b in combinations(parts, 2):
        sets = [top_of(means[value].to_numpy()[None], k) for value in (a, b)]
        row = start | {"a": a, "b": b, "n_a": n_items[a], "n_b": n_items[b], "top": k, "note": ""}
        row |= {"r_s": float(stats.spearmanr(means[a], means[b]).statistic), "jaccard": float(jaccard(*sets)[0])}
        if {a, b} & few:
            row["note"] = f"{' and '.join(sorted({a, b} & few))}: fewer than {FEWEST_ITEMS} items, no interval"
        else:
            found = associate(scores[a], scores[b], basis, rng, draws=DRAWS)
            row |= dict(
                zip(("ci_low", "ci_high", "ci90_low", "ci90_high"), (*found.interval95, *found.interval90), strict=True)
            )
            row |= {"r_dis": found.r_dis, "reliability_a": found.reliability_x, "reliability_b": found.reliability_y}
        rows.append(row)
    return rows
