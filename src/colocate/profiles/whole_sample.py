"""What effective_rank, dataset_entropy and spectral_norm share: one number of a layer's states of all texts together.

X (N, D): the pooled outputs of layer l for the N texts prompt + right answer of all pairs and paraphrases. Such a
statistic has no items to average; its interval comes from halves of the texts (intervals.half_sampling).

Variants pool (capture.pooled_states), and pool/centred with the mean text taken away: not centred, as published, the
first singular value is mostly the mean.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from colocate.files import Progress, silent
from colocate.profiles import Profile, tables
from colocate.profiles.capture import FORMS, POOLS, pooled_states, right_texts
from colocate.profiles.intervals import half_sampling
from colocate.profiles.settings import Pooled, parse

FEWEST = 4  # texts, so that half of them still spread


@dataclass(frozen=True)
class Settings(Pooled):
    """centred: without the mean text."""

    pools = POOLS
    centred: bool = False


def measure(
    statistic: Callable[[np.ndarray], np.ndarray],
    model,
    tokenizer,
    settings: dict,
    data: dict,
    progress: Progress = silent,
) -> Profile:
    """Profile and variants of `statistic`, (L, N, D) to (L,)."""
    chosen = parse(Settings, settings)
    rows = right_texts(data, FEWEST)
    texts = [(row.prompt, row.correct) for row in rows]
    states = pooled_states(model, tokenizer, texts, chosen.batch_tokens, progress)[:, FORMS.index("state")]
    return Profile(profile=profile_of(statistic, [states], chosen), variants=variants_of(statistic, [states]))


def profile_of(statistic: Callable, states: Sequence[np.ndarray], chosen: Settings) -> pd.DataFrame:
    """The chosen variant's table. `statistic` takes as many (L, N, D) as there are `states`, (N, POOLS, L, D) each."""

    def of(texts: np.ndarray) -> np.ndarray:
        return statistic(*_samples(states, chosen.pool, chosen.centred, texts))

    n_texts = len(states[0])
    return tables.profile(of(np.arange(n_texts)), *half_sampling(of, n_texts, chosen.seed), n_texts)


def variants_of(statistic: Callable, states: Sequence[np.ndarray], prefix: str = "") -> pd.DataFrame:
    """All variants' values, named prefix + pool, and prefix + pool/centred."""
    named = {(pool, centred): f"{prefix}{pool}{'/centred' * centred}" for pool in POOLS for centred in (False, True)}
    rows = [
        tables.variant_rows(name, ["all"], statistic(*_samples(states, *which))[np.newaxis])
        for which, name in named.items()
    ]
    return pd.concat(rows, ignore_index=True)


def _samples(states: Sequence[np.ndarray], pool: str, centred: bool, texts=slice(None)) -> list[np.ndarray]:
    """(L, N, D) float64 of the texts in each of `states`."""
    found = [one[texts, POOLS.index(pool)].astype(np.float64).swapaxes(0, 1) for one in states]
    return [x - x.mean(axis=1, keepdims=True) for x in found] if centred else found
