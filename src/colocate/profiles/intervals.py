"""95 % intervals of a layer profile.

Means over items: percentile bootstrap. Draw n of the n items with replacement, average, take the 2.5 and 97.5
percentiles (Efron & Tibshirani 1993, chapter 13). One draw serves all layers: a replicate is a whole profile. Items
that depend on each other (partners) form a cluster, and clusters are drawn.

Statistics of a whole sample (CKA): half-sampling. Resampling with replacement would put texts in twice, and two equal
texts are perfectly similar whatever the model. The mean of a half drawn without replacement varies round that of the
full sample by (1 - 1/2) s^2 / (n/2) = s^2 / n, just as the full sample's mean varies, so the spread needs no rescaling
(Politis, Romano & Wolf 1999, "Subsampling"); the interval is laid round the full-sample value.
"""

from collections.abc import Callable, Sequence

import numpy as np

DRAWS = 2000
HALVES = 200
PERCENTILES = (2.5, 97.5)


def bootstrap_mean(
    values: np.ndarray, seed: int, draws: int = DRAWS, clusters: Sequence | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """values (n, L) to the ends (L,), (L,) of the interval of the mean over items; NaN with fewer than two clusters.

    clusters (n,): items with the same label are drawn together; if left out, every item by itself.
    """
    names: dict = {}
    number = [names.setdefault(label, len(names)) for label in (range(len(values)) if clusters is None else clusters)]
    n_clusters, n_layers = len(names), values.shape[1]
    if n_clusters < 2:
        return np.full(n_layers, np.nan), np.full(n_layers, np.nan)
    sums = np.zeros((n_clusters, n_layers))
    np.add.at(sums, number, values)
    counts = np.random.default_rng(seed).multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), size=draws)
    means = counts @ sums / (counts @ np.bincount(number))[:, np.newaxis]
    low, high = np.percentile(means, PERCENTILES, axis=0)
    return low, high


def half_sampling(
    statistic: Callable[[np.ndarray], np.ndarray], n_items: int, seed: int, draws: int = HALVES
) -> tuple[np.ndarray, np.ndarray]:
    """Ends (L,), (L,) of the interval of statistic(arange(n)); statistic: indices -> (L,), called on random halves."""
    rng = np.random.default_rng(seed)
    full = statistic(np.arange(n_items))
    halves = np.stack([statistic(rng.permutation(n_items)[: n_items // 2]) for _ in range(draws)])
    low, high = np.percentile(halves - halves.mean(axis=0), PERCENTILES, axis=0)
    return full + low, full + high
