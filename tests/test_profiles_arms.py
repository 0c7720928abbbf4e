"""Metrics that compare two models: against written-out formulas in float64 on the merged model, and closed forms."""

import copy
from itertools import permutations

import numpy as np
import pytest
import torch

from arms import DATA, PAIRS, POOLS, SETTINGS, WORDS, hidden_states, lora_model, pooled, values_of, variants_of
from colocate.errors import InputError
from colocate.models import decoder_layers, load_model, load_tokenizer
from colocate.profiles import METRICS, compute
from colocate.profiles.compared import Compared
from colocate.profiles.linear_cka import cka, gram, hsic_biased, hsic_debiased
from colocate.profiles.weight_change import squared_norms
from tiny import make_model, make_tokenizer

ARM_METRICS = [name for name, metric in METRICS.items() if metric.needs == "arm"]


@pytest.fixture(scope="module")
def arm(tiny_llama):
    return Compared.of_adapter(lora_model(tiny_llama, [1, 3], 0.2))


@pytest.fixture(scope="module")
def untrained(tiny_llama):
    return Compared.of_adapter(lora_model(tiny_llama, [1, 3], 0.0))


@pytest.fixture(scope="module")
def release(tiny_llama):
    """The same arm, merged, beside a base model of its own."""
    merged = lora_model(tiny_llama, [1, 3], 0.2).merge_and_unload()
    return Compared.of_release(load_model(tiny_llama, "float32", "cpu"), merged)


@pytest.fixture(scope="module")
def states(release):
    """(base, tuned): hidden_states of both, by PEFT's merged weights."""
    return hidden_states(release.other), hidden_states(release.model)


def unlike_base(variants):
    """The variants that compare the two models; base/... and tuned/... are of one model."""
    return variants[~variants["variant"].str.match("(?:base|tuned)/")]["value"]


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


@pytest.mark.parametrize("pool", POOLS)
def test_cka_equals_the_formula(arm, states, pool):
    variants, h = variants_of("linear_cka", arm), np.eye(12) - 1 / 12
    for layer, (x, y) in enumerate(zip(*(pooled(rows, pool) for rows in states), strict=True)):
        k, other = h @ x @ x.T @ h, h @ y @ y.T @ h
        expected = (k * other).sum() / np.sqrt((k * k).sum() * (other * other).sum())
        assert values_of(variants, f"biased/{pool}")[layer] == pytest.approx(expected, rel=1e-4)
    assert values_of(variants, f"biased/{pool}")[0] == pytest.approx(1)  # below the first adapted layer
    assert values_of(variants, f"biased/{pool}")[3] < 0.999


@pytest.mark.parametrize("pool", POOLS)
def test_cosine_equals_the_formula(arm, states, pool):
    found = compute("cosine", arm, make_tokenizer(), SETTINGS | {"pool": pool}, DATA)
    x, y = (pooled(rows, pool) for rows in states)
    expected = (x * y).sum(-1) / np.sqrt((x * x).sum(-1) * (y * y).sum(-1))
    np.testing.assert_allclose(found.profile["value"], expected.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(found.items["value"].to_numpy().reshape(12, 4), expected.T, rtol=1e-5)
    assert found.profile["value"][0] == pytest.approx(1)
    assert found.profile["value"][3] < 0.99
    assert set(found.items["item"]) == set(WORDS)


@pytest.mark.parametrize("pool", POOLS)
def test_mean_shift_equals_the_formula(arm, states, pool):
    x, y = (pooled(rows, pool).mean(axis=1) for rows in states)
    expected = np.linalg.norm(y - x, axis=1)
    variants = variants_of("mean_shift", arm)
    np.testing.assert_allclose(values_of(variants, f"absolute/{pool}"), expected, rtol=1e-4, atol=1e-5)
    relative = expected / np.linalg.norm(x, axis=1)
    np.testing.assert_allclose(values_of(variants, f"relative/{pool}"), relative, rtol=1e-4, atol=1e-5)
    found = compute("mean_shift", arm, make_tokenizer(), SETTINGS | {"size": "relative", "pool": pool}, DATA)
    np.testing.assert_allclose(found.profile["value"], relative, rtol=1e-4, atol=1e-5)
    assert (found.profile["ci_low"] <= found.profile["ci_high"]).all()
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


@pytest.mark.parametrize("metric", ARM_METRICS)
def test_an_untrained_arm_is_the_base_model(untrained, metric):
    expected = 1 if metric in ("linear_cka", "cosine") else 0
    np.testing.assert_allclose(unlike_base(variants_of(metric, untrained)), expected, atol=1e-9)


@pytest.mark.parametrize("metric", ARM_METRICS)
def test_an_adapter_and_its_merged_release_agree(arm, release, metric):
    """The two ways to compare, one with a single copy of the weights and one with two, are one comparison."""
    one, other = (variants_of(metric, compared) for compared in (arm, release))
    assert one.drop(columns="value").equals(other.drop(columns="value"))
    # 1 where a pair's exit is right: two roundings of the same states can disagree on a tie, never on more
    np.testing.assert_allclose(one["value"], other["value"], rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("metric", ARM_METRICS)
def test_the_order_of_pairs_changes_nothing(arm, metric):
    one, other = (
        compute(metric, arm, make_tokenizer(), SETTINGS, DATA | {"pairs": pairs}).profile
        for pairs in (PAIRS, PAIRS[::-1])
    )
    np.testing.assert_allclose(one["value"], other["value"], rtol=1e-5, atol=1e-6)


def merged_changes(model) -> dict[str, torch.Tensor]:
    """What PEFT's own merging adds to each weight of the decoder layers."""
    layers = decoder_layers(model)
    before = {name.replace(".base_layer", ""): weight.clone() for name, weight in layers.named_parameters()}
    after = dict(decoder_layers(model.merge_and_unload()).named_parameters())
    return {name: (after[name] - before[name]).double() for name in after}


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"use_dora": True}], ids=["lora", "rslora", "dora"])
def test_effective_change_equals_what_merging_adds(tiny_llama, options):
    model = lora_model(tiny_llama, [1, 3], 0.2, **options)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "magnitude" in name:
                parameter *= 1.1
    compared = Compared.of_adapter(model)
    found = {
        f"{layer}.{linear.name}.weight": linear.change()
        for layer in range(4)
        for linear in compared.linear_modules(layer)
    }
    expected = merged_changes(copy.deepcopy(model))
    changed = {name for name, change in found.items() if change is not None}
    assert changed == {f"{layer}.{name}.weight" for layer in (1, 3) for name in ("self_attn.q_proj", "mlp.down_proj")}
    for name in found:
        change = found[name] if name in changed else torch.zeros_like(expected[name])
        torch.testing.assert_close(change, expected[name], rtol=1e-4, atol=1e-6)


def test_weight_change_equals_the_merged_product(tiny_llama, arm):
    found = compute("weight_change", arm, make_tokenizer(), SETTINGS, DATA)
    changes = merged_changes(lora_model(tiny_llama, [1, 3], 0.2))
    base = load_model(tiny_llama, "float32", "cpu")
    weights = {name: weight.detach().double() for name, weight in decoder_layers(base).named_parameters()}
    for layer in range(4):
        names = [name for name in weights if name.startswith(f"{layer}.") and weights[name].dim() == 2]
        for part, chosen in {
            "all": names,
            "attention": [name for name in names if "self_attn" in name],
            "q_proj": [name for name in names if "q_proj" in name],
            "gate_proj": [name for name in names if "gate_proj" in name],
        }.items():
            change = np.sqrt(sum(float(changes[name].norm()) ** 2 for name in chosen))
            weight = np.sqrt(sum(float(weights[name].norm()) ** 2 for name in chosen))
            assert values_of(found.variants, f"absolute/{part}")[layer] == pytest.approx(change, rel=1e-5)
            assert values_of(found.variants, f"relative/{part}")[layer] == pytest.approx(change / weight, rel=1e-5)
    assert found.profile["value"].tolist() == values_of(found.variants, "relative/all").tolist()
    assert found.profile["value"].gt(0).tolist() == [False, True, False, True]
    assert set(found.profile["n"]) == {7}
    published = {"modules": "attention", "size": "absolute"}
    only = compute("weight_change", arm, make_tokenizer(), SETTINGS | published, DATA)
    assert set(only.profile["n"]) == {4}
    assert only.profile["value"].tolist() == values_of(found.variants, "absolute/attention").tolist()


def test_a_rank_one_change_has_the_norm_of_its_factors(tiny_llama):
    """||scale u v^T||_F = scale ||u|| ||v||, exactly."""
    compared = Compared.of_adapter(lora_model(tiny_llama, [2], 0.0))
    module = decoder_layers(compared.model)[2].self_attn.q_proj
    u, v = torch.linspace(-1, 1, 64), torch.linspace(0, 2, 64)
    with torch.no_grad():
        module.lora_A["default"].weight.zero_()[0] = v
        module.lora_B["default"].weight.zero_()[:, 0] = u
    values = values_of(variants_of("weight_change", compared), "absolute/q_proj")
    expected = 12 / 4 * float(u.double().norm()) * float(v.double().norm())
    assert values[2] == pytest.approx(expected, rel=1e-12)
    assert values.tolist()[:2] == [0, 0]


def test_every_linear_module_counts_once(arm):
    names = [linear.name.rpartition(".")[2] for linear in arm.linear_modules(1)]
    assert sorted(names) == sorted("q_proj k_proj v_proj o_proj gate_proj up_proj down_proj".split())
    module, (linear, *_) = decoder_layers(arm.model)[1].self_attn.q_proj, arm.linear_modules(1)
    change, weight = squared_norms(linear)
    assert change == pytest.approx(float(module.get_delta_weight("default").detach().norm()) ** 2, rel=1e-5)
    assert weight == pytest.approx(float(module.get_base_layer().weight.detach().norm()) ** 2, rel=1e-5)


def test_models_that_do_not_fit_are_named(tiny_llama, tmp_path):
    base = load_model(tiny_llama, "float32", "cpu")
    deeper = load_model(make_model(tmp_path / "deeper", num_hidden_layers=5), "float32", "cpu")
    with pytest.raises(InputError, match="tiny_llama.* and .*deeper cannot be compared .*num_hidden_layers: 4 and 5"):
        Compared.of_release(base, deeper)
    wider = load_model(make_model(tmp_path / "wider", intermediate_size=112), "float32", "cpu")
    with pytest.raises(InputError, match=r"down_proj.weight: \(64, 96\) and \(64, 112\)"):
        Compared.of_release(base, wider)
    with pytest.raises(InputError, match="LlamaForCausalLM has no adapter"):
        Compared.of_adapter(base)


def test_tokenizers_that_differ_are_named(tiny_llama):
    base, tuned = (load_model(tiny_llama, "float32", "cpu") for _ in range(2))
    tokenizers = [load_tokenizer(tiny_llama) for _ in range(2)]
    tokenizers[1].add_tokens(["<|new|>"], special_tokens=True)
    assert Compared.of_release(base, tuned, *tokenizers).n_layers == 4  # a fine-tune may add tokens of its own
    from tokenizers import pre_tokenizers

    tokenizers[1].backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    with pytest.raises(InputError, match=r"different tokenizers \(pre_tokenizer\)"):
        Compared.of_release(base, tuned, *tokenizers)


def test_bad_settings_are_named(arm):
    for metric, given, message in (
        ("linear_cka", {"estimator": "unbiased"}, "estimator: found 'unbiased', allowed: biased, debiased"),
        ("cosine", {"pool": "last"}, "pool: found 'last', allowed: all, skip_first, answer, unit"),
        ("mean_shift", {"size": "large"}, "size: found 'large', allowed: absolute, relative"),
        ("weight_change", {"modules": "qkvo"}, "modules: found 'qkvo', allowed: all, attention"),
        ("segment_swap", {"outcome": "loss"}, "outcome: found 'loss', allowed: nll, log_odds"),
        ("effective_rank_change", {"centred": "yes"}, "centred: found 'yes', expected bool"),
        ("curvature_change", {"pool": "answer"}, "pool: found 'answer', allowed: all, skip_first"),
    ):
        with pytest.raises(InputError, match=message):
            compute(metric, arm, make_tokenizer(), SETTINGS | given, DATA)
    with pytest.raises(InputError, match="pairs: found 3 texts, this metric needs at least 8"):
        compute("linear_cka", arm, make_tokenizer(), SETTINGS, DATA | {"pairs": PAIRS[:3]})
