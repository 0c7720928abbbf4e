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
          task_minus_X task minus a control X, what rightness adds: per pair (wrong_wrong), per two partners (swap), or,
                       since other texts are paraphrased, per domain (the means of its pairs and of its paraphrases)
pool      all, skip_first, answer, unit        (capture.pooled_states)
form      state        h_l
          increment    h_l - h_{l-1}, what the layer adds
          normalised   of states, over the mean distance of the right texts of different pairs in that layer
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from colocate.errors import InputError
from colocate.files import Progress, silent
from colocate.pairs import Pair, answers_of, encode, swaps
from colocate.profiles import Profile, tables
from colocate.profiles.answers import check_answers
from colocate.profiles.capture import FORMS, POOLS, length_batches, pooled_states
from colocate.profiles.settings import at_least, choice, parse

CONTROLS = ("wrong_wrong", "swap", "paraphrase")
CONTRASTS = ("task", "core", *CONTROLS, *(f"task_minus_{control}" for control in CONTROLS))


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
    """Profile, items and all variants over data["pairs"] and data["paraphrases"]; item = the pair's id.

    Partners share their answers, so the bootstrap draws them together.
    """
    chosen = parse(Settings, settings)
    pairs, paraphrases = data["pairs"], data.get("paraphrases", ())
    check_answers(model, tokenizer, pairs)
    if paraphrases:
        check_answers(model, tokenizer, paraphrases)
    partners = partner_sets(pairs)
    distances, spread = _distances(model, tokenizer, [*partners, *([row] for row in paraphrases)], chosen, progress)
    variants = _variants(contrasts(distances, partners, data), spread)
    name = f"{chosen.contrast}/{chosen.pool}/{chosen.form}"
    if name not in variants:
        raise InputError(f"contrast: found {chosen.contrast!r}, but the data hold no such items for form {chosen.form}")
    set_of = {pair.id: number for number, partner_set in enumerate(partners) for pair in partner_set}
    clusters = [set_of.get(item, item) for item in variants[name][0]]
    return tables.of_items(variants, name, chosen.seed, clusters)


def partner_sets(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """The pairs in order, those that are partners (pairs.swaps) together: sets of one or two."""
    partner = {one.id: other for one, other in swaps(pairs)}
    later = {other.id for other in partner.values()}
    return [[pair, partner[pair.id]] if pair.id in partner else [pair] for pair in pairs if pair.id not in later]


def _distances(model, tokenizer, units: list[list], chosen: Settings, progress: Progress) -> tuple[dict, np.ndarray]:
    """Distances of all units of rows, {contrast: {item: (FORMS, POOLS, L)}}, and the spread of the right texts.

    The spread, (POOLS, L): the mean 1 - cos of the right texts of different pairs. Units go through the model in
    batches of like length, and their states are dropped: memory is bounded by the batch.
    """
    texts = [[(row, name) for row in unit for name in answers_of(row)] for unit in units]
    sizes = [
        len(unit) * max(len(encode(tokenizer, row.prompt, getattr(row, name))[0]) for row, name in unit)
        for unit in texts
    ]
    found: dict[str, dict[str, np.ndarray]] = {contrast: {} for contrast in CONTRASTS}
    total, n_right, done = 0, 0, 0
    for batch in length_batches(sizes, chosen.batch_tokens):
        keys = [key for number in batch for key in texts[number]]
        states = pooled_states(
            model, tokenizer, [(row.prompt, getattr(row, name)) for row, name in keys], chosen.batch_tokens
        )
        named = {(row.id, name): state for (row, name), state in zip(keys, states, strict=True)}
        for number in batch:
            for contrast, item, value in unit_distances(units[number], named):
                found[contrast][item] = value
            for pair in (row for row in units[number] if isinstance(row, Pair)):
                total, n_right = total + _unit(named[pair.id, "correct"][FORMS.index("state")]), n_right + 1
        done += len(batch)
        progress(done / len(units), f"{done} of {len(units)}")
    return found, mean_distance(total, n_right)


def unit_distances(unit: list, states: dict) -> list[tuple[str, str, np.ndarray]]:
    """(contrast, item, distance (FORMS, POOLS, L)) of one set of partners, or of one paraphrase.

    states: (id, answer field) to (FORMS, POOLS, L, D).
    """
    found = []
    for row in unit:
        sides = [("task", "correct", "incorrect"), ("wrong_wrong", "incorrect", "incorrect2")]
        if not isinstance(row, Pair):
            sides = [("paraphrase", "correct", "paraphrase")]
        found += [(contrast, row.id, distance(states[row.id, a], states[row.id, b])) for contrast, a, b in sides]
    if len(unit) == 2:
        right, wrong = (sum(states[row.id, answer] for row in unit) for answer in ("correct", "incorrect"))
        found.append(("swap", _joined(unit), distance(right, wrong)))
    return found


def _joined(unit: list[Pair]) -> str:
    """The item that two partners are together."""
    return "+".join(pair.id for pair in unit)


def contrasts(distances: dict, partners: list[list[Pair]], data: dict) -> dict[str, tuple[list[str], np.ndarray]]:
    """All contrasts with their items and distances (n, FORMS, POOLS, L); one without items is left out."""
    pairs, paraphrases = data["pairs"], data.get("paraphrases", ())
    task, control, same, swap = (distances[name] for name in ("task", "wrong_wrong", "paraphrase", "swap"))
    twos = {_joined(unit): unit for unit in partners if len(unit) == 2}

    def mean(values: dict, rows: list) -> np.ndarray:
        return np.mean([values[row.id] for row in rows], axis=0)

    found = {
        "task": {pair.id: task[pair.id] for pair in pairs},
        "core": {pair.id: task[pair.id] for pair in pairs if "core" in pair.tags},
        "wrong_wrong": {pair.id: control[pair.id] for pair in pairs},
        "paraphrase": {row.id: same[row.id] for row in paraphrases},
        "swap": {item: swap[item] for item in twos},
        "task_minus_wrong_wrong": {pair.id: task[pair.id] - control[pair.id] for pair in pairs},
        "task_minus_swap": {item: mean(task, unit) - swap[item] for item, unit in twos.items()},
        "task_minus_paraphrase": {},
    }
    for domain in dict.fromkeys(pair.domain for pair in pairs):
        here = [[row for row in rows if row.domain == domain] for rows in (pairs, paraphrases)]
        if here[1]:
            found["task_minus_paraphrase"][domain] = mean(task, here[0]) - mean(same, here[1])
    return {name: (list(values), np.stack(list(values.values()))) for name, values in found.items() if values}


def _variants(found: dict, spread: np.ndarray) -> dict[str, tuple[list[str], np.ndarray]]:
    """contrast/pool/form to items and values (n, L); normalised by the spread where there is one."""
    variants = {}
    for contrast, (items, values) in found.items():
        for form, pool in ((form, pool) for form in range(len(FORMS)) for pool in range(len(POOLS))):
            variants[f"{contrast}/{POOLS[pool]}/{FORMS[form]}"] = items, values[:, form, pool]
    if np.isnan(spread).any():
        return variants
    for contrast, (items, values) in found.items():
        for pool, name in enumerate(POOLS):
            variants[f"{contrast}/{name}/normalised"] = items, values[:, FORMS.index("state"), pool] / spread[pool]
    return variants


def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """1 - cos of (..., D) and (..., D), as half the squared distance of the unit vectors: exact near 0 as well."""
    return ((_unit(a) - _unit(b)) ** 2).sum(axis=-1) / 2


def mean_distance(total: np.ndarray, n: int) -> np.ndarray:
    """Mean of 1 - cos over all pairs of different ones of n vectors, from the sum (..., D) of their unit vectors.

    sum over i != j of u_i u_j = ||sum u||^2 - n. NaN for a single vector.
    """
    if n < 2:
        return np.full(total.shape[:-1], np.nan)
    return 1 - ((total**2).sum(axis=-1) - n) / (n * (n - 1))


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
