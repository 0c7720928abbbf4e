"""Cosine of layer l between a base model and a tuned one: does each text still point in the same direction?

Formula   mean over texts n of cos(x_n, y_n), x_n and y_n (D,) the pooled outputs of layer l for text n, base and tuned
Source    Zhao et al. 2026, arXiv:2604.11838 (there anticorrelated with the weight change, r = -0.79).

Texts: the right text of every pair and paraphrase; item = its id. Variants: the pools.
"""

import numpy as np

from colocate.files import Progress, silent
from colocate.profiles import Profile, tables
from colocate.profiles.capture import POOLS, right_texts
from colocate.profiles.compared import Compared
from colocate.profiles.representation import mean_cosine
from colocate.profiles.settings import Pooled, parse


class Settings(Pooled):
    pools = POOLS


def compute(compared: Compared, tokenizer, settings: dict, data: dict, progress: Progress = silent) -> Profile:
    """Profile, items and variants of two models."""
    chosen = parse(Settings, settings)
    rows = right_texts(data)
    items = [row.id for row in rows]
    base, tuned = compared.states(tokenizer, rows, chosen.batch_tokens, progress)
    # Text by text, as samples of one: (n, POOLS, L)
    cosines = np.array(
        [mean_cosine(x[..., np.newaxis, :], y[..., np.newaxis, :]) for x, y in zip(base, tuned, strict=True)]
    )
    found = {pool: (items, value) for pool, value in zip(POOLS, cosines.swapaxes(0, 1), strict=True)}
    return tables.of_items(found, chosen.pool, chosen.seed)
