"""Item tables as arrays, and the estimate of one combination of arms, by `colocate.statistics.variance`.

Scores.values[arm] is (seeds, items) of one outcome on one benchmark, NaN where an arm has no value. A combination is a
weight for each arm: {a: 1, b: -1} is a contrast. The base model is one checkpoint that was never trained: it is
evaluated once, its row serves every seed, and it adds no seed variance. So MS_seed has the factor 2 for two trained
arms and 1 for an arm against base, the sum of squared weights of trained arms. An arm whose layers are drawn anew for
every seed has more variance over seeds than training explains; that excess, over the number of draws, is added for that
arm alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pandas as pd

from colocate.errors import InputError
from colocate.statistics.variance import Estimate, bonett_price_se, cluster, combine, crossed, least_item_variance

FEWEST_CLUSTERS = 5  # with fewer, the spread between clusters cannot be estimated


@dataclass(frozen=True)
class Scores:
    """One outcome on one benchmark. `groups` (n,) codes each item's cluster from 0, None where items stand for
    themselves.
    """

    benchmark: str
    outcome: str
    groups: np.ndarray | None
    seeds: dict[str, list[int]]
    values: dict[str, np.ndarray]


@dataclass(frozen=True)
class Combination:
    """An estimate and what it rests on; `d` holds the (k, n) item differences of each benchmark."""

    estimate: Estimate
    seeds: list[int]
    n_items: int
    n_units: int
    notes: tuple[str, ...]
    d: tuple[np.ndarray, ...]


def scores(table: pd.DataFrame, column: str, benchmark: str, outcome: str, base: str) -> Scores | None:
    """Scores of the rows `arm,seed,item,group,<column>` of one benchmark; None where no row has a value.

    Raises InputError where an item occurs twice in one evaluation, or a value is infinite.
    """
    table = table.assign(value=pd.to_numeric(table[column], errors="coerce").astype(float)).dropna(subset=["value"])
    if table.empty:
        return None
    if not np.isfinite(table["value"]).all():
        row = table[~np.isfinite(table["value"])].iloc[0]
        raise InputError(
            f"{benchmark}, arm {row['arm']} seed {row['seed']}: {column} of item {row['item']} is {row['value']}"
        )
    double = table.duplicated(["arm", "seed", "item"])
    if double.any():
        row = table[double].iloc[0]
        raise InputError(f"{benchmark}, arm {row['arm']} seed {row['seed']}: item {row['item']} occurs twice")
    wide = table.pivot(index=["arm", "seed"], columns="item", values="value")
    seeds, values = {}, {}
    for arm in table["arm"].unique():
        rows = wide.loc[[arm]]
        seeds[arm], values[arm] = [int(seed) for seed in rows.index.get_level_values("seed")], rows.to_numpy(float)
    if base in values:  # the same checkpoint whatever seed it is filed under
        seeds[base], values[base] = [0], values[base].mean(axis=0, keepdims=True)
    return Scores(benchmark, outcome, _clusters(table, wide.columns), seeds, values)


def _clusters(table: pd.DataFrame, items: pd.Index) -> np.ndarray | None:
    """Codes of the items' groups, None where groups say nothing: all items in one, each in its own, or none given."""
    if "group" not in table:
        return None
    group = table.drop_duplicates("item").set_index("item")["group"].reindex(items)
    if group.isna().any():
        return None
    codes = pd.factorize(group)[0]
    return codes if 1 < len(set(codes)) < len(codes) else None


def combination(
    tables: Sequence[Scores], weights: dict[str, float], base: str = "base", random_arms: Sequence[str] = ()
) -> Combination | None:
    """Mean over benchmarks of the weighted sum of arms, over common seeds and items; None where there are none."""
    if any(arm not in table.values for table, arm in product(tables, weights)):
        return None
    trained = [arm for arm in weights if arm != base]
    seeds = sorted(set.intersection(*(set(table.seeds[arm]) for table, arm in product(tables, trained or [base]))))
    if not seeds:
        return None
    k, notes, parts, d, n_units = len(seeds), [], [], [], 0
    for table in tables:
        whole, complete = _difference(table, weights, seeds, base)
        if not complete.any():
            return None
        if not complete.all():
            notes.append(f"{table.benchmark}: {(~complete).sum()} items without a value in every arm left out")
        used, note = _units(table, whole, complete)
        notes += note
        part = crossed(used)
        if table.outcome == "accuracy":
            part = replace(part, item=max(part.item, least_item_variance(whole.shape[1])))
        parts.append(part)
        d.append(whole)
        n_units += used.shape[1]
    seed, seed_df, draw, draw_df = _seed_parts(tables, weights, seeds, base, random_arms)
    n_items = sum(part.shape[1] for part in d)
    estimate = combine(parts, seed, seed_df, draw, draw_df) if k > 1 else combine(parts)
    notes += _remarks(trained, k, base in weights, random_arms)
    if k == 1 and len(tables) == 1 and tables[0].outcome == "accuracy" and len(weights) == 2:
        adjusted = bonett_price_se(d[0][0])
        if n_units == n_items or not estimate.se > adjusted:  # clusters may only widen it
            estimate = replace(estimate, se=adjusted, df=float("inf"))
    return Combination(estimate, seeds, n_items, n_units, tuple(notes), tuple(d))


def _difference(table: Scores, weights: dict, seeds: list[int], base: str) -> tuple[np.ndarray, np.ndarray]:
    """(k, n) weighted sums over the items that every arm has, and which items of the benchmark those are."""
    total = 0.0
    for arm, weight in weights.items():
        rows = [0 if arm == base else table.seeds[arm].index(seed) for seed in seeds]
        total = total + weight * table.values[arm][rows]
    complete = np.isfinite(total).all(axis=0)
    return total[:, complete], complete


def _units(table: Scores, d: np.ndarray, complete: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Differences of the independent units: clusters where there are enough of them, else items."""
    if table.groups is None:
        return d, []
    codes = pd.factorize(table.groups[complete])[0]
    n_groups = int(codes.max() + 1)
    if n_groups < FEWEST_CLUSTERS:
        return d, [f"{table.benchmark}: only {n_groups} groups, items taken as independent"]
    return cluster(d, codes), []


def _seed_parts(tables, weights, seeds, base, random_arms) -> tuple[float, float, float, float]:
    """Seed variance of the combination with its df, and the variance that drawing layers adds, with its df."""
    k = len(seeds)
    if k < 2:
        return 0.0, 1, 0.0, 1
    variances = seed_variances(tables, base)
    pool = {arm: found for arm, found in variances.items() if arm not in random_arms} or variances
    degrees = sum(df for _, df in pool.values())
    pooled = sum(v * df for v, df in pool.values()) / degrees
    seed = sum(weight**2 for arm, weight in weights.items() if arm != base) * pooled / k
    draw = sum(w**2 * max(0.0, variances[arm][0] - pooled) / k for arm, w in weights.items() if arm in random_arms)
    return seed, degrees, draw, k - 1


def seed_variances(tables: Sequence[Scores], base: str) -> dict[str, tuple[float, int]]:
    """Variance over seeds of each trained arm's mean score over the benchmarks, with its degrees of freedom."""
    found = {}
    for arm in set.intersection(*(set(table.values) for table in tables)) - {base}:
        seeds = sorted(set.intersection(*(set(table.seeds[arm]) for table in tables)))
        if len(seeds) < 2:
            continue
        rows = [table.values[arm][[table.seeds[arm].index(seed) for seed in seeds]] for table in tables]
        means = np.mean([np.nanmean(row, axis=1) for row in rows], axis=0)
        found[arm] = (float(means.var(ddof=1)), len(seeds) - 1)
    return dict(sorted(found.items()))


def _remarks(trained: list[str], k: int, with_base: bool, random_arms: Sequence[str]) -> list[str]:
    remarks = ["these two checkpoints: one seed, so nothing is known of training again"] if k == 1 else []
    if with_base and k > 1:
        remarks.append("base is one checkpoint: no seed variance of its own")
    drawn = [arm for arm in trained if arm in random_arms]
    if drawn:
        remarks.append(f"{', '.join(drawn)}: {k} draw{'s' * (k > 1)} of the layers, one a seed")
    return remarks
