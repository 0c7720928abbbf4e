"""1 - CKA of the states that enter and leave layer l: how much the layer rearranges the texts.

Formula   1 - CKA(X, Y), X and Y (N, D) the pooled input and output of layer l for N texts; CKA: linear_cka
Source    arXiv:2602.05988 (LoRA on the layers where this is largest); Kornblith et al. 2019, arXiv:1905.00414.

Texts: prompt + right answer of all pairs and paraphrases. Variants estimator/pool. The interval comes from halves of
the texts (intervals.half_sampling).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from colocate.files import Progress, silent
from colocate.profiles import Profile, tables
from colocate.profiles.capture import FORMS, POOLS, pooled_states, right_texts
from colocate.profiles.intervals import half_sampling
from colocate.profiles.linear_cka import ESTIMATORS, FEWEST, cka, gram
from colocate.profiles.settings import at_least, choice, parse

LINEAR_POOLS = POOLS[:3]  # of these, the pooled input is the pooled output less the pooled increment


@dataclass(frozen=True)
class Settings:
    """Which variant becomes the profile. seed: of the interval. batch_tokens: tokens that share a forward."""

    estimator: str = "biased"
    pool: str = "all"
    seed: int = 0
    batch_tokens: int = 4096

    def __post_init__(self):
        choice("estimator", self.estimator, ESTIMATORS)
        choice("pool", self.pool, LINEAR_POOLS)
        at_least("batch_tokens", self.batch_tokens, 1)


def compute(model, tokenizer, settings: dict, data: dict, progress: Progress = silent) -> Profile:
    """Profile (n = texts) and variants."""
    chosen = parse(Settings, settings)
    rows = right_texts(data, FEWEST)
    texts = [(row.prompt, row.correct) for row in rows]
    states = pooled_states(model, tokenizer, texts, chosen.batch_tokens, progress)

    variants = []
    for number, pool in enumerate(LINEAR_POOLS):
        outputs, increments = (states[:, FORMS.index(form), number].swapaxes(0, 1) for form in FORMS)  # (L, N, D)
        grams = [gram(outputs[0] - increments[0]), *map(gram, outputs)]  # what leaves layer l enters layer l + 1

        def of(part: np.ndarray, estimator: str, grams=grams) -> np.ndarray:
            parts = [whole[np.ix_(part, part)] for whole in grams]
            return np.array([1 - cka(x, y, estimator) for x, y in zip(parts[:-1], parts[1:], strict=True)])

        for estimator in ESTIMATORS:
            value = of(np.arange(len(rows)), estimator)
            variants.append(tables.variant_rows(f"{estimator}/{pool}", ["all"], value[np.newaxis]))
            if (estimator, pool) == (chosen.estimator, chosen.pool):
                ends = half_sampling(lambda half, of=of: of(half, chosen.estimator), len(rows), chosen.seed)
                profile = tables.profile(value, *ends, len(rows))
    return Profile(profile=profile, variants=pd.concat(variants, ignore_index=True))
