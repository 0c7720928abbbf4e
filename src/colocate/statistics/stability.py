"""How surely the items of a profile pick its layers, and how many items a stable ranking needs.

selection.csv    profile,layer,probability,top,n_items: how often a layer is among the top k when the n items are drawn
                 anew with replacement
stability.csv    profile,n_items,reliability,rank_correlation,jaccard,draws,published: for subsamples of n of the N
                 items without replacement,
                 reliability        correlation of two disjoint subsamples of min(n, N/2), stepped up to n
                                    (Spearman-Brown)
                 rank_correlation   of the subsample's profile with that of all N items, mean over draws
                 jaccard            of the subsample's top k with that of all N, mean over draws
                 published          whether n is the published study's number of pairs

The last two compare a part with the whole that holds it, so they reach 1 at n = N whatever N is; reliability does not.
"""

from collections.abc import Collection

import numpy as np
import pandas as pd

from colocate.statistics.correlations import TOP
from colocate.statistics.reliability import (
    DRAWS,
    FEWEST_ITEMS,
    item_scores,
    item_values,
    jaccard,
    spearman_brown,
    split_correlation,
    split_weights,
    top_of,
    top_sets,
    unit_ranks,
)
from colocate.statistics.surrogates import depth_basis

SELECTION = ["profile", "layer", "probability", "top", "n_items"]
STABILITY = ["profile", "n_items", "reliability", "rank_correlation", "jaccard", "draws", "published"]
PUBLISHED_PAIRS = 15
SIZES = (4, 6, 8, 10, PUBLISHED_PAIRS, 20, 30, 40, 60, 80, 120, 160, 240, 500, 1000)
SUBSAMPLES = 200


def with_values(items: pd.DataFrame) -> list[int]:
    """Layers where items have values: the others have no such quantity."""
    return sorted(int(layer) for layer in items.dropna(subset=["value"])["layer"].unique())


def top_count(n_layers: int, top: float = TOP) -> int:
    return max(1, round(top * n_layers))


def selection(items: dict[str, pd.DataFrame | None], top: float = TOP, seed: int = 0) -> pd.DataFrame:
    """selection.csv, from name to `item,layer,value`; a metric without items has no rows."""
    parts = []
    for name, table in items.items():
        if table is None:
            continue
        layers = with_values(table)
        values, k = item_values(table, layers, name).to_numpy(float), top_count(len(layers), top)
        share = top_sets(values, k, np.random.default_rng([seed, 4]), DRAWS).mean(axis=0)
        parts.append(
            pd.DataFrame({"profile": name, "layer": layers, "probability": share, "top": k, "n_items": len(values)})
        )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=SELECTION)


def stability(
    items: dict[str, pd.DataFrame | None], distances: Collection[str], top: float = TOP, seed: int = 0
) -> pd.DataFrame:
    """stability.csv, from name to `item,layer,value`; profiles with fewer than four items have no rows.

    distances   profiles whose values are distances or divergences: their scores are logarithms (reliability.py); of the
                others, such as accuracies, the values themselves less the item's mean
    """
    rows = []
    for name, table in items.items():
        if table is None or table["item"].nunique() < FEWEST_ITEMS:
            continue
        layers = with_values(table)
        values, k = item_values(table, layers, name).to_numpy(float), top_count(len(layers), top)
        centred = values - values.mean(axis=1, keepdims=True)
        scores = item_scores(table, layers, name).scores if name in distances else centred
        basis, n_all = depth_basis(np.array(layers, float), 0), len(values)
        whole, chosen = unit_ranks(scores.mean(axis=0), basis), top_of(values.mean(axis=0)[None], k)
        for n in sorted({size for size in SIZES if size < n_all} | {n_all}):
            rng = np.random.default_rng([seed, 5, n])
            half = min(n, n_all // 2)
            agreement = split_correlation(scores, basis, half, SUBSAMPLES, rng)
            drawn = split_weights(n_all, n, SUBSAMPLES, rng)[0]
            rows.append(
                {
                    "profile": name,
                    "n_items": n,
                    "reliability": spearman_brown(agreement, n / half),
                    "rank_correlation": float((unit_ranks(drawn @ scores, basis) * whole).sum(axis=1).mean()),
                    "jaccard": float(jaccard(top_of(drawn @ values, k), chosen).mean()),
                    "draws": SUBSAMPLES,
                    "published": n == PUBLISHED_PAIRS,
                }
            )
    return pd.DataFrame(rows, columns=STABILITY)
