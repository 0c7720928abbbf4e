"""How well a layer profile is known from its items, and the interval of a rank correlation that follows.

items        one value an item (pair or text) and layer, all above 0: distances, divergences
score        log value minus the item's mean over layers, (n items, L): an item's scale says nothing about the layers
profile      mean of the scores over items
R            reliability: correlation of the profiles of two random halves of the items, mean over 50 splits, stepped up
             to all items by Spearman-Brown, 2 r / (1 + r)
r_dis        r / sqrt(R_x R_y): what the rank correlation would be without item noise
interval     r_dis + (bootstrap percentiles of r - their mean) / sqrt(R_x R_y), within [-1, 1]. A plain percentile
             bootstrap adds the noise a second time: its replicates centre nearer to 0 than r does, and its intervals
             miss
beyond depth the same throughout with the ranks replaced by their residuals on depth

One draw of items serves both profiles as far as they share items; items of one profile alone are drawn on their own.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from colocate.errors import InputError
from colocate.statistics.surrogates import residuals

FEWEST_ITEMS = 4  # two a half
SPLITS, DRAWS = 50, 2000


@dataclass(frozen=True)
class ItemScores:
    """Scores (n, L) of n items over L layers; `raised` counts values at or below 0 that were raised to the smallest
    positive one.
    """

    names: list
    scores: np.ndarray
    raised: int


@dataclass(frozen=True)
class Association:
    """Rank correlation r of two item profiles, its reliabilities, disattenuated value, and 95 and 90 % intervals."""

    r: float
    reliability_x: float
    reliability_y: float
    r_dis: float
    interval95: tuple[float, float]
    interval90: tuple[float, float]


def item_values(items: pd.DataFrame, layers, name: str) -> pd.DataFrame:
    """`item,layer,value` as one row an item and one column a layer of `layers`. Raises InputError on doubles, gaps and
    no items.
    """
    rows = items[items["layer"].isin(layers)]
    double = rows.duplicated(["item", "layer"])
    if double.any():
        first = rows[double].iloc[0]
        raise InputError(
            f"profile {name}: item {first['item']!r} has two values at layer {first['layer']}; allowed: one"
        )
    table = rows.pivot(index="item", columns="layer", values="value").reindex(columns=list(layers))
    gaps = table.isna().to_numpy()
    if table.empty or gaps.any():
        where = (
            "no items" if table.empty else f"item {table.index[gaps.any(axis=1)][0]!r} without a value at every layer"
        )
        raise InputError(f"profile {name}: found {where}; allowed: one value for each item and layer")
    return table


def item_scores(items: pd.DataFrame, layers, name: str) -> ItemScores:
    """Scores of the items over `layers`, in the order of the items' names."""
    table = item_values(items, layers, name)
    values = table.to_numpy(float)
    positive = values > 0
    if not positive.any():
        raise InputError(f"profile {name}: no item value is above 0; allowed: distances and divergences")
    logs = np.log(np.where(positive, values, values[positive].min()))
    return ItemScores(list(table.index), logs - logs.mean(axis=1, keepdims=True), int((~positive).sum()))


def unit_ranks(profiles: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Rows of (B, L) as ranks, less the basis, scaled to norm 1: the product of two such rows is their (partial) rank
    correlation.
    """
    left = residuals(stats.rankdata(profiles, axis=-1), basis)
    norm = np.linalg.norm(left, axis=-1, keepdims=True)
    return np.divide(left, norm, out=np.zeros_like(left), where=norm > 1e-9)


def spearman_brown(r: float) -> float:
    """Reliability of the whole from the correlation of its halves; 0 if they do not agree at all."""
    return 2 * r / (1 + r) if r > 0 else 0.0


def reliability(scores: np.ndarray, basis: np.ndarray, rng: np.random.Generator) -> float:
    """R of the profile of (n, L) scores, NaN with fewer than four items."""
    n = len(scores)
    if n < FEWEST_ITEMS:
        return float("nan")
    first = np.zeros((SPLITS, n))
    np.put_along_axis(first, rng.permuted(np.tile(np.arange(n), (SPLITS, 1)), axis=1)[:, : n // 2], 1.0, axis=1)
    halves = [unit_ranks(half @ scores / half.sum(axis=1, keepdims=True), basis) for half in (first, 1 - first)]
    return spearman_brown(float((halves[0] * halves[1]).sum(axis=1).mean()))


def items_needed(reliability: float, n: int, target: float = 0.9) -> float:
    """Items for reliability `target`, by Spearman-Brown from `reliability` at n items; infinite where that is 0."""
    if not 0 < reliability <= 1:
        return float("nan") if np.isnan(reliability) else float("inf")
    needed = n * target * (1 - reliability) / ((1 - target) * reliability)
    return float(np.ceil(round(needed, 9)))


def draw_items(names_x: list, names_y: list, draws: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap weights (draws, n_x) and (draws, n_y), each row a resample; an item of both profiles has one weight in
    both.
    """

    def resample(names: list) -> dict:
        if not names:
            return {}
        counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
        return dict(zip(names, counts.T, strict=True))

    shared = set(names_x) & set(names_y)
    common = resample([name for name in names_x if name in shared])
    both = []
    for names in (names_x, names_y):
        weights = common | resample([name for name in names if name not in shared])
        both.append(np.stack([weights[name] for name in names], axis=1).astype(float))
    return both[0], both[1]


def associate(
    x: ItemScores, y: ItemScores, basis: np.ndarray, rng: np.random.Generator, draws: int = DRAWS
) -> Association:
    """The rank correlation of two item profiles given `basis` (L, columns), with its interval.

    NaN reliability, r_dis and interval where a profile has fewer than four items; NaN r_dis and interval where a
    profile's halves do not agree at all, since nothing can be said of a profile that is noise.
    """
    r = float((unit_ranks(x.scores.mean(axis=0), basis) * unit_ranks(y.scores.mean(axis=0), basis)).sum())
    reliabilities = [reliability(profile.scores, basis, rng) for profile in (x, y)]
    scale = float(np.sqrt(np.prod(reliabilities)))
    if not scale > 0:
        nothing = (float("nan"),) * 2
        return Association(r, *reliabilities, float("nan"), nothing, nothing)
    weights = draw_items(x.names, y.names, draws, rng)
    drawn = [w @ profile.scores / w.sum(axis=1, keepdims=True) for w, profile in zip(weights, (x, y), strict=True)]
    replicates = (unit_ranks(drawn[0], basis) * unit_ranks(drawn[1], basis)).sum(axis=1)
    spread = (np.percentile(replicates, [2.5, 97.5, 5, 95]) - replicates.mean()) / scale
    bounds = [float(bound) for bound in np.clip(r / scale + spread, -1, 1)]
    return Association(r, *reliabilities, float(np.clip(r / scale, -1, 1)), tuple(bounds[:2]), tuple(bounds[2:]))


def top_sets(values: np.ndarray, k: int, rng: np.random.Generator, draws: int = DRAWS) -> np.ndarray:
    """(draws, L) of booleans: the k highest layers of the mean of (n, L) item values, for bootstrap draws of the n
    items.
    """
    weights = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), size=draws)
    order = np.argsort(-(weights @ values), axis=1, kind="stable")[:, :k]
    chosen = np.zeros((draws, values.shape[1]), dtype=bool)
    np.put_along_axis(chosen, order, True, axis=1)
    return chosen


def selection_probability(items: pd.DataFrame, k: int, name: str = "profile", seed: int = 0) -> pd.DataFrame:
    """`layer,probability`: how often a layer is among the top k when the items are drawn anew."""
    layers = sorted(items.dropna(subset=["value"])["layer"].unique())
    table = item_values(items, layers, name)
    chosen = top_sets(table.to_numpy(float), k, np.random.default_rng(seed))
    return pd.DataFrame({"layer": layers, "probability": chosen.mean(axis=0)})
