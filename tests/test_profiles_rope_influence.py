"""RoPE influence against naive whole forwards in float64, another base's cos and sin put into one layer by hand."""

import copy
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from colocate.errors import InputError
from colocate.models import decoder_layers, load_model
from colocate.pairs import Text
from colocate.profiles import compute
from colocate.profiles.capture import first, hidden_input, in_float32, recorded, resumed
from colocate.profiles.noise_floor import check_resolved, unresolved
from colocate.profiles.windows import windows
from colocate.rope import rope_scaled
from tiny import make_model, make_tokenizer

TEXTS = [
    Text(
        "bread", "story", "en", "The baker rose before the sun, lit the oven and counted the loaves of the day before."
    ),
    Text(
        "harbour",
        "story",
        "en",
        "Three boats lay in the harbour, and none of them had been painted since the war ended.",
    ),
    Text(
        "mountain",
        "story",
        "en",
        "On the far side of the mountain the snow stays until June, and the sheep come later.",
    ),
]
DATA = {"pairs": [], "paraphrases": [], "texts": TEXTS}
LENGTH, FIRST = 40, 16
SETTINGS = {
    "metric": "rope_influence",
    "log_alpha": 0.5,
    "text_tokens": LENGTH,
    "max_texts": 3,
    "seed": 0,
    "batch_tokens": 200,
}


@pytest.fixture(scope="module")
def model(tiny_llama):
    torch.set_num_threads(1)
    return load_model(tiny_llama, "float32", "cpu")


@pytest.fixture(scope="module")
def exact(tiny_llama):
    return load_model(tiny_llama, "float32", "cpu").double()


@pytest.fixture(scope="module")
def ids():
    return torch.tensor([window.ids for window in windows(make_tokenizer(), TEXTS, LENGTH, 3)])


@contextmanager
def other_positions(model, layer: int, change):
    """Give one layer's attention change(cos, sin) in place of the model's own, which are the same for all heads."""

    def replace(module, args, kwargs):
        return args, kwargs | {"position_embeddings": change(*kwargs["position_embeddings"])}

    handle = model.model.layers[layer].self_attn.register_forward_pre_hook(replace, with_kwargs=True)
    yield
    handle.remove()


def with_base(model, log_alpha: float):
    """cos and sin of transformers' rotary module for the base theta alpha."""
    config = copy.deepcopy(model.config)
    config.rope_parameters = config.rope_parameters | {
        "rope_theta": config.rope_parameters["rope_theta"] * float(np.exp(log_alpha))
    }
    rotary = LlamaRotaryEmbedding(config)
    return lambda cos, sin: rotary(cos, torch.arange(cos.shape[1])[None])


def no_rotation(cos, sin):
    return torch.ones_like(cos), torch.zeros_like(sin)


@torch.no_grad()
def naive_kl(model, ids, layer: int, change) -> np.ndarray:
    """(windows,) mean over positions of KL(p || p changed), from two whole forwards."""
    base = model(ids).logits[:, FIRST:].double().log_softmax(-1)
    with other_positions(model, layer, change):
        other = model(ids).logits[:, FIRST:].double().log_softmax(-1)
    return functional.kl_div(other, base, log_target=True, reduction="none").sum(-1).mean(-1).numpy()


def by_window(profile) -> np.ndarray:
    return profile.items.pivot(index="item", columns="layer", values="value").to_numpy()


def variant(profile, name: str, kv_head: int = -1) -> np.ndarray:
    rows = profile.variants[(profile.variants["variant"] == name) & (profile.variants["kv_head"] == kv_head)]
    return rows.pivot(index="item", columns="layer", values="value").to_numpy()


@pytest.mark.parametrize(("name", "tolerance"), [("exact", 1e-4), ("model", 1e-3)])
def test_output_equals_naive_whole_forwards(request, exact, ids, name, tolerance):
    found = compute("rope_influence", request.getfixturevalue(name), make_tokenizer(), SETTINGS, DATA)
    for layer in range(4):
        plus, minus = (naive_kl(exact, ids, layer, with_base(exact, sign * 0.5)) for sign in (1, -1))
        np.testing.assert_allclose(variant(found, "output_plus")[:, layer], plus, rtol=tolerance)
        np.testing.assert_allclose(variant(found, "output_minus")[:, layer], minus, rtol=tolerance)
        np.testing.assert_allclose(by_window(found)[:, layer], (plus + minus) / 2, rtol=tolerance)
        np.testing.assert_allclose(found.profile["value"][layer], (plus + minus).mean() / 2, rtol=tolerance)
    assert found.profile["n"].tolist() == [3] * 4
    assert by_window(found).min() > 1e-6


def test_the_suffix_alone_gives_what_whole_forwards_give(model, ids):
    """The naive loop at the same batch and precision: every layer run again for every change of one of them."""
    found = by_window(compute("rope_influence", model, make_tokenizer(), SETTINGS | {"batch_tokens": 1000}, DATA))
    signs = torch.tensor([0.5, -0.5]).repeat_interleave(3).unsqueeze(1)
    with torch.no_grad():
        base = model(ids).logits[:, FIRST:].double().log_softmax(-1)
        for layer in range(4):
            with rope_scaled(model, layer, signs):
                other = model(ids.repeat(2, 1)).logits[:, FIRST:].double().log_softmax(-1)
            kl = (base.exp() * (base - other.view(2, *base.shape))).sum(-1).mean(-1).mean(0)
            np.testing.assert_allclose(found[:, layer], kl, rtol=1e-5)


def test_removal_equals_naive_whole_forwards(exact, ids):
    found = compute("rope_influence", exact, make_tokenizer(), SETTINGS | {"method": "removal"}, DATA)
    for layer in range(4):
        expected = naive_kl(exact, ids, layer, no_rotation)
        np.testing.assert_allclose(by_window(found)[:, layer], expected, rtol=1e-6)


def test_fisher_is_the_limit_of_twice_the_kl_over_the_square(exact, model):
    fisher = compute("rope_influence", exact, make_tokenizer(), SETTINGS | {"method": "fisher"}, DATA)
    small = compute("rope_influence", exact, make_tokenizer(), SETTINGS | {"log_alpha": 1e-3}, DATA)
    np.testing.assert_allclose(by_window(fisher), 2 * by_window(small) / 1e-3**2, rtol=1e-3)
    single = compute("rope_influence", model, make_tokenizer(), SETTINGS | {"method": "fisher"}, DATA)
    np.testing.assert_allclose(by_window(single), by_window(fisher), rtol=1e-3)


def test_fisher_is_the_expected_squared_score(exact, ids):
    """Written out: sum over y of p(y) (d log p(y) / d log alpha)^2, every derivative by backpropagation."""
    given = SETTINGS | {"method": "fisher", "text_tokens": FIRST + 3, "max_texts": 1}
    found = compute("rope_influence", exact, make_tokenizer(), given, DATA)
    for layer in (0, 2):
        log_alpha, total = torch.zeros(1, requires_grad=True), 0.0
        with rope_scaled(exact, layer, log_alpha):
            log_p = exact(ids[:1, : FIRST + 3]).logits[0, FIRST:].log_softmax(-1)
        for row in log_p:
            scores = torch.stack([torch.autograd.grad(value, log_alpha, retain_graph=True)[0] for value in row])
            total += float((row.detach().exp() * scores.squeeze(1) ** 2).sum())
        assert found.profile["value"][layer] == pytest.approx(total / 3, rel=1e-4)


def test_local_is_the_relative_change_of_the_attention(model, ids):
    found = compute("rope_influence", model, make_tokenizer(), SETTINGS | {"method": "local"}, DATA)
    attentions = [layer.self_attn for layer in model.model.layers]
    for layer, attention in enumerate(attentions):
        expected = []
        for sign in (1, -1):
            with torch.no_grad(), recorded([attention]) as calls:
                model(ids, use_cache=False)  # a cache would remember the keys of this call
            args, kwargs, output = calls[0]
            position = with_base(model, sign * 0.5)(*kwargs["position_embeddings"])
            with torch.no_grad():
                changed = attention(*args, **kwargs | {"position_embeddings": position})[0][:, FIRST:]
            base = output[0][:, FIRST:]
            expected.append([float((c - b).norm() / b.norm()) for c, b in zip(changed, base, strict=True)])
        np.testing.assert_allclose(by_window(found)[:, layer], np.mean(expected, axis=0), rtol=1e-4)
        np.testing.assert_allclose(variant(found, "local_plus")[:, layer], expected[0], rtol=1e-4)
    assert "noise_floor" not in set(found.variants["variant"])


def test_local_per_kv_head_is_what_changing_that_head_alone_does(model, ids):
    found = compute("rope_influence", model, make_tokenizer(), SETTINGS | {"method": "local"}, DATA)
    layer, projection = 2, model.model.layers[2].self_attn.o_proj
    joined = []
    for log_alpha in ([0.0, 0.0], [0.0, 0.5], [0.0, -0.5]):
        with torch.no_grad(), recorded([projection]) as calls, rope_scaled(model, layer, torch.tensor(log_alpha)):
            model(ids)
        joined.append(calls[0][0][0][:, FIRST:].unflatten(-1, (2, 32)))  # two KV heads, each with two query heads of 16
    base, plus, minus = joined
    torch.testing.assert_close(plus[..., 0, :], base[..., 0, :])
    changes = [
        (one - base)[..., 1, :].flatten(1).norm(dim=1) / base[..., 1, :].flatten(1).norm(dim=1) for one in (plus, minus)
    ]
    np.testing.assert_allclose(variant(found, "local", kv_head=1)[:, layer], (changes[0] + changes[1]) / 2, rtol=1e-4)
    assert set(found.variants["kv_head"]) == {-1, 0, 1}


@pytest.mark.parametrize("method", ["output", "removal", "fisher"])
def test_per_kv_head_is_what_changing_that_head_alone_does(exact, ids, method):
    given = SETTINGS | {"method": method, "per_head": True}
    found = compute("rope_influence", exact, make_tokenizer(), given, DATA)
    assert set(found.variants["kv_head"]) == {-1, 0, 1}
    np.testing.assert_array_equal(variant(found, method), by_window(found))
    layer, head, size = 2, 1, 1e-3 if method == "fisher" else 0.5

    def change(log_alpha: float):
        """cos and sin (1, K, T, d) of which head 1 has another base, or none."""
        rotated = no_rotation if method == "removal" else with_base(exact, log_alpha)
        return lambda cos, sin: tuple(
            torch.stack((own, other.expand_as(own)), dim=1)
            for own, other in zip((cos, sin), rotated(cos, sin), strict=True)
        )

    with rope_scaled(exact, 0, 0.0):  # lets the family's rotation take cos and sin per head
        expected = np.mean([naive_kl(exact, ids, layer, change(sign * size)) for sign in (1, -1)], axis=0)
    expected = 2 * expected / size**2 if method == "fisher" else expected
    np.testing.assert_allclose(variant(found, method, kv_head=head)[:, layer], expected, rtol=1e-3)
    plain = compute("rope_influence", exact, make_tokenizer(), SETTINGS | {"method": method}, DATA)
    assert set(plain.variants["kv_head"]) == {-1}


@pytest.mark.parametrize("length", [128, 512, 2048])
def test_texts_of_every_length_are_measured_within_the_batch(tmp_path, length):
    """The published choice leaves length open: one window at a time where two do not fit the batch."""
    model = load_model(make_model(tmp_path, max_position_embeddings=2048, num_hidden_layers=2), "float32", "cpu")
    texts = [Text(f"t{i}", "story", "en", TEXTS[i].text * 30) for i in range(3)]
    seen, layer = [], model.model.layers[1]
    handle = layer.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[:2]))
    given = SETTINGS | {"text_tokens": length, "batch_tokens": 2048, "max_texts": 2}
    found = compute("rope_influence", model, make_tokenizer(), given, DATA | {"texts": texts})
    handle.remove()
    assert found.profile["n"].tolist() == [2, 2]
    assert {shape[1] for shape in seen} == {length}
    assert max(shape[0] for shape in seen) == {128: 4, 512: 4, 2048: 2}[length]  # two windows, or one, with both signs
    with pytest.raises(InputError, match="text_tokens: found 4096, but this model takes 2048"):
        compute("rope_influence", model, make_tokenizer(), given | {"text_tokens": 4096}, DATA)


@pytest.mark.parametrize("method", ["output", "removal", "fisher", "local"])
def test_batches_change_nothing(model, method):
    together = compute("rope_influence", model, make_tokenizer(), SETTINGS | {"method": method}, DATA)
    alone = compute("rope_influence", model, make_tokenizer(), SETTINGS | {"method": method, "batch_tokens": 1}, DATA)
    np.testing.assert_allclose(by_window(together), by_window(alone), rtol=1e-3)
    assert len(together.variants) == len(alone.variants)


def test_a_change_leaves_the_layers_below_alone(model, ids):
    layers = decoder_layers(model)
    with torch.no_grad():
        with recorded(layers) as before:
            model(ids)
        with recorded(layers) as after, rope_scaled(model, 2, 0.5):
            model(ids)
    same = [torch.equal(first(one[2]), first(other[2])) for one, other in zip(before, after, strict=True)]
    assert same == [True, True, False, False]


def test_resuming_gives_back_the_whole_forward_and_cleans_up(model, ids):
    layers = decoder_layers(model)
    with torch.no_grad():
        with recorded(layers) as calls:
            whole = model(ids).logits
        for layer in range(4):
            with resumed(model, layer, hidden_input(calls[layer])), recorded(layers) as again:
                resumed_logits = model(torch.zeros_like(ids)).logits
            assert torch.equal(resumed_logits, whole)
            assert torch.equal(first(again[3][2]), first(calls[3][2]))
        with pytest.raises(RuntimeError, match="stop"), resumed(model, 3, hidden_input(calls[3])):
            raise RuntimeError("stop")
        assert torch.equal(model(ids).logits, whole)
    assert not any("forward" in vars(layer) for layer in layers)


def test_the_noise_floor_is_far_below_and_marks_tiny_changes(model):
    found = compute("rope_influence", model, make_tokenizer(), SETTINGS, DATA)
    floor = variant(found, "noise_floor")
    assert floor.shape == (1, 4)
    assert 0 < floor.max() < 1e-3 * found.profile["value"].min()
    assert unresolved(found.variants) == []
    check_resolved(found.variants, "rope_output")
    tiny = compute("rope_influence", model, make_tokenizer(), SETTINGS | {"log_alpha": 1e-7}, DATA)
    assert len(unresolved(tiny.variants)) >= 2
    assert np.isfinite(tiny.profile["value"]).all()
    with pytest.raises(InputError, match="profile rope_tiny: . of 4 layers are under 3 times their noise floor"):
        check_resolved(tiny.variants, "rope_tiny")


def test_a_third_of_the_layers_may_be_unresolved():
    def rows(name, values):
        return pd.DataFrame({"variant": name, "item": "a", "layer": range(6), "kv_head": -1, "value": values})

    nan = float("nan")
    floor = rows("noise_floor", [1, 1, 1, 1, 1, nan])
    half = pd.concat([rows("output", [2.9, 3.1, 0.0, 5, 5, nan]), floor])
    assert unresolved(half) == [0, 2]
    with pytest.raises(InputError, match="2 of 5 layers are under 3 times their noise floor: 0, 2;"):
        check_resolved(half, "rope")
    check_resolved(pd.concat([rows("output", [2.9, 3.1, 4, 5, 5, nan]), floor]), "rope")
    assert unresolved(rows("local", [0.0] * 6)) == []


def test_half_precision_models_are_measured_in_float32_and_given_back(tiny_llama, model):
    half = load_model(tiny_llama, "bfloat16", "cpu")
    before = {name: tensor.clone() for name, tensor in half.state_dict().items()}
    frequencies = half.model.rotary_emb.inv_freq.clone()
    found = compute("rope_influence", half, make_tokenizer(), SETTINGS, DATA)
    assert all(
        torch.equal(tensor, before[name]) and tensor.dtype == before[name].dtype
        for name, tensor in half.state_dict().items()
    )
    assert torch.equal(half.model.rotary_emb.inv_freq, frequencies)
    with in_float32(half):
        assert {parameter.dtype for parameter in half.parameters()} == {torch.float32}
        again = compute("rope_influence", half, make_tokenizer(), SETTINGS, DATA)
    np.testing.assert_array_equal(by_window(found), by_window(again))
    assert variant(found, "noise_floor").max() < 1e-9  # bfloat16 would leave about 1e-4


@pytest.mark.parametrize("method", ["output", "removal", "fisher", "local"])
def test_bfloat16_is_a_warning_and_no_source_of_layer_sets(tiny_llama, method):
    model = load_model(tiny_llama, "float32", "cpu")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    frequencies = model.model.rotary_emb.inv_freq.clone()
    given = SETTINGS | {"method": method, "log_alpha": 0.1}
    rounded = compute("rope_influence", model, make_tokenizer(), given | {"precision": "bfloat16"}, DATA)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(model.model.rotary_emb.inv_freq, frequencies)
    assert rounded.variants["variant"].str.endswith(" (bf16 warning)").all()
    half = load_model(tiny_llama, "bfloat16", "cpu")
    stored = compute("rope_influence", half, make_tokenizer(), given | {"precision": "bfloat16"}, DATA)
    np.testing.assert_array_equal(by_window(stored), by_window(rounded))
    with pytest.raises(InputError, match="profile rope_bf16: precision is bfloat16, .* set precision: float32"):
        check_resolved(rounded.variants, "rope_bf16")
    if method == "local":
        return
    exact = compute("rope_influence", model, make_tokenizer(), given, DATA)
    floors = [variant(p, f"noise_floor{mark}").max() for p, mark in ((rounded, " (bf16 warning)"), (exact, ""))]
    assert floors[0] > 1e4 * floors[1] > 0
    assert unresolved(exact.variants) == []
    if method == "output":
        assert unresolved(rounded.variants)


@pytest.mark.parametrize("method", ["output", "local"])
def test_layers_without_rope_are_marked(method):
    from transformers import SmolLM3Config, SmolLM3ForCausalLM

    torch.manual_seed(0)
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
    }
    config = SmolLM3Config(
        vocab_size=259,
        num_hidden_layers=3,
        no_rope_layers=[1, 0, 1],
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        **sizes,
    )
    model = SmolLM3ForCausalLM(config).eval()
    profile = compute("rope_influence", model, make_tokenizer(), SETTINGS | {"method": method}, DATA)
    assert profile.profile["value"].isna().tolist() == [False, True, False]
    assert profile.profile["n"].tolist() == [3, 0, 3]
    assert profile.profile["ci_low"].isna().tolist() == [False, True, False]
    assert profile.items["value"].isna().sum() == 3
    assert unresolved(profile.variants) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "gradient"}, "method: found 'gradient', allowed: output, removal, fisher, local"),
        ({"log_alpha": -0.5}, "log_alpha: found -0.5, expected a number between 0 and 10"),
        ({"log_alpha": "0.5"}, "log_alpha: found '0.5', expected float"),
        ({"text_tokens": 16}, "text_tokens: found 16, expected at least 17"),
        ({"pool": "all"}, "pool: unknown setting"),
        ({"precision": "float16"}, "precision: found 'float16', allowed: float32, bfloat16"),
        ({"per_head": 1}, "per_head: found 1, expected bool"),
    ],
)
def test_bad_settings_are_named(given, message):
    with pytest.raises(InputError, match=message):
        compute("rope_influence", None, None, SETTINGS | given, DATA)


def test_the_number_of_windows_is_limited(model):
    found = compute("rope_influence", model, make_tokenizer(), SETTINGS | {"method": "local", "max_texts": 2}, DATA)
    assert sorted(set(found.items["item"])) == ["bread:0", "harbour:0"]


@pytest.mark.smollm2
def test_the_real_model_is_resolved_in_every_layer(smollm2):
    """Half precision in, float32 inside: the floor of every layer lies orders of magnitude below its influence."""
    from colocate.models import load_tokenizer

    model = load_model(smollm2, "bfloat16", "cpu")
    given = SETTINGS | {"text_tokens": 32, "max_texts": 1}
    found = compute("rope_influence", model, load_tokenizer(smollm2), given, DATA)
    assert found.profile["layer"].tolist() == list(range(30))
    assert (found.profile["value"] > 100 * variant(found, "noise_floor")[0]).all()
    assert unresolved(found.variants) == []
