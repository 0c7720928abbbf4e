"""95 % intervals of a layer profile.

Means over items: percentile bootstrap. Draw n of the n items with replacement, average, take the 2.5 and 97.5
percentiles (Efron & Tibshirani 1993, chapter 13). One draw serves all layers: a replicate is a whole profile.

Statistics of a whole sample (CKA): half-sampling. Resampling with replacement would put texts in twice, and two equal
texts are perfectly similar whatever the model. The mean of a half drawn without replacement varies round that of the
full sample by (1 - 1/2) s^2 / (n/2) = s^2 / n, just as the full sample's mean varies, so the spread needs no rescaling
(Politis, Romano & Wolf 1999, "Subsampling"); the interval is laid round the full-sample value.
"""

from collections.abc import Callable

import numpy as np

DRAWS = 2000
HALVES = 200
PERCENTILES = (2.5, 97.5)


def bootstrap_mean(values: np.ndarray, seed: int, draws: int = DRAWS) -> tuple[np.ndarray, np.ndarray]:
    """values (n, L) to the ends (L,), (L,) of the interval of the mean over items; NaN with fewer than two items."""
    n_items, n_layers = values.shape
    if n_items < 2:
        return np.full(n_layers, np.nan), np.full(n_layers, np.nan)
    counts = np.random.default_rng(seed).multinomial(n_items, np.full(n_items, 1 / n_items), size=draws)
    low, high = np.percentile(counts @ values / n_items, PERCENTILES, axis=0)
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
