"""Sensitivity of layer l: how far apart the states of a right and a wrong answer are.

Formula   s_l = mean over pairs of 1 - cos(h+_l, h-_l)
          h_l (D,): output of decoder layer l, pooled over tokens in float32; the cosine in float64.
Source    Rao 2026, arXiv:2604.07766, as far as it is known: mean pooling over all tokens, 15 hand-made pairs.

The print leaves open over which tokens one pools, and the cosine is symmetric: it cannot tell "wrong" from "different".
So one pass gives every combination of three choices, as variants named contrast/pool/form:

contrast  task         correct against incorrect
          core         the same over the pairs tagged `core` alone
          wrong_wrong  incorrect against incorrect2: what a difference in wording makes, rightness aside
          paraphrase   two right answers: the same from the other side
          swap         two pairs, each one's right answer the other's wrong one: the mean of both right texts against
                       the mean of both wrong ones. Both sides hold the same prompts and the same answers
pool      all, skip_first, answer, unit        (capture.pooled_states)
form      state        h_l
          increment    h_l - h_{l-1}, what the layer adds
          normalised   of states, over the mean distance of the right texts of different pairs in that layer
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from colocate.errors import InputError
from colocate.files import Progress, silent
from colocate.pairs import answers_of, swaps
from colocate.profiles import Profile, tables
from colocate.profiles.capture import FORMS, POOLS, pooled_states
from colocate.profiles.settings import at_least, choice, parse

CONTRASTS = ("task", "core", "wrong_wrong", "paraphrase", "swap")


@dataclass(frozen=True)
class Settings:
    """Which variant becomes the profile. seed: of the bootstrap. batch_tokens: tokens that share a forward."""

    pool: str = "all"
    form: str = "state"
    contrast: str = "task"
    seed: int = 0
    batch_tokens: int = 4096

    def __post_init__(self):
        choice("pool", self.pool, POOLS)
        choice("form", self.form, (*FORMS, "normalised"))
        choice("contrast", self.contrast, CONTRASTS)
        at_least("batch_tokens", self.batch_tokens, 1)


def compute(model, tokenizer, settings: dict, data: dict, progress: Progress = silent) -> Profile:
    """Profile, items and all variants over data["pairs"] and data["paraphrases"]; item = the pair's id."""
    chosen = parse(Settings, settings)
    rows = [*data["pairs"], *data.get("paraphrases", ())]
    keys = [(row.id, name) for row in rows for name in answers_of(row)]
    texts = [(row.prompt, getattr(row, name)) for row in rows for name in answers_of(row)]
    if not data["pairs"]:
        raise InputError("pairs: found none, expected at least one")
    states = pooled_states(model, tokenizer, texts, chosen.batch_tokens, progress)
    distances = contrasts(states, {key: index for index, key in enumerate(keys)}, data)

    name = f"{chosen.contrast}/{chosen.pool}/{chosen.form}"
    if name not in distances:
        raise InputError(f"contrast: found {chosen.contrast!r}, but the data hold no such items for form {chosen.form}")
    items, values = distances[name]
    return Profile(
        profile=tables.mean_profile(values, chosen.seed),
        items=tables.item_rows(items, values),
        variants=pd.concat([tables.variant_rows(name, *found) for name, found in distances.items()], ignore_index=True),
    )


def contrasts(states: np.ndarray, index: dict, data: dict) -> dict[str, tuple[list[str], np.ndarray]]:
    """Variant name to its items and their distances (n, L).

    states (texts, FORMS, POOLS, L, D); index: (id, answer field) to the text's row. A contrast without items is left
    out.
    """
    pairs, paraphrases, partners = data["pairs"], data.get("paraphrases", ()), swaps(data["pairs"])

    def of(rows, answer: str) -> np.ndarray:
        return states[[index[row.id, answer] for row in rows]]

    def both(answer: str) -> np.ndarray:
        return (of([p for p, _ in partners], answer) + of([q for _, q in partners], answer)) / 2

    found = {"task": ([pair.id for pair in pairs], distance(of(pairs, "correct"), of(pairs, "incorrect")))}
    core = [row for row, pair in enumerate(pairs) if "core" in pair.tags]
    if core:
        found["core"] = ([pairs[row].id for row in core], found["task"][1][core])
    found["wrong_wrong"] = (found["task"][0], distance(of(pairs, "incorrect"), of(pairs, "incorrect2")))
    if paraphrases:
        values = distance(of(paraphrases, "correct"), of(paraphrases, "paraphrase"))
        found["paraphrase"] = ([row.id for row in paraphrases], values)
    if partners:
        values = distance(both("correct"), both("incorrect"))
        found["swap"] = ([f"{p.id}+{q.id}" for p, q in partners], values)

    variants = {}
    for contrast, (items, values) in found.items():
        for form, pool in ((form, pool) for form in range(len(FORMS)) for pool in range(len(POOLS))):
            variants[f"{contrast}/{POOLS[pool]}/{FORMS[form]}"] = items, values[:, form, pool]
    if len(pairs) > 1:
        spread = mean_distance(of(pairs, "correct")[:, FORMS.index("state")])
        for contrast, (items, values) in found.items():
            for pool, name in enumerate(POOLS):
                variants[f"{contrast}/{name}/normalised"] = items, values[:, FORMS.index("state"), pool] / spread[pool]
    return variants


def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """1 - cos of (..., D) and (..., D), as half the squared distance of the unit vectors: exact near 0 as well."""
    return ((_unit(a) - _unit(b)) ** 2).sum(axis=-1) / 2


def mean_distance(states: np.ndarray) -> np.ndarray:
    """Mean of 1 - cos over all pairs of different rows of (n, ..., D), without a loop over pairs.

    With u the unit vectors: sum over i != j of u_i u_j = ||sum u||^2 - n.
    """
    n, total = len(states), sum(_unit(row) for row in states)
    return 1 - ((total**2).sum(axis=-1) - n) / (n * (n - 1))


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
