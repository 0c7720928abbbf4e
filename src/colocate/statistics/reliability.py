"""How well a layer profile is known from its items, and the interval of a rank correlation that follows.

items        one value an item (pair or text) and layer, all above 0: distances, divergences
score        log value minus the item's mean over layers, (n items, L): an item's scale says nothing about the layers
profile      mean of the scores over items
R            reliability: correlation r of the profiles of two random halves of m items, mean over 50 splits, stepped up
             to all n by Spearman-Brown, t r / (1 + (t - 1) r) with t = n / m
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


def spearman_brown(r: float, times: float = 2) -> float:
    """Reliability of `times` as many items from that of some; 0 if they do not agree at all."""
    return times * r / (1 + (times - 1) * r) if r > 0 else 0.0


def split_weights(n: int, m: int, splits: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Weights (splits, n) of two disjoint random subsets of m of n items each, 1 / m where chosen."""
    order = rng.permuted(np.tile(np.arange(n), (splits, 1)), axis=1)
    both = np.zeros((2, splits, n))
    for subset, start in zip(both, (0, m), strict=True):
        np.put_along_axis(subset, order[:, start : start + m], 1 / m, axis=1)
    return both[0], both[1]


def split_correlation(scores: np.ndarray, basis: np.ndarray, m: int, splits: int, rng: np.random.Generator) -> float:
    """Mean rank correlation given `basis` of the profiles of two disjoint random subsets of m of the (n, L) scores."""
    one, other = (unit_ranks(part @ scores, basis) for part in split_weights(len(scores), m, splits, rng))
    return float((one * other).sum(axis=1).mean())


def reliability(scores: np.ndarray, basis: np.ndarray, rng: np.random.Generator) -> float:
    """R of the profile of (n, L) scores, NaN with fewer than four items."""
    n = len(scores)
    if n < FEWEST_ITEMS:
        return float("nan")
    return spearman_brown(split_correlation(scores, basis, n // 2, SPLITS, rng), n / (n // 2))


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


def top_of(values: np.ndarray, k: int) -> np.ndarray:
    """(rows, L) of booleans: the k highest of each row; of equals the earlier layer."""
    chosen = np.zeros(values.shape, dtype=bool)
    np.put_along_axis(chosen, np.argsort(-values, axis=1, kind="stable")[:, :k], True, axis=1)
    return chosen


def top_sets(values: np.ndarray, k: int, rng: np.random.Generator, draws: int = DRAWS) -> np.ndarray:
    """(draws, L) of booleans: the k highest layers of the mean of (n, L) item values, for bootstrap draws of the n
    items.
    """
    weights = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), size=draws)
    return top_of(weights @ values, k)


def jaccard(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Shared over all chosen layers, of boolean (..., L) sets."""
    return (one & other).sum(axis=-1) / np.maximum((one | other).sum(axis=-1), 1)
