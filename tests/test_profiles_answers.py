"""Metrics that can tell right from wrong (probe, patching, early exit), against loops over whole float64 forwards."""

import numpy as np
import pytest
import torch

from colocate.errors import InputError
from colocate.models import load_model
from colocate.pairs import Pair, swaps
from colocate.profiles import compute
from colocate.profiles.patching import exchanges_of
from colocate.profiles.probe import answer_groups, held_out_accuracy
from reference_states import DATA, PAIRS, float64_model, layer_states, pooled, variant
from tiny import make_tokenizer

METRICS = ("probe", "patching", "early_exit")


@pytest.fixture(scope="module")
def model(tiny_llama):
    torch.set_num_threads(1)
    return load_model(tiny_llama, "float32", "cpu")


@pytest.fixture(scope="module")
def exact(tiny_llama):
    return float64_model(tiny_llama)


def measure(name: str, model, data=DATA, **settings):
    return compute(name, model, make_tokenizer(), {"metric": name, "seed": 0, "batch_tokens": 100} | settings, data)


# --- probe ------------------------------------------------------------------------------------------------------------


def test_a_probe_of_separable_states_is_always_right_and_one_of_noise_half_the_time():
    rng = np.random.default_rng(0)
    noise, apart = rng.normal(size=(400, 16)), np.arange(400)
    direction = 10 * np.eye(16)[3]
    np.testing.assert_array_equal(held_out_accuracy(noise + direction, apart, seed=0), 1)
    assert held_out_accuracy(noise, apart, seed=0).mean() == pytest.approx(0.5, abs=0.06)
    np.testing.assert_array_equal(held_out_accuracy(np.zeros((8, 4)), np.arange(8), seed=0), 0.5)
    one, other = (held_out_accuracy(scale * noise, apart, seed=0) for scale in (1, 7))
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one, held_out_accuracy(noise, apart, seed=1))


def test_a_probe_never_trains_on_the_answers_that_it_is_asked_about():
    """Partners' differences are opposite: a probe that saw one would get the other wrong every time."""
    half = np.random.default_rng(0).normal(size=(60, 400))
    both, groups = np.concatenate((half, -half)), np.tile(np.arange(60), 2)
    assert held_out_accuracy(both, groups, seed=0).mean() == pytest.approx(0.5, abs=0.05)
    assert held_out_accuracy(both, np.arange(120), seed=0).mean() < 0.35
    assert answer_groups(PAIRS).tolist() == [0, 0, 1, 1, 3, 4, 2]
    assert answer_groups(PAIRS[::-1]).tolist() == [2, 4, 3, 1, 1, 0, 0]


def test_the_probe_is_the_written_out_one(exact, model):
    """One split at a time: train on one half's difference of means, ask about the other."""
    answers = {
        name: [pooled(*layer_states(exact, pair.prompt, getattr(pair, name)), "skip_first")[1:] for pair in PAIRS]
        for name in ("correct", "incorrect")
    }
    differences = np.array(answers["correct"]) - np.array(answers["incorrect"])  # (n, L, D)
    groups, rng = answer_groups(PAIRS), np.random.default_rng(0)
    asked, right = np.zeros(len(PAIRS)), np.zeros((len(PAIRS), 4))
    halves = [set(np.flatnonzero(rng.permutation(5) < 2)) for _ in range(200)]
    for half in halves:
        for trained in (half, set(range(5)) - half):
            train = np.array([group in trained for group in groups])
            for layer in range(4):
                w = differences[train, layer].mean(axis=0)
                right[~train, layer] += differences[~train, layer] @ w > 0
            asked += ~train
    found = measure("probe", model)
    np.testing.assert_allclose(variant(found, "task/skip_first"), right / asked[:, np.newaxis])
    np.testing.assert_allclose(found.profile["value"], (right / asked[:, np.newaxis]).mean(axis=0))
    assert found.variants["variant"].nunique() == 2 * 4


# --- early exit -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def exit_log_p(exact, prompt: str, answer: str) -> np.ndarray:
    """(L,): log p of the answer by final norm and head on each layer's states, written out."""
    states, start = layer_states(exact, prompt, answer)
    ids = make_tokenizer()(prompt + answer)["input_ids"]
    found = []
    for layer in states[1:]:
        normed = layer / np.sqrt((layer**2).mean(axis=1, keepdims=True) + exact.config.rms_norm_eps)
        logits = normed * exact.model.norm.weight.numpy() @ exact.lm_head.weight.numpy().T
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        found.append(sum(log_p[at - 1, ids[at]] for at in range(start, len(ids))))
    return np.array(found)


def test_early_exit_is_norm_and_head_on_every_layer(exact, model):
    expected = np.array(
        [
            exit_log_p(exact, pair.prompt, pair.correct) - exit_log_p(exact, pair.prompt, pair.incorrect)
            for pair in PAIRS
        ]
    )
    found = measure("early_exit", model)
    np.testing.assert_allclose(variant(found, "margin"), expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(variant(found, "accuracy"), expected > 0)
    np.testing.assert_allclose(found.profile["value"], (expected > 0).mean(axis=0))


@torch.no_grad()
def test_the_last_exit_is_the_models_own_answer(exact, model):
    def own(pair, answer):
        ids = torch.tensor([make_tokenizer()(pair.prompt + answer)["input_ids"]])
        log_p = exact(ids).logits[0].log_softmax(-1)
        start = len(pair.prompt.encode())
        return float(sum(log_p[at - 1, ids[0, at]] for at in range(start, ids.shape[1])))

    found = variant(measure("early_exit", model), "margin")[:, -1]
    np.testing.assert_allclose(
        found, [own(pair, pair.correct) - own(pair, pair.incorrect) for pair in PAIRS], rtol=1e-3, atol=1e-4
    )


# --- patching ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def patched(exact, right: list[int], wrong: list[int], answers: tuple[int, int]) -> tuple[np.ndarray, float]:
    """Rise of the log odds by patching each layer's output, and of the whole prompt: whole forwards with a hook."""

    def log_odds(ids):
        log_p = exact(torch.tensor([ids]), use_cache=False).logits[0, -1].log_softmax(-1)
        return float(log_p[answers[0]] - log_p[answers[1]])

    rises = []
    for layer in exact.model.layers:
        kept = []
        handle = layer.register_forward_hook(lambda module, args, output, kept=kept: kept.append(output[0, -1].clone()))
        clean = log_odds(right)
        handle.remove()

        def put(module, args, output, kept=kept):
            output = output.clone()
            output[0, -1] = kept[0]
            return output

        corrupted = log_odds(wrong)
        handle = layer.register_forward_hook(put)
        rises.append(log_odds(wrong) - corrupted)
        handle.remove()
    return np.array(rises), clean - corrupted


def orient(exact) -> dict:
    """The data with right and wrong turned, if need be, so that this random model does tell its prompts apart."""
    (one, other), *_ = swaps(PAIRS[2:4])
    rise = sum(patched(exact, e.right, e.wrong, e.answers)[1] for e in exchanges_of(make_tokenizer(), one, other))
    if rise > 0:
        return DATA | {"pairs": [one, other]}
    turned = [Pair(p.id, p.domain, p.language, p.prompt, p.incorrect, p.correct, p.incorrect2) for p in (one, other)]
    return DATA | {"pairs": turned}


def test_patching_equals_whole_forwards_with_a_hook(exact, model):
    data = orient(exact)
    exchanges = exchanges_of(make_tokenizer(), *data["pairs"])
    assert [exchange.item for exchange in exchanges] == ["city-1>city-2", "city-2>city-1"]
    vocabulary = make_tokenizer().get_vocab()
    assert {vocabulary["P"], vocabulary["R"]} == set(exchanges[0].answers)  # their common space is in the prompt
    assert make_tokenizer().decode(exchanges[0].right) == "The capital of France is "
    rises, whole = zip(*(patched(exact, e.right, e.wrong, e.answers) for e in exchanges), strict=True)
    found = measure("patching", model, data)
    np.testing.assert_allclose(variant(found, "log_odds"), rises, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found.profile["value"], np.mean(rises, axis=0) / np.mean(whole), rtol=1e-3, atol=1e-4)
    assert found.profile["value"][3] == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(variant(found, "log_odds")[:, 3], whole, rtol=1e-3)
    alone = measure("patching", model, data, batch_tokens=1)
    np.testing.assert_allclose(found.items["value"], alone.items["value"], rtol=1e-3, atol=1e-5)


def test_answers_of_which_one_begins_the_other_are_left_out():
    one = Pair("a", "d", "en", "one", " 1", " 12", " 3")
    other = Pair("b", "d", "en", "twelve", " 12", " 1", " 3")
    assert exchanges_of(make_tokenizer(), one, other) == [None, None]


def test_without_partners_or_effect_patching_is_refused(exact, model):
    with pytest.raises(InputError, match="pairs: found no partners"):
        measure("patching", model, DATA | {"pairs": PAIRS[4:]})
    turned = [
        Pair(p.id, p.domain, p.language, p.prompt, p.incorrect, p.correct, p.incorrect2) for p in orient(exact)["pairs"]
    ]
    with pytest.raises(InputError, match="patching: the log odds rise by -.* nat from the wrong prompts"):
        measure("patching", model, DATA | {"pairs": turned})


# --- all three --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METRICS)
def test_the_order_of_pairs_changes_nothing(exact, model, name):
    data = orient(exact) if name == "patching" else DATA
    one, other = (measure(name, model, data | {"pairs": pairs}) for pairs in (data["pairs"], data["pairs"][::-1]))
    np.testing.assert_allclose(one.profile["value"], other.profile["value"], rtol=1e-4, atol=1e-5)
    merged = one.items.merge(other.items, on=["item", "layer"])
    assert len(merged) == len(one.items)
    np.testing.assert_allclose(merged["value_x"], merged["value_y"], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", METRICS)
def test_bad_pairs_are_named(model, name):
    with pytest.raises(InputError, match="pairs: found none, expected at least one"):
        measure(name, model, DATA | {"pairs": []})
    same = Pair("same", "d", "en", "One and one", " two", " two", " 2", file="made.jsonl", line=3)
    with pytest.raises(InputError, match="made.jsonl:3: incorrect: this tokenizer turns it into the same tokens as"):
        measure(name, model, DATA | {"pairs": [*PAIRS, same]})
    endless = Pair("long", "d", "en", "One " * 300, " two", " three", " four", file="made.jsonl", line=4)
    with pytest.raises(InputError, match="made.jsonl:4: correct: 1204 tokens with the prompt, the model takes 1024"):
        measure(name, model, DATA | {"pairs": [endless]})


def test_a_probe_needs_several_answers(model):
    with pytest.raises(InputError, match="pairs: found 1 with answers of their own, a probe needs 4"):
        measure("probe", model, DATA | {"pairs": PAIRS[:2]})


@pytest.mark.smollm2
def test_the_real_model_decides_late(smollm2):
    """On plain facts: no early layer knows the answer, the last third does, and the last exit is the model's own."""
    from colocate.models import load_tokenizer
    from colocate.pairs import read_pairs

    folder = smollm2.parents[2] / "data/pairs/tasks.jsonl"
    pairs = [pair for pair in read_pairs(folder) if pair.domain == read_pairs(folder)[0].domain][:24]
    model, tokenizer = load_model(smollm2, "bfloat16", "cpu"), load_tokenizer(smollm2)
    found = compute("patching", model, tokenizer, {"metric": "patching", "seed": 0}, {"pairs": pairs})
    value = found.profile["value"]
    assert value[29] == pytest.approx(1)
    assert value[:10].abs().max() < 0.3 < 0.7 < value[25]
