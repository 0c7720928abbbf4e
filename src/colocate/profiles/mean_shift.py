"""Mean shift of layer l between a base model and a tuned one: how far tuning moved the texts as a whole.

Formula   absolute   || mean_n y_n - mean_n x_n ||, x_n and y_n (D,) the pooled outputs of layer l, base and tuned
          relative   ... over || mean_n x_n ||: the residual stream grows with depth, and a shift with it
Source    Zhao et al. 2026, arXiv:2604.11838 (absolute).

Texts: the right text of every pair and paraphrase. Variants size/pool. The norm of a mean is no mean over texts: the
interval comes from halves of the texts without replacement (intervals.half_sampling).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from colocate.files import Progress, silent
from colocate.profiles import Profile, tables
from colocate.profiles.capture import POOLS, right_texts
from colocate.profiles.compared import Compared
from colocate.profiles.intervals import half_sampling
from colocate.profiles.representation import mean_shift
from colocate.profiles.settings import at_least, choice, parse

SIZES = ("absolute", "relative")


@dataclass(frozen=True)
class Settings:
    """Which variant becomes the profile. seed: of the interval. batch_tokens: tokens that share a forward."""

    size: str = "absolute"
    pool: str = "all"
    seed: int = 0
    batch_tokens: int = 4096

    def __post_init__(self):
        choice("size", self.size, SIZES)
        choice("pool", self.pool, POOLS)
        at_least("batch_tokens", self.batch_tokens, 1)


def compute(compared: Compared, tokenizer, settings: dict, data: dict, progress: Progress = silent) -> Profile:
    """Profile and variants of two models."""
    chosen = parse(Settings, settings)
    rows = right_texts(data, fewest=2)
    base, tuned = compared.states(tokenizer, rows, chosen.batch_tokens, progress)
    states = {pool: (base[:, i].swapaxes(0, 1), tuned[:, i].swapaxes(0, 1)) for i, pool in enumerate(POOLS)}

    def value(size: str, pool: str, texts=slice(None)) -> np.ndarray:
        x, y = (part[:, texts] for part in states[pool])  # (L, n, D)
        return mean_shift(x, y) / (mean_shift(x, np.zeros_like(x)) if size == "relative" else 1)

    ends = half_sampling(lambda half: value(chosen.size, chosen.pool, half), len(rows), chosen.seed)
    return Profile(
        profile=tables.profile(value(chosen.size, chosen.pool), *ends, len(rows)),
        variants=pd.concat(
            [
                tables.variant_rows(f"{size}/{pool}", ["all"], value(size, pool)[np.newaxis])
                for size in SIZES
                for pool in POOLS
            ],
            ignore_index=True,
        ),
    )
