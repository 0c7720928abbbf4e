"""Metrics of the shape of a layer's states: closed forms, and float64 from the formula on a tiny model."""

import numpy as np
import pytest
import torch

from colocate.errors import InputError
from colocate.models import load_model
from colocate.pairs import Pair
from colocate.profiles import METRICS, compute, representation
from reference_states import DATA, IDS, PAIRS, RIGHT, SAME, float64_model, layer_states, pooled, variant
from tiny import make_tokenizer

OF_SAMPLE = ("effective_rank", "dataset_entropy", "spectral_norm")
OF_TOKENS = ("prompt_entropy", "curvature")
MEASURED = (*OF_SAMPLE, *OF_TOKENS, "input_output_cka", "input_output_cosine")


@pytest.fixture(scope="module")
def model(tiny_llama):
    torch.set_num_threads(1)
    return load_model(tiny_llama, "float32", "cpu")


@pytest.fixture(scope="module")
def states(tiny_llama):
    """Of each right text: (L + 1, T, D) float64 and the answer's start."""
    exact = float64_model(tiny_llama)
    return [layer_states(exact, *text) for text in RIGHT]


def measure(name: str, model, data=DATA, **settings):
    return compute(name, model, make_tokenizer(), {"metric": name, "seed": 0, "batch_tokens": 100} | settings, data)


def rotation(size: int, seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]


# --- closed forms -----------------------------------------------------------------------------------------------------


def test_effective_rank_and_entropy_of_known_spectra():
    assert representation.effective_rank(np.eye(5)) == pytest.approx(1)
    assert representation.matrix_entropy(np.eye(5)) == pytest.approx(1)
    line = np.outer(np.arange(1, 7), [1.0, 2, 3, 4])
    assert representation.effective_rank(line) == pytest.approx(1 / 4)
    assert representation.matrix_entropy(line) == pytest.approx(0, abs=1e-12)
    uneven = np.diag([3.0, 1.0])  # s^2 = 9, 1
    entropy = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    assert representation.effective_rank(uneven) == pytest.approx(np.exp(entropy) / 2)
    assert representation.matrix_entropy(uneven) == pytest.approx(entropy / np.log(2))
    x = np.random.default_rng(0).normal(size=(9, 5))
    for function in (representation.effective_rank, representation.matrix_entropy):
        assert function(7 * x[::-1] @ rotation(5, 1)) == pytest.approx(function(x))
        np.testing.assert_allclose(function(np.stack((x, x**2))), [function(x), function(x**2)])
    assert np.isnan(representation.matrix_entropy(np.ones((1, 5))))


def test_curvature_of_known_paths():
    assert representation.curvature(np.outer([0, 1, 5, 6], [1.0, 2, -1])) == pytest.approx(0, abs=1e-7)
    assert representation.curvature(np.array([[0.0, 0], [1, 0], [0, 0], [1, 0]])) == pytest.approx(1)
    assert representation.curvature(np.array([[0.0, 0], [1, 0], [1, 1], [2, 1]])) == pytest.approx(1 / 2)
    angles = 2 * np.pi * np.arange(9) / 8  # an octagon turns by 45 degrees at each corner
    assert representation.curvature(np.stack((np.cos(angles), np.sin(angles)), axis=1)) == pytest.approx(1 / 4)
    points = np.random.default_rng(0).normal(size=(2000, 400))
    assert representation.curvature(points) == pytest.approx(2 / 3, abs=0.01)
    assert representation.curvature(points.cumsum(axis=0)) == pytest.approx(1 / 2, abs=0.01)
    assert representation.curvature(np.array([[0.0], [1], [1], [2], [3]])) == pytest.approx(0)  # the pause has no angle
    assert np.isnan(representation.curvature(points[:2]))


def test_norms_shifts_and_cosines():
    x = np.random.default_rng(0).normal(size=(6, 4))
    assert representation.spectral_norm(np.diag([3.0, -4.0])) == pytest.approx(4)
    assert representation.spectral_norm(x) == pytest.approx(np.linalg.norm(x, ord=2))
    assert representation.spectral_norm(x.T) == pytest.approx(np.linalg.norm(x, ord=2))
    assert representation.mean_cosine(x, 3 * x) == pytest.approx(1)
    assert representation.mean_cosine(x, -x) == pytest.approx(-1)
    assert representation.mean_cosine(np.eye(4), np.roll(np.eye(4), 1, axis=0)) == pytest.approx(0)
    assert representation.mean_shift(x, x + [3.0, 0, 4, 0]) == pytest.approx(5)
    assert representation.mean_shift(x, x[::-1]) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("debiased", [False, True])
def test_cka_invariances(debiased):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 8)), rng.normal(size=(30, 12))
    y[:, :4] += x[:, :4]
    found = representation.linear_cka(x, y, debiased)
    assert 0.05 < found < 0.95
    assert representation.linear_cka(x, x, debiased) == pytest.approx(1)
    assert representation.linear_cka(y, x, debiased) == pytest.approx(found)
    moved = 3 * x @ rotation(8, 1) + rng.normal(size=8)
    assert representation.linear_cka(moved, y, debiased) == pytest.approx(found)
    assert representation.linear_cka(moved, x, debiased) == pytest.approx(1)


def test_debiased_cka_of_independent_data_is_near_zero():
    rng = np.random.default_rng(0)
    found = np.array(
        [
            [representation.linear_cka(x, y, debiased) for debiased in (False, True)]
            for x, y in (rng.normal(size=(2, 50, 400)) for _ in range(20))
        ]
    ).mean(axis=0)
    assert found[0] > 0.8  # the published form: independence looks like likeness
    assert abs(found[1]) < 0.02


# --- against float64 on a tiny model ----------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", ["all", "skip_first", "answer"])
@pytest.mark.parametrize("centred", [False, True])
def test_metrics_of_the_whole_sample(model, states, pool, centred):
    layers = np.stack([pooled(*text, pool)[1:] for text in states], axis=1)  # (L, N, D)
    if centred:
        layers = layers - layers.mean(axis=1, keepdims=True)
    singular = np.linalg.svd(layers, compute_uv=False)
    shares = singular**2 / (singular**2).sum(axis=1, keepdims=True)
    shares = np.maximum(shares, 1e-300)
    entropy = -(shares * np.log(shares)).sum(axis=1)
    expected = {
        "effective_rank": np.exp(entropy) / 8,
        "dataset_entropy": entropy / np.log(8),
        "spectral_norm": singular[:, 0] / np.sqrt(8),
    }
    for name in OF_SAMPLE:
        found = measure(name, model, pool=pool, centred=centred)
        np.testing.assert_allclose(found.profile["value"], expected[name], rtol=1e-4)
        np.testing.assert_allclose(variant(found, pool + "/centred" * centred)[0], expected[name], rtol=1e-4)
        assert found.profile["n"].tolist() == [8] * 4
        assert found.items is None
        assert found.variants["variant"].nunique() == 8
        assert (found.profile["ci_low"] < found.profile["ci_high"]).all()


@pytest.mark.parametrize(("pool", "skipped"), [("all", 0), ("skip_first", 1)])
def test_metrics_of_tokens(model, states, pool, skipped):
    def entropy(x: np.ndarray) -> float:
        eigenvalues = np.linalg.eigvalsh(x @ x.T / np.trace(x @ x.T))
        kept = eigenvalues[eigenvalues > 1e-14]
        return -(kept * np.log(kept)).sum() / np.log(min(x.shape))

    def curvature(x: np.ndarray) -> float:
        steps = x[1:] - x[:-1]
        cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(steps[:-1], steps[1:], strict=True)]
        return np.arccos(cosines).mean() / np.pi

    for name, statistic in (("prompt_entropy", entropy), ("curvature", curvature)):
        expected = np.array([[statistic(layer[skipped:]) for layer in text[1:]] for text, _ in states])
        found = measure(name, model, pool=pool)
        np.testing.assert_allclose(variant(found, pool), expected, rtol=1e-4)
        np.testing.assert_allclose(found.profile["value"], expected.mean(axis=0), rtol=1e-4)
        assert list(dict.fromkeys(found.items["item"])) == IDS


@pytest.mark.parametrize("pool", ["all", "skip_first", "answer"])
def test_input_output_cosine(model, states, pool):
    expected = []
    for text, start in states:
        chosen = text[:, {"all": 0, "skip_first": 1, "answer": start}[pool] :]
        x, y = chosen[:-1], chosen[1:]
        cosines = (x * y).sum(-1) / np.sqrt((x * x).sum(-1) * (y * y).sum(-1))
        expected.append(cosines.mean(axis=1))
    found = measure("input_output_cosine", model, pool=pool)
    np.testing.assert_allclose(variant(found, pool), expected, rtol=1e-4)
    np.testing.assert_allclose(found.profile["value"], np.mean(expected, axis=0), rtol=1e-4)


@pytest.mark.parametrize("pool", ["all", "skip_first", "answer"])
def test_input_output_cka(model, states, pool):
    """The published form as ||Y'X||_F^2 / (||X'X||_F ||Y'Y||_F) of centred X and Y (Kornblith et al., equation 3)."""
    layers = np.stack([pooled(*text, pool) for text in states], axis=1)  # (L + 1, N, D)
    layers = layers - layers.mean(axis=1, keepdims=True)
    norm = np.linalg.norm
    expected = [
        1 - norm(y.T @ x) ** 2 / norm(x.T @ x) / norm(y.T @ y) for x, y in zip(layers[:-1], layers[1:], strict=True)
    ]
    found = measure("input_output_cka", model, pool=pool)
    np.testing.assert_allclose(found.profile["value"], expected, rtol=1e-3)
    np.testing.assert_allclose(variant(found, f"biased/{pool}")[0], expected, rtol=1e-3)
    debiased = [
        1 - representation.linear_cka(x, y, debiased=True) for x, y in zip(layers[:-1], layers[1:], strict=True)
    ]
    np.testing.assert_allclose(variant(found, f"debiased/{pool}")[0], debiased, rtol=1e-3)
    assert (
        (found.profile["ci_low"] < found.profile["value"]) & (found.profile["value"] < found.profile["ci_high"])
    ).all()


def test_a_layer_that_passes_its_input_on_changes_nothing(tiny_llama):
    idle = load_model(tiny_llama, "float32", "cpu")
    with torch.no_grad():
        idle.model.layers[2].self_attn.o_proj.weight.zero_()
        idle.model.layers[2].mlp.down_proj.weight.zero_()
    assert measure("input_output_cosine", idle).profile["value"][2] == pytest.approx(1, abs=1e-6)
    assert measure("input_output_cka", idle).profile["value"][2] == pytest.approx(0, abs=1e-6)
    assert measure("input_output_cka", idle).profile["value"][1] > 1e-3


@pytest.mark.parametrize("name", MEASURED)
def test_order_and_batches_change_nothing(model, name):
    turned = DATA | {"pairs": PAIRS[::-1], "paraphrases": SAME}
    one, other = measure(name, model), measure(name, model, turned, batch_tokens=1)
    np.testing.assert_allclose(one.profile["value"], other.profile["value"], rtol=1e-4, atol=1e-6)
    if one.items is None:
        assert not METRICS[name].items
        return
    merged = one.items.merge(other.items, on=["item", "layer"])
    assert len(merged) == len(one.items) == 8 * 4
    np.testing.assert_allclose(merged["value_x"], merged["value_y"], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(one.items.groupby("layer")["value"].mean(), one.profile["value"])


@pytest.mark.parametrize("name", MEASURED)
def test_states_that_are_not_finite_are_named(tiny_llama, name):
    broken = load_model(tiny_llama, "float32", "cpu")
    with torch.no_grad():
        broken.model.layers[2].mlp.down_proj.weight[0, 0] = torch.nan
    with pytest.raises(InputError, match="layer 2: its states are not finite in float32; set the model's dtype to"):
        measure(name, broken)


@pytest.mark.parametrize("name", MEASURED)
def test_too_few_texts_and_bad_settings_are_named(name):
    with pytest.raises(InputError, match="pairs: found 0 texts, this metric needs at least"):
        measure(name, None, {"pairs": [], "paraphrases": []})
    with pytest.raises(InputError, match="pool: found 'last', allowed: all, skip_first"):
        measure(name, None, pool="last")
    with pytest.raises(InputError, match="batch_tokens: found 0"):
        measure(name, None, batch_tokens=0)


@pytest.mark.parametrize("name", OF_TOKENS)
def test_a_text_too_short_is_named(model, name):
    short = [Pair("short", "d", "zh", "a", "b", "c", "d")]
    with pytest.raises(InputError, match="'a b': its 2 tokens are too few for this metric"):
        measure(name, model, DATA | {"pairs": [*PAIRS, *short]})
