"""Probe of layer l: does one direction of its states tell right from wrong, on pairs that it was not made from?

Formula   w = mean over half of the pairs of h+ - h-, h the pooled output of layer l; accuracy on the other half: the
          share of pairs with w.(h+ - h-) > 0 (a tie counts 1/2). Mean over SPLITS random halves; chance 0.5
Source    difference-of-means probe (Marks & Tegmark 2023, arXiv:2310.06824); the half-splits are this project's.

A cosine is symmetric in right and wrong and cannot do this. Pairs with the same two answers (each one's right answer is
often the other's wrong one) fall in one half: across halves a direction could know the answers' tokens instead.
Item = the pair's id, its value the share of the splits that held it out in which it came out right. The interval
resamples pairs, not splits.

Variants contrast/pool: `task` (right against wrong) and `wrong_wrong` (incorrect against incorrect2), the control
that should stay at chance: neither of the two is any more right. Pools: capture.pooled_states.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from colocate.errors import InputError
from colocate.files import Progress, silent
from colocate.pairs import Pair
from colocate.profiles import Profile, tables
from colocate.profiles.answers import check_answers
from colocate.profiles.capture import FORMS, POOLS, pooled_states
from colocate.profiles.settings import at_least, choice, parse

CONTRASTS = {"task": ("correct", "incorrect"), "wrong_wrong": ("incorrect", "incorrect2")}
SPLITS = 200
FEWEST_GROUPS = 4


@dataclass(frozen=True)
class Settings:
    """Which variant becomes the profile. seed: of splits and bootstrap. batch_tokens: tokens that share a forward."""

    pool: str = "skip_first"
    contrast: str = "task"
    seed: int = 0
    batch_tokens: int = 4096

    def __post_init__(self):
        choice("pool", self.pool, POOLS)
        choice("contrast", self.contrast, CONTRASTS)
        at_least("batch_tokens", self.batch_tokens, 1)


def compute(model, tokenizer, settings: dict, data: dict, progress: Progress = silent) -> Profile:
    """Profile, items and variants over data["pairs"]."""
    chosen = parse(Settings, settings)
    pairs = data["pairs"]
    check_answers(model, tokenizer, pairs)
    groups = answer_groups(pairs)
    if groups.max() + 1 < FEWEST_GROUPS:
        raise InputError(f"pairs: found {groups.max() + 1} with answers of their own, a probe needs {FEWEST_GROUPS}")
    names = ("correct", "incorrect", "incorrect2")
    texts = [(pair.prompt, getattr(pair, name)) for pair in pairs for name in names]
    states = pooled_states(model, tokenizer, texts, chosen.batch_tokens, progress)[:, FORMS.index("state")]
    states = states.reshape(len(pairs), len(names), *states.shape[1:])  # (n, 3, POOLS, L, D)

    found, ids = {}, [pair.id for pair in pairs]
    for contrast, (right, wrong) in CONTRASTS.items():
        differences = states[:, names.index(right)] - states[:, names.index(wrong)]
        for number, pool in enumerate(POOLS):
            values = [held_out_accuracy(d, groups, chosen.seed) for d in differences[:, number].swapaxes(0, 1)]
            found[f"{contrast}/{pool}"] = ids, np.stack(values, axis=1)
    return tables.of_items(found, f"{chosen.contrast}/{chosen.pool}", chosen.seed)


def answer_groups(pairs: Sequence[Pair]) -> np.ndarray:
    """(n,) numbers from 0, the same for pairs with the same right and wrong answer, whichever is which.

    In the order of the answers, not of the pairs: so the halves do not depend on the order of a file.
    """
    answers = [tuple(sorted((pair.correct, pair.incorrect))) for pair in pairs]
    numbers = {both: number for number, both in enumerate(sorted(set(answers)))}
    return np.array([numbers[both] for both in answers])


def held_out_accuracy(differences: np.ndarray, groups: np.ndarray, seed: int, splits: int = SPLITS) -> np.ndarray:
    """differences h+ - h- (n, D) to (n,): the share of splits in which each pair, held out, is on the right side."""
    d = differences.astype(np.float64)
    rng, n_groups = np.random.default_rng(seed), groups.max() + 1
    trained = np.stack([rng.permutation(n_groups) < n_groups // 2 for _ in range(splits)])[:, groups]  # (splits, n)
    trained = np.concatenate((trained, ~trained))  # each half once to train, once to test
    scores = trained @ (d @ d.T)  # (2 splits, n): pair i along the sum of the trained differences
    right = np.where(scores == 0, 0.5, scores > 0)
    return (right * ~trained).sum(axis=0) / (~trained).sum(axis=0)
