"""What curvature and prompt_entropy share: one number of the tokens of each text, averaged over texts.

Texts: prompt + right answer of all pairs and paraphrases; item = the row's id. Variants `all` tokens, and `skip_first`
without token 0, an attention sink whose norm can be a hundred times that of its neighbours.
"""

from collections.abc import Callable

import numpy as np

from colocate.files import Progress, silent
from colocate.profiles import Profile, tables
from colocate.profiles.capture import TOKENS, right_texts, token_statistic
from colocate.profiles.settings import Pooled, parse


class Settings(Pooled):
    pools = TOKENS


def measure(
    statistic: Callable[[np.ndarray], np.ndarray],
    model,
    tokenizer,
    settings: dict,
    data: dict,
    progress: Progress = silent,
) -> Profile:
    """Profile, items and variants of `statistic`, (L, T, D) of one text to (L,)."""
    chosen = parse(Settings, settings)
    rows = right_texts(data)
    texts = [(row.prompt, row.correct) for row in rows]
    values = token_statistic(model, tokenizer, texts, statistic, chosen.batch_tokens, progress)
    found = {pool: ([row.id for row in rows], values[:, number]) for number, pool in enumerate(TOKENS)}
    return tables.of_items(found, chosen.pool, chosen.seed)
