"""Variance of a mean difference over crossed items and seeds, and the tests that go with it.

D(s, i)      difference of two arms (or another combination) for seed s = 1..k on item i = 1..n: a new seed meets the
             same items, so items and seeds are crossed random effects and each adds its own variance
MS_item      k var_i(mean over s of D)                                                      n - 1 degrees of freedom
MS_res       sum of (D - item mean - seed mean + mean)^2 / ((n - 1)(k - 1))                 (n - 1)(k - 1)
MS_seed      n w v, w the sum of squared weights of trained arms (2 for two of them), v the variance of an arm's score
             over seeds, pooled over all A trained arms, since two seeds of one say little  A (k - 1)
Var          max(MS_item + MS_seed - MS_res, MS_item) / (k n)
composite    mean of B benchmarks: item and residual parts add up over B^2; the seed part is of the composite score, so
             that what a seed does to several benchmarks at once is kept
df           Satterthwaite (1946): (sum of parts)^2 / sum of (part^2 / its df)

Clusters (problems over languages, subjects, templates) take the place of items: with C clusters of n_c of the N items
and mean difference M, the cluster's value is U(s, c) = M + C/N sum over its items of (D - M), whose mean over clusters
is the mean over items. Two-way random effects: Searle, Casella & McCulloch 1992, Variance Components, ch. 4.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Parts:
    """Mean of D over k seeds and n units (items or clusters), with its item and residual variances, MS / (k n)."""

    mean: float
    item: float
    residual: float
    n: int
    k: int


@dataclass(frozen=True)
class Estimate:
    """A mean difference, its standard error and degrees of freedom."""

    difference: float
    se: float
    df: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        half = stats.t.ppf(0.5 + level / 2, self.df) * self.se if self.se > 0 else self.se
        return self.difference - half, self.difference + half

    @property
    def p(self) -> float:
        """Two-sided p of no difference; NaN where nothing varies."""
        return float(2 * stats.t.sf(abs(self.difference) / self.se, self.df)) if self.se > 0 else float("nan")


def cluster(d: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(k, n) item differences as (k, C) cluster values with the same means; `codes` (n,) number the clusters from 0."""
    n, clusters = d.shape[1], codes.max() + 1
    sums = np.stack([np.bincount(codes, weights=row, minlength=clusters) for row in d - d.mean()])
    return d.mean() + sums * clusters / n


def crossed(d: np.ndarray) -> Parts:
    """Item and residual parts of (k, n) differences; NaN with fewer than two units."""
    k, n = d.shape
    mean, item_means = float(d.mean()), d.mean(axis=0)
    if n < 2:
        return Parts(mean, float("nan"), float("nan"), n, k)
    item = item_means.var(ddof=1) / n
    residual = 0.0
    if k > 1:
        left = d - item_means - d.mean(axis=1, keepdims=True) + mean
        residual = (left**2).sum() / ((n - 1) * (k - 1)) / (k * n)
    return Parts(mean, float(item), float(residual), n, k)


def combine(
    parts: list[Parts], seed: float = 0.0, seed_df: float = 1, draw: float = 0.0, draw_df: float = 1
) -> Estimate:
    """Mean over benchmarks with equal weight. `seed` and `draw` are variances of that mean: of training again, of
    drawing layers again.
    """
    b2 = len(parts) ** 2
    items = [(part.item / b2, part.n - 1) for part in parts]
    rest = [(part.residual / b2, (part.n - 1) * (part.k - 1)) for part in parts if part.k > 1]
    item, residual = sum(v for v, _ in items), sum(v for v, _ in rest)
    used = [*items, (draw, draw_df)]
    variance = item + draw
    if seed > residual:
        used += [(seed, seed_df), *rest]
        variance += seed - residual
    scale = sum(v**2 / df for v, df in used if v > 0)
    df = variance**2 / scale if scale > 0 else float(min((part.n - 1 for part in parts), default=1))
    return Estimate(float(np.mean([part.mean for part in parts])), float(np.sqrt(variance)), max(1.0, float(df)))


def least_item_variance(n_items: int) -> float:
    """Item variance of a mean paired difference of right and wrong when one item more had gone each way: 2 / (n + 2)^2.

    A floor for accuracy, after Bonett & Price 2012 (J. Educ. Behav. Stat. 37): without it, eight items on which two
    arms agree would give an interval of width 0.
    """
    return 2 / (n_items + 2) ** 2


def bonett_price_se(d: np.ndarray) -> float:
    """Standard error of a paired difference of proportions from (n,) values in -1, 0, 1, one item more each way.

    Bonett & Price 2012, J. Educ. Behav. Stat. 37: with it the Wald interval keeps its level for a few dozen items.
    """
    n = len(d)
    wins, losses = ((np.count_nonzero(side) + 1) / (n + 2) for side in (d > 0, d < 0))
    return float(np.sqrt((wins + losses - (wins - losses) ** 2) / (n + 2)))


def mcnemar(d: np.ndarray) -> float:
    """Exact two-sided p of McNemar's test from (n,) paired differences in -1, 0, 1; 1 where no item differs."""
    wins, losses = int(np.count_nonzero(d > 0)), int(np.count_nonzero(d < 0))
    return float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjusted p values (1979), NaN where p is NaN; NaN tests do not count."""
    p = np.asarray(p, float)
    adjusted, order = np.full(len(p), np.nan), [i for i in np.argsort(p) if np.isfinite(p[i])]
    reached = 0.0
    for rank, i in enumerate(order):
        reached = max(reached, min(1.0, (len(order) - rank) * p[i]))
        adjusted[i] = reached
    return adjusted
