"""Sensitivity against an independent float64 loop, one text at a time, over transformers' own hidden states."""

import copy
import random

import numpy as np
import pytest
import torch

from colocate.errors import InputError
from colocate.models import load_model
from colocate.pairs import Pair, Paraphrase
from colocate.profiles import compute, sensitivity
from colocate.profiles.capture import length_batches, pooled_states
from colocate.profiles.intervals import bootstrap_mean
from colocate.profiles.sensitivity import contrasts, distance, mean_distance, partner_sets, unit_distances
from tiny import make_tokenizer

PAIRS = [
    Pair("sum-1", "arithmetic", "en", "2 + 2 =", " 4", " 5", " 6", ("core",)),
    Pair("sum-2", "arithmetic", "en", "2 + 3 =", " 5", " 4", " 7"),
    Pair("capital", "world", "en", "The capital of France is", " Paris", " Rome", " Berlin", ("core",)),
    Pair("größe", "world", "de", "Größer als zwei ist", " drei", " eins", " null"),
]
SAME = [
    Paraphrase("even", "arithmetic", "en", "An even number is", " 4", " 6"),
    Paraphrase("city", "world", "fr", "Une ville de France est", " Lyon", " Nîmes"),
]
DATA = {"pairs": PAIRS, "paraphrases": SAME, "texts": []}
SETTINGS = {"metric": "sensitivity", "seed": 0, "batch_tokens": 100}


@pytest.fixture(scope="module")
def model(tiny_llama):
    torch.set_num_threads(1)
    return load_model(tiny_llama, "float32", "cpu")


@pytest.fixture(scope="module")
def reference(tiny_llama):
    """(prompt, answer) to the states of one text, (L + 1, T, D) float64: the embedding, then each layer's output."""
    model = load_model(tiny_llama, "float32", "cpu").double()
    model.model.norm = torch.nn.Identity()  # so that the last hidden state is the last layer's output

    def states(prompt: str, answer: str) -> tuple[np.ndarray, int]:
        ids = list((prompt + answer).encode())
        vocabulary = make_tokenizer().get_vocab()
        alphabet = make_tokenizer().tokenize(prompt + answer)
        assert len(alphabet) == len(ids)
        with torch.no_grad():
            output = model(torch.tensor([[vocabulary[token] for token in alphabet]]), output_hidden_states=True)
        return torch.cat(output.hidden_states).numpy(), len(prompt.encode())

    return states


def pooled(states: np.ndarray, start: int, pool: str, form: str) -> np.ndarray:
    """(L + 1, T, D) to (L, D), written out."""
    layers = states[1:] - states[:-1] if form == "increment" else states[1:]
    if pool == "unit":
        layers = layers / np.linalg.norm(layers, axis=2, keepdims=True)
    first = {"all": 0, "unit": 0, "skip_first": 1, "answer": start}[pool]
    return layers[:, first:].mean(axis=1)


def one_minus_cos(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return 1 - (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))


@pytest.mark.parametrize("pool", ["all", "skip_first", "answer", "unit"])
@pytest.mark.parametrize("form", ["state", "increment"])
def test_every_variant_equals_the_written_out_formula(model, reference, pool, form):
    def state(row, answer):
        return pooled(*reference(row.prompt, getattr(row, answer)), pool, form)

    def mean(left, right):
        return np.mean([one_minus_cos(state(row, left), state(row, right)) for row in rows], axis=0)

    found = compute("sensitivity", model, make_tokenizer(), SETTINGS | {"pool": pool, "form": form}, DATA)
    values = found.variants.groupby(["variant", "layer"])["value"].mean()
    rows = PAIRS
    np.testing.assert_allclose(found.profile["value"], mean("correct", "incorrect"), rtol=1e-3, atol=1e-8)
    np.testing.assert_allclose(values[f"task/{pool}/{form}"], mean("correct", "incorrect"), rtol=1e-3, atol=1e-8)
    np.testing.assert_allclose(
        values[f"wrong_wrong/{pool}/{form}"], mean("incorrect", "incorrect2"), rtol=1e-3, atol=1e-8
    )
    rows = [PAIRS[0], PAIRS[2]]
    np.testing.assert_allclose(values[f"core/{pool}/{form}"], mean("correct", "incorrect"), rtol=1e-3, atol=1e-8)
    rows = SAME
    np.testing.assert_allclose(values[f"paraphrase/{pool}/{form}"], mean("correct", "paraphrase"), rtol=1e-3, atol=1e-8)
    right = state(PAIRS[0], "correct") + state(PAIRS[1], "correct")
    wrong = state(PAIRS[0], "incorrect") + state(PAIRS[1], "incorrect")
    np.testing.assert_allclose(values[f"swap/{pool}/{form}"], one_minus_cos(right, wrong), rtol=1e-3, atol=1e-8)


def test_normalised_is_relative_to_unrelated_texts(model, reference):
    states = [pooled(*reference(row.prompt, row.correct), "skip_first", "state") for row in PAIRS]
    unrelated = np.mean([one_minus_cos(states[i], states[j]) for i in range(4) for j in range(i)], axis=0)
    given = SETTINGS | {"pool": "skip_first"}
    plain = compute("sensitivity", model, make_tokenizer(), given, DATA).profile["value"]
    normalised = compute("sensitivity", model, make_tokenizer(), given | {"form": "normalised"}, DATA).profile["value"]
    np.testing.assert_allclose(normalised, plain / unrelated, rtol=1e-4)


def test_batches_equal_one_text_at_a_time(model):
    texts = [(row.prompt, row.correct) for row in PAIRS]
    alone = pooled_states(model, make_tokenizer(), texts, batch_tokens=1)
    together = pooled_states(model, make_tokenizer(), texts, batch_tokens=1000)
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


def test_batches_hold_every_text_once_and_stay_within_their_size():
    lengths = [5, 50, 7, 7, 31, 2, 9]
    batches = list(length_batches(lengths, 30))
    assert sorted(index for batch in batches for index in batch) == list(range(7))
    for batch in batches:
        assert len(batch) == 1 or max(lengths[index] for index in batch) * len(batch) <= 30


def test_identical_states_have_distance_zero_and_differences_cancel():
    state = np.random.default_rng(0).normal(size=(2, 4, 3, 8))
    one, other = PAIRS[:2]
    same = {(pair.id, answer): state for pair in (one, other) for answer in ("correct", "incorrect", "incorrect2")}
    found = unit_distances([one, other], same)
    assert [(contrast, item) for contrast, item, _ in found] == [
        ("task", "sum-1"),
        ("wrong_wrong", "sum-1"),
        ("task", "sum-2"),
        ("wrong_wrong", "sum-2"),
        ("swap", "sum-1+sum-2"),
    ]
    assert all((value == 0).all() for _, _, value in found)
    alike = same | {(pair.id, "correct"): 1 - state for pair in (one, other)}
    distances = {"paraphrase": {}}
    for contrast, item, value in unit_distances([one, other], alike):
        distances.setdefault(contrast, {})[item] = value
    _, values = contrasts(distances, [[one, other]], DATA | {"pairs": [one, other], "paraphrases": []})[
        "task_minus_swap"
    ]
    np.testing.assert_allclose(values, 0, atol=1e-15)


def test_pairs_that_the_tokenizer_does_not_tell_apart_are_refused(model):
    same = Pair("p", "d", "en", "One and one", " two", " two", " three")
    with pytest.raises(InputError, match="into the same tokens as 'correct'"):
        compute("sensitivity", model, make_tokenizer(), SETTINGS, DATA | {"pairs": [*PAIRS, same]})
    long = Pair("p", "d", "en", "word " * 300, " two", " three", " four")
    with pytest.raises(InputError, match="1504 tokens with the prompt, the model takes 1024"):
        compute("sensitivity", model, make_tokenizer(), SETTINGS, DATA | {"pairs": [*PAIRS, long]})


def test_task_minus_control_pairs_the_items_that_belong_together(model):
    found = compute("sensitivity", model, make_tokenizer(), SETTINGS, DATA).variants
    wide = found.pivot_table(index=["variant", "item"], columns="layer", values="value")

    def values(contrast: str, *items: str) -> np.ndarray:
        return np.mean([wide.loc[f"{contrast}/unit/increment", item] for item in items], axis=0)

    def items(contrast: str) -> list[str]:
        return wide.loc[f"{contrast}/unit/increment"].index.tolist()

    assert items("task_minus_wrong_wrong") == sorted(pair.id for pair in PAIRS)
    expected = values("task", "capital") - values("wrong_wrong", "capital")
    np.testing.assert_allclose(values("task_minus_wrong_wrong", "capital"), expected)
    assert items("task_minus_swap") == ["sum-1+sum-2"]
    expected = values("task", "sum-1", "sum-2") - values("swap", "sum-1+sum-2")
    np.testing.assert_allclose(values("task_minus_swap", "sum-1+sum-2"), expected)
    assert items("task_minus_paraphrase") == ["arithmetic", "world"]
    expected = values("task", "capital", "größe") - values("paraphrase", "city")
    np.testing.assert_allclose(values("task_minus_paraphrase", "world"), expected)


def test_partners_are_drawn_together(model):
    """The interval is that of three independent sets: two partners, and two pairs alone."""
    found = compute("sensitivity", model, make_tokenizer(), SETTINGS, DATA)
    values = found.items["value"].to_numpy().reshape(4, -1)
    assert partner_sets(PAIRS) == [PAIRS[:2], [PAIRS[2]], [PAIRS[3]]]
    low, high = bootstrap_mean(values, 0, clusters=["a", "a", "b", "c"])
    assert found.profile["ci_low"].tolist() == low.tolist()
    assert found.profile["ci_high"].tolist() == high.tolist()


def test_a_cluster_counts_as_one_draw():
    """Every item twice adds nothing: the interval of the 30 clusters, not the narrower one of 60 items."""
    values = np.random.default_rng(0).normal(size=(30, 5))
    twice, labels = np.repeat(values, 2, axis=0), np.repeat(np.arange(30), 2)
    for found, expected in zip(bootstrap_mean(twice, 3, clusters=labels), bootstrap_mean(values, 3), strict=True):
        np.testing.assert_allclose(found, expected)
    narrow, wide = (np.subtract(*bootstrap_mean(twice, 3, clusters=given)[::-1]) for given in (None, labels))
    assert (narrow < 0.85 * wide).all()


def test_memory_is_bounded_by_the_batch(model, monkeypatch):
    """States are asked for a batch at a time, so that those of all texts are never held together."""
    held = []

    def watched(model, tokenizer, texts, batch_tokens, *rest):
        held.append(sum(len((prompt + answer).encode()) for prompt, answer in texts))
        return pooled_states(model, tokenizer, texts, batch_tokens, *rest)

    monkeypatch.setattr(sensitivity, "pooled_states", watched)
    many = [Pair(f"p{i}", "d", "en", f"{i} + 2 =", f" {i + 2}", f" {i + 3}", f" {i + 4}") for i in range(40)]
    compute("sensitivity", model, make_tokenizer(), SETTINGS | {"batch_tokens": 300}, DATA | {"pairs": many})
    assert len(held) > 3
    assert max(held) <= 300


def test_the_order_of_pairs_changes_nothing(model):
    shuffled = copy.copy(PAIRS)
    random.Random(1).shuffle(shuffled)
    assert shuffled != PAIRS
    one = compute("sensitivity", model, make_tokenizer(), SETTINGS, DATA)
    other = compute("sensitivity", model, make_tokenizer(), SETTINGS, DATA | {"pairs": shuffled})
    np.testing.assert_allclose(one.profile["value"], other.profile["value"], rtol=1e-5)
    merged = one.items.merge(other.items, on=["item", "layer"])
    assert len(merged) == len(one.items) == 16
    np.testing.assert_allclose(merged["value_x"], merged["value_y"], rtol=1e-4, atol=1e-9)


def test_tables_agree_with_each_other(model):
    found = compute(
        "sensitivity", model, make_tokenizer(), SETTINGS | {"contrast": "paraphrase", "pool": "answer"}, DATA
    )
    assert list(found.profile) == ["layer", "value", "ci_low", "ci_high", "n"]
    assert found.profile["layer"].tolist() == [0, 1, 2, 3]
    assert set(found.profile["n"]) == {2}
    assert (
        (found.profile["ci_low"] <= found.profile["value"]) & (found.profile["value"] <= found.profile["ci_high"])
    ).all()
    np.testing.assert_allclose(found.items.groupby("layer")["value"].mean(), found.profile["value"])
    chosen = found.variants[found.variants["variant"] == "paraphrase/answer/state"]
    assert chosen["value"].tolist() == found.items["value"].tolist()
    assert set(found.items["item"]) == {"even", "city"}
    assert found.variants["variant"].nunique() == 8 * 4 * 3
    assert set(found.variants["kv_head"]) == {-1}


def test_half_precision_is_close(tiny_llama, model):
    exact = compute("sensitivity", model, make_tokenizer(), SETTINGS, DATA).profile["value"]
    half = load_model(tiny_llama, "bfloat16", "cpu")
    np.testing.assert_allclose(
        compute("sensitivity", half, make_tokenizer(), SETTINGS, DATA).profile["value"], exact, rtol=0.2
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pool": "last"}, "pool: found 'last', allowed: all, skip_first, answer, unit"),
        ({"form": "delta"}, "form: found 'delta', allowed: state, increment, normalised"),
        ({"contrast": "tasks"}, "contrast: found 'tasks', allowed: task, core, wrong_wrong, swap, paraphrase"),
        ({"pools": "all"}, "pools: unknown setting"),
        ({"batch_tokens": 0}, "batch_tokens: found 0, expected at least 1"),
    ],
)
def test_bad_settings_are_named(given, message):
    with pytest.raises(InputError, match=message):
        compute("sensitivity", None, None, SETTINGS | given, DATA)


def test_a_contrast_without_items_is_refused(model):
    with pytest.raises(InputError, match="contrast: found 'paraphrase', but the data hold no such items"):
        compute(
            "sensitivity", model, make_tokenizer(), SETTINGS | {"contrast": "paraphrase"}, DATA | {"paraphrases": []}
        )
    with pytest.raises(InputError, match="pairs: found none"):
        compute("sensitivity", model, make_tokenizer(), SETTINGS, DATA | {"pairs": []})


def test_distance_of_vectors():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 3, 8)), rng.normal(size=(5, 3, 8))
    np.testing.assert_allclose(distance(a, b), one_minus_cos(a, b))
    np.testing.assert_allclose(distance(a, 7 * a), 0, atol=1e-30)
    np.testing.assert_allclose(distance(a, -a), 2)
    loop = np.mean([one_minus_cos(a[i], a[j]) for i in range(5) for j in range(i)], axis=0)
    units = a / np.linalg.norm(a, axis=-1, keepdims=True)
    np.testing.assert_allclose(mean_distance(units.sum(axis=0), 5), loop)
    assert np.isnan(mean_distance(units[0], 1)).all()


@pytest.mark.smollm2
def test_token_0_of_the_real_model_swallows_the_distance(smollm2):
    """The attention sink: pooled over all tokens the middle layers seem insensitive, without token 0 they do not."""
    from colocate.models import load_tokenizer

    model, tokenizer = load_model(smollm2, "float32", "cpu"), load_tokenizer(smollm2)
    found = compute("sensitivity", model, tokenizer, SETTINGS, DATA)
    means = found.variants.groupby(["variant", "layer"])["value"].mean()
    assert means["task/all/state"][15] < 0.05 * means["task/skip_first/state"][15]
    texts = [(row.prompt, row.correct) for row in PAIRS]
    alone = pooled_states(model, tokenizer, texts, batch_tokens=1)
    together = pooled_states(model, tokenizer, texts, batch_tokens=1000)
    assert distance(alone, together).max() < 1e-8
