"""Linear CKA of layer l between a base model and a tuned one: is the layer's picture of the texts still the same?

Formula   X, Y (n, D): the pooled outputs of layer l for n texts, base and tuned; K = X X^T, L = Y Y^T (n, n)
          CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))
biased    HSIC(K, L) = tr(H K H L), H = I - 1/n: the published form. For independent data it tends to 1 as D / n grows
debiased  HSIC(K, L) = [tr(K' L') + 1'K'1 1'L'1 / ((n-1)(n-2)) - 2/(n-2) 1'K'L'1] / (n (n-3)), K' = K with its
          diagonal 0: unbiased, so 0 on average for independent data; it can be negative
Source    Kornblith et al. 2019, arXiv:1905.00414; Song et al. 2012, JMLR 13, equation 5; Murphy et al. 2024,
          arXiv:2405.01012 (debiased CKA).

Texts: the right text of every pair and paraphrase. Variants estimator/pool, with (`all`) and without (`skip_first`)
token 0 among them. The interval comes from halves of the texts without replacement (intervals.half_sampling).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from colocate.files import Progress, silent
from colocate.profiles import Profile, tables
from colocate.profiles.capture import POOLS, right_texts
from colocate.profiles.compared import Compared
from colocate.profiles.intervals import half_sampling
from colocate.profiles.settings import at_least, choice, parse

ESTIMATORS = ("biased", "debiased")
FEWEST = 8  # a half must still hold the four texts that the debiased form needs


@dataclass(frozen=True)
class Settings:
    """Which variant becomes the profile. seed: of the interval. batch_tokens: tokens that share a forward."""

    estimator: str = "debiased"
    pool: str = "all"
    seed: int = 0
    batch_tokens: int = 4096

    def __post_init__(self):
        choice("estimator", self.estimator, ESTIMATORS)
        choice("pool", self.pool, POOLS)
        at_least("batch_tokens", self.batch_tokens, 1)


def compute(compared: Compared, tokenizer, settings: dict, data: dict, progress: Progress = silent) -> Profile:
    """Profile and variants of two models, `estimator/pool`."""
    chosen = parse(Settings, settings)
    rows = right_texts(data, FEWEST)
    base, tuned = compared.states(tokenizer, rows, chosen.batch_tokens, progress)
    every, variants = np.arange(len(rows)), []
    for number, pool in enumerate(POOLS):
        grams = [(gram(x), gram(y)) for x, y in zip(_layers(base[:, number]), _layers(tuned[:, number]), strict=True)]
        for estimator in ESTIMATORS:
            value = _over_layers(grams, estimator, every)
            variants.append(tables.variant_rows(f"{estimator}/{pool}", ["all"], value[np.newaxis]))
            if (estimator, pool) == (chosen.estimator, chosen.pool):
                ends = half_sampling(
                    lambda half, grams=grams: _over_layers(grams, chosen.estimator, half), len(rows), chosen.seed
                )
                profile = tables.profile(value, *ends, len(rows))
    return Profile(profile=profile, variants=pd.concat(variants, ignore_index=True))


def _layers(states: np.ndarray) -> np.ndarray:
    """(n, L, D) to (L, n, D)."""
    return states.swapaxes(0, 1)


def _over_layers(grams: list, estimator: str, chosen: np.ndarray) -> np.ndarray:
    part = np.ix_(chosen, chosen)
    return np.array([cka(k[part], other[part], estimator) for k, other in grams])


def gram(x: np.ndarray) -> np.ndarray:
    """(n, D) to X X^T (n, n) of the centred rows, float64. Centring changes no CKA; it keeps its digits."""
    x = x.astype(np.float64)
    x = x - x.mean(axis=0)
    return x @ x.T


def cka(k: np.ndarray, other: np.ndarray, estimator: str) -> float:
    """CKA of two Gram matrices (n, n) over the same texts."""
    hsic = {"biased": hsic_biased, "debiased": hsic_debiased}[estimator]
    return hsic(k, other) / np.sqrt(hsic(k, k) * hsic(other, other))


def hsic_biased(k: np.ndarray, other: np.ndarray) -> float:
    """tr(H K H L): the Frobenius product of the two centred Gram matrices."""
    return float((_centred(k) * _centred(other)).sum())


def _centred(k: np.ndarray) -> np.ndarray:
    return k - k.mean(axis=0) - k.mean(axis=1, keepdims=True) + k.mean()


def hsic_debiased(k: np.ndarray, other: np.ndarray) -> float:
    """Song et al. 2012, equation 5; n >= 4."""
    n = len(k)
    k, other = k - np.diag(np.diag(k)), other - np.diag(np.diag(other))
    product = (k * other).sum()  # tr(K' L'), both symmetric
    sums = k.sum() * other.sum() / ((n - 1) * (n - 2))
    cross = 2 / (n - 2) * (k.sum(axis=0) @ other.sum(axis=0))
    return float((product + sums - cross) / (n * (n - 3)))
