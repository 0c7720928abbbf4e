"""Metrics NAME_change and segment_swap, against written-out formulas in float64 and models put together by hand."""

import copy

import numpy as np
import pytest
import torch

from arms import DATA, PAIRS, POOLS, SETTINGS, hidden_states, lora_model, pooled, values_of, variants_of
from colocate import adapters
from colocate.budget import AdapterSpec
from colocate.errors import InputError
from colocate.layer_sets import segments
from colocate.models import decoder_layers, load_model
from colocate.pairs import Pair
from colocate.profiles import compute
from colocate.profiles.compared import Compared
from colocate.profiles.intervals import half_sampling
from tiny import make_tokenizer


@pytest.fixture(scope="module")
def arm(tiny_llama):
    return Compared.of_adapter(lora_model(tiny_llama, [1, 3], 0.2))


@pytest.fixture(scope="module")
def models(tiny_llama):
    """The base model, and the arm merged by PEFT."""
    return load_model(tiny_llama, "float32", "cpu"), lora_model(tiny_llama, [1, 3], 0.2).merge_and_unload()


@pytest.fixture(scope="module")
def states(models):
    return [hidden_states(model) for model in models]


def spectrum(x: np.ndarray) -> np.ndarray:
    singular = np.linalg.svd(x, compute_uv=False)
    return singular**2 / (singular**2).sum()


def entropy(x: np.ndarray) -> float:
    shares = spectrum(x)
    return float(-(shares[shares > 0] * np.log(shares[shares > 0])).sum())


STATISTICS = {
    "effective_rank_change": lambda x: np.exp(entropy(x)) / min(x.shape),
    "dataset_entropy_change": lambda x: entropy(x) / np.log(min(x.shape)),
    "spectral_norm_change": lambda x: np.linalg.norm(x, 2) / np.sqrt(len(x)),
}


@pytest.mark.parametrize("metric", STATISTICS)
def test_change_of_a_whole_sample_equals_the_formula(arm, states, metric):
    variants = variants_of(metric, arm)
    for pool in POOLS:
        base, tuned = (pooled(rows, pool) for rows in states)
        for name, centre in ((pool, 0), (f"{pool}/centred", 1)):
            each = [
                np.array([STATISTICS[metric](x - centre * x.mean(axis=0)) for x in layers]) for layers in (base, tuned)
            ]
            np.testing.assert_allclose(values_of(variants, name), each[1] - each[0], rtol=1e-3, atol=1e-4)
            np.testing.assert_allclose(values_of(variants, f"base/{name}"), each[0], rtol=1e-4)
            np.testing.assert_allclose(values_of(variants, f"tuned/{name}"), each[1], rtol=1e-4)
    assert abs(values_of(variants, "skip_first")[3]) > 1e-3
    assert values_of(variants, "skip_first")[0] == pytest.approx(0, abs=1e-6)  # below the first adapted layer


def test_interval_of_a_change_takes_the_same_half_in_both_models(arm, states):
    found = compute("effective_rank_change", arm, make_tokenizer(), SETTINGS | {"pool": "unit"}, DATA).profile
    base, tuned = (pooled(rows, "unit") for rows in states)
    rank = STATISTICS["effective_rank_change"]

    def change(texts):
        return np.array([rank(y[texts]) - rank(x[texts]) for x, y in zip(base, tuned, strict=True)])

    low, high = half_sampling(change, len(PAIRS), seed=0)
    np.testing.assert_allclose(found["ci_low"], low, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found["ci_high"], high, rtol=1e-3, atol=1e-5)
    assert set(found["n"]) == {12}


def angles(tokens: np.ndarray) -> float:
    steps = np.diff(tokens, axis=0)
    cosines = (steps[:-1] * steps[1:]).sum(1) / np.linalg.norm(steps[:-1], axis=1) / np.linalg.norm(steps[1:], axis=1)
    return float(np.arccos(cosines.clip(-1, 1)).mean() / np.pi)


PATHS = {"prompt_entropy_change": lambda x: entropy(x) / np.log(min(x.shape)), "curvature_change": angles}


@pytest.mark.parametrize("metric", PATHS)
def test_change_of_a_token_path_is_paired_by_text(arm, states, metric):
    found = compute(metric, arm, make_tokenizer(), SETTINGS | {"pool": "skip_first"}, DATA)
    base, tuned = (np.array([[PATHS[metric](x[1:]) for x in text] for text in rows]) for rows in states)
    items = found.items["value"].to_numpy().reshape(len(PAIRS), -1)
    np.testing.assert_allclose(items, tuned - base, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.profile["value"], (tuned - base).mean(axis=0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(values_of(found.variants, "base/skip_first"), base.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(values_of(found.variants, "tuned/skip_first"), tuned.mean(axis=0), rtol=1e-4)
    assert found.items["item"].unique().tolist() == [pair.id for pair in PAIRS]
    assert values_of(found.variants, "all").shape == (4,)
    assert (found.profile["ci_low"] <= found.profile["ci_high"]).all()


def test_early_exit_change_is_the_tuned_exit_minus_the_base_exit(arm, models):
    variants = variants_of("early_exit_change", arm)
    base, tuned = (variants_of("early_exit", model) for model in models)
    for name in ("accuracy", "margin", "wrong_wrong"):
        before, after = values_of(base, name), values_of(tuned, name)
        np.testing.assert_allclose(values_of(variants, f"base/{name}"), before, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(values_of(variants, f"tuned/{name}"), after, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(values_of(variants, name), after - before, rtol=1e-3, atol=2e-3)
    assert np.abs(values_of(variants, "margin")).max() > 0.01


def nll(model, answer: str) -> np.ndarray:
    """-log p of an answer of each of PAIRS, one text at a time, float64, by the whole model."""
    found, model = [], copy.deepcopy(model).double()
    for pair in PAIRS:
        text, start = pair.prompt + getattr(pair, answer), len(pair.prompt)
        ids = make_tokenizer()(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits = model(ids).logits[0, start - 1 : -1]
        found.append(float(torch.nn.functional.cross_entropy(logits, ids[0, start:], reduction="sum")))
    return np.array(found)


def put_together(models, from_base: list[int]):
    """The merged model with layers of the base model in some places, by hand."""
    base, tuned = (copy.deepcopy(model) for model in models)
    for layer in from_base:
        decoder_layers(tuned)[layer] = decoder_layers(base)[layer]
    return tuned


def test_segment_swap_equals_models_put_together_by_hand(arm, models):
    found = compute("segment_swap", arm, make_tokenizer(), SETTINGS | {"segments": 2}, DATA)
    wide = found.variants.pivot_table(index=["variant", "item"], columns="layer", values="value", sort=False)
    right, wrong = nll(models[1], "correct"), nll(models[1], "incorrect")
    for part, layers in {"first": [0, 1], "second": [2, 3], "all": [0, 1, 2, 3]}.items():
        swapped = put_together(models, layers)
        rise, rise_wrong = nll(swapped, "correct") - right, nll(swapped, "incorrect") - wrong
        ending = "/all" if part == "all" else ""
        for layer in layers:
            np.testing.assert_allclose(wide.loc[f"nll{ending}", layer], rise, rtol=1e-3, atol=1e-4)
            np.testing.assert_allclose(wide.loc[f"log_odds{ending}", layer], rise - rise_wrong, rtol=1e-3, atol=2e-4)
    assert found.profile["value"].nunique() == 2
    assert set(found.profile["n"]) == {12}
    np.testing.assert_allclose(wide.loc["nll"].mean(), found.profile["value"])
    base = nll(models[0], "correct")
    np.testing.assert_allclose(wide.loc["nll/all", 0], base - right, rtol=1e-3, atol=1e-4)  # all layers: the base model


def test_segments_are_those_of_the_masks(arm):
    """Five segments of four layers: int(i 4 / 5) gives none, 0, 1, 2, 3; each layer gets its own swap."""
    found = compute("segment_swap", arm, make_tokenizer(), SETTINGS, DATA).profile["value"]
    assert [segments(mask, 4) for mask in ("10000", "01000", "00001")] == [[], [0], [3]]
    assert found[0] == pytest.approx(0, abs=1e-12)  # not adapted: swapping changes nothing
    assert found[2] == pytest.approx(0, abs=1e-12)
    assert min(abs(found[1]), abs(found[3])) > 1e-3


def test_a_swap_leaves_the_models_as_they_were(arm, models):
    release = Compared.of_release(*models)
    for compared in (arm, release):
        ids = torch.arange(3, 20)[None]
        with torch.no_grad():
            before = compared.model(ids).logits
            with compared.swapped([1, 3]) as swapped:
                between = swapped(ids).logits
            after = compared.model(ids).logits
            with compared.base() as model:
                base = model(ids).logits
        assert before.equal(after)
        torch.testing.assert_close(between, base)
        assert not torch.allclose(before, base, atol=1e-3)


def test_a_swap_reaches_bases_of_rotary_encoding_too(tiny_llama):
    spec = AdapterSpec(lora_layers=(0,), garfa_layers=(0, 2), rank=2, alpha=2, targets=("q_proj",))
    model = adapters.adapt(load_model(tiny_llama, "float32", "cpu"), spec).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "default" in name:
                parameter.fill_(0.3)
    compared = Compared.of_adapter(model)
    found = compute("segment_swap", compared, make_tokenizer(), SETTINGS | {"segments": 4}, DATA)
    wide = found.variants.pivot_table(index=["variant", "item"], columns="layer", values="value", sort=False)
    assert wide.loc["nll"].abs().mean().gt(1e-4).tolist() == [True, False, True, False]
    base, tuned = nll(load_model(tiny_llama, "float32", "cpu"), "correct"), nll(model, "correct")
    np.testing.assert_allclose(wide.loc["nll/all", 0], base - tuned, rtol=1e-3, atol=1e-4)


def test_states_that_are_not_finite_are_named(tiny_llama):
    """A profile of NaN never leaves: the first layer that gives one, its dtype and what to do are named."""
    model = lora_model(tiny_llama, [1], 0.2)
    decoder_layers(model)[1].mlp.down_proj.lora_B["default"].weight.data.fill_(float("nan"))
    for metric in ("linear_cka", "curvature_change", "segment_swap"):
        with pytest.raises(InputError, match="layer 1: its states are not finite in float32; set the model's dtype"):
            compute(metric, Compared.of_adapter(model), make_tokenizer(), SETTINGS, DATA)


def test_pairs_that_say_nothing_are_refused(arm):
    same = Pair("same", "d", "en", "One and one", " two", " two", " three")
    for metric in ("segment_swap", "early_exit_change"):
        with pytest.raises(InputError, match="into the same tokens as 'correct'"):
            compute(metric, arm, make_tokenizer(), SETTINGS, DATA | {"pairs": [same]})
        with pytest.raises(InputError, match="pairs: found none"):
            compute(metric, arm, make_tokenizer(), SETTINGS, DATA | {"pairs": []})


def test_a_text_alone_with_an_answer_of_one_token(arm):
    """Batches of one position: the same values as with all pairs in one batch."""
    pairs = [Pair(f"p{i}", "d", "en", f"2 + {i} =", *(str((i + k) % 10) for k in range(3))) for i in range(3)]
    one, other = (
        compute("segment_swap", arm, make_tokenizer(), {"batch_tokens": size}, DATA | {"pairs": pairs}).variants
        for size in (1, 1000)
    )
    np.testing.assert_allclose(one["value"], other["value"], rtol=1e-3, atol=1e-4)
