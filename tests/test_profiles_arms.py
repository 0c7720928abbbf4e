"""Metrics of a trained arm: CKA against written-out formulas, weight change against the merged product."""

from itertools import permutations

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from colocate.errors import InputError
from colocate.models import decoder_layers, load_model
from colocate.pairs import Pair
from colocate.profiles import compute
from colocate.profiles.capture import recorded
from colocate.profiles.linear_cka import cka, gram, hsic_biased, hsic_debiased
from colocate.profiles.weight_change import change_squared, linear_modules, weight_squared
from tiny import make_tokenizer

WORDS = "apple bread cloud drum eagle fox glass hill ink jar kite lamp".split()
PAIRS = [Pair(word, "words", "en", f"The {word} is", f" {WORDS[i - 1]}", " x", " y") for i, word in enumerate(WORDS)]
DATA = {"pairs": PAIRS, "paraphrases": [], "texts": []}
SETTINGS = {"seed": 0, "batch_tokens": 100}


def lora_model(folder, layers: list[int], scale: float):
    """LoRA on q_proj and down_proj of chosen layers, with B random of size `scale` (0: as before training)."""
    torch.set_num_threads(1)
    config = LoraConfig(r=4, lora_alpha=12, target_modules=["q_proj", "down_proj"], layers_to_transform=layers)
    model = get_peft_model(load_model(folder, "float32", "cpu"), config).eval()
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = scale * torch.randn_like(parameter)
    return model


@pytest.fixture(scope="module")
def arm(tiny_llama):
    return lora_model(tiny_llama, [1, 3], 0.2)


@pytest.fixture(scope="module")
def untrained(tiny_llama):
    return lora_model(tiny_llama, [1, 3], 0.0)


def samples(seed: int, n: int, dimensions: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dimensions))


def test_biased_hsic_is_the_trace_with_centring_matrices():
    k, other = gram(samples(0, 9, 4)), gram(samples(1, 9, 3))
    h = np.eye(9) - 1 / 9
    assert hsic_biased(k, other) == pytest.approx(np.trace(k @ h @ other @ h))


def test_debiased_hsic_is_the_u_statistic():
    """Song et al. 2012: the mean over quadruples of different texts of k_ij l_ij + k_ij l_qr - 2 k_ij l_iq."""
    k, other = samples(0, 7, 3) @ samples(0, 7, 3).T, samples(1, 7, 5) @ samples(1, 7, 5).T
    terms = [k[i, j] * (other[i, j] + other[q, r] - 2 * other[i, q]) for i, j, q, r in permutations(range(7), 4)]
    assert hsic_debiased(k, other) == pytest.approx(np.mean(terms))


@pytest.mark.parametrize("estimator", ["biased", "debiased"])
def test_cka_ignores_rotation_scale_and_shift(estimator):
    x = samples(0, 30, 8)
    rotation, _ = np.linalg.qr(samples(1, 8, 8))
    y = x + 0.3 * samples(2, 30, 8)
    value = cka(gram(x), gram(y), estimator)
    assert cka(gram(x), gram(7 * y @ rotation + 3), estimator) == pytest.approx(value)
    assert cka(gram(y), gram(x), estimator) == pytest.approx(value)
    assert cka(gram(x), gram(-2 * x @ rotation), estimator) == pytest.approx(1)
    assert 0 < value < 1


def test_debiased_cka_of_independent_data_is_near_zero_and_biased_is_not():
    x, y = gram(samples(0, 200, 4096)), gram(samples(1, 200, 4096))
    assert cka(x, y, "biased") == pytest.approx(0.953, abs=0.002)
    assert abs(cka(x, y, "debiased")) < 0.02


def test_cka_of_an_arm_equals_the_formula_on_states_taken_one_text_at_a_time(arm):
    def states(layer: int) -> np.ndarray:
        rows = []
        for pair in PAIRS:
            ids = make_tokenizer()(pair.prompt + pair.correct, return_tensors="pt")["input_ids"]
            with torch.no_grad(), recorded([decoder_layers(arm)[layer]]) as calls:
                arm(input_ids=ids)
            rows.append(calls[0][2][0, 1:].double().mean(0).numpy())
        return np.array(rows)

    found = compute("linear_cka", arm, make_tokenizer(), SETTINGS | {"estimator": "biased", "pool": "skip_first"}, DATA)
    h = np.eye(12) - 1 / 12
    for layer in range(4):
        y = states(layer)
        with arm.disable_adapter():
            x = states(layer)
        k, other = h @ x @ x.T @ h, h @ y @ y.T @ h
        expected = (k * other).sum() / np.sqrt((k * k).sum() * (other * other).sum())
        assert found.profile["value"][layer] == pytest.approx(expected, rel=1e-4)
    assert found.profile["value"][0] == pytest.approx(1)  # below the first adapted layer
    assert found.profile["value"][3] < 0.999
    assert found.items is None


def test_cka_variants_and_interval(arm):
    found = compute("linear_cka", arm, make_tokenizer(), SETTINGS, DATA)
    names = {
        f"{estimator}/{pool}"
        for estimator in ("biased", "debiased")
        for pool in ("all", "skip_first", "answer", "unit")
    }
    assert set(found.variants["variant"]) == names
    chosen = found.variants[found.variants["variant"] == "debiased/all"]
    assert chosen["value"].tolist() == found.profile["value"].tolist()
    assert (found.profile["ci_low"] <= found.profile["ci_high"]).all()
    assert found.profile["ci_low"][3] < found.profile["ci_high"][3]
    assert set(found.profile["n"]) == {12}


def test_an_untrained_arm_is_the_base_model(untrained):
    values = compute("linear_cka", untrained, make_tokenizer(), SETTINGS, DATA).variants["value"]
    np.testing.assert_allclose(values, 1, atol=1e-9)
    change = compute("weight_change", untrained, make_tokenizer(), SETTINGS, DATA)
    assert change.variants["value"].tolist() == [0.0] * len(change.variants)


def test_weight_change_equals_the_merged_product(arm):
    found = compute("weight_change", arm, make_tokenizer(), SETTINGS, DATA)
    for layer, module in enumerate(decoder_layers(arm)):
        parts = {"q_proj": module.self_attn.q_proj, "down_proj": module.mlp.down_proj}
        weights = sum(
            float(p.norm()) ** 2 for name, p in module.named_parameters() if p.dim() == 2 and "lora" not in name
        )
        deltas = [p.get_delta_weight("default").double() for p in parts.values() if layer in (1, 3)]
        expected = np.sqrt(sum(float(d.norm()) ** 2 for d in deltas) / weights)
        assert found.profile["value"][layer] == pytest.approx(expected, rel=1e-5)
        rows = found.variants[found.variants["layer"] == layer].set_index("variant")["value"]
        q_weight = parts["q_proj"].get_base_layer().weight if layer in (1, 3) else parts["q_proj"].weight
        q_change = float(deltas[0].norm()) if deltas else 0.0
        assert rows["q_proj"] == pytest.approx(q_change / float(q_weight.detach().norm()), rel=1e-5)
        assert rows["gate_proj"] == 0
    assert found.profile["value"].gt(0).tolist() == [False, True, False, True]
    assert set(found.profile["n"]) == {7}
    only = compute("weight_change", arm, make_tokenizer(), SETTINGS | {"modules": "attention"}, DATA)
    assert set(only.profile["n"]) == {4}
    same = found.variants[found.variants["variant"] == "attention"]["value"].tolist()
    assert only.profile["value"].tolist() == same


def test_every_linear_module_counts_once(arm):
    names = [name for name, _ in linear_modules(decoder_layers(arm)[1])]
    assert sorted(name.rpartition(".")[2] for name in names) == sorted(
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )
    module = decoder_layers(arm)[1].self_attn.q_proj
    assert change_squared(module) == pytest.approx(float(module.get_delta_weight("default").norm()) ** 2, rel=1e-5)
    assert weight_squared(module) == pytest.approx(float(module.get_base_layer().weight.detach().norm()) ** 2, rel=1e-5)


def test_bad_settings_are_named(arm):
    with pytest.raises(InputError, match="estimator: found 'unbiased', allowed: biased, debiased"):
        compute("linear_cka", arm, make_tokenizer(), SETTINGS | {"estimator": "unbiased"}, DATA)
    with pytest.raises(InputError, match="pairs: found 3 texts, linear_cka needs at least 8"):
        compute("linear_cka", arm, make_tokenizer(), SETTINGS, DATA | {"pairs": PAIRS[:3]})
    with pytest.raises(InputError, match="modules: found 'qkvo', allowed: all, attention"):
        compute("weight_change", arm, make_tokenizer(), SETTINGS | {"modules": "qkvo"}, DATA)
