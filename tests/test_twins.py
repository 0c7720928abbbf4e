"""Architecture nulls: twins with random weights, and twins with their layers in another order."""

import numpy as np
import pytest
import torch

from colocate import twins
from colocate.errors import InputError
from colocate.models import load_model, load_tokenizer
from colocate.profiles import compute
from reference_states import DATA
from tiny import make_model, make_tokenizer


def weights(model) -> dict[str, torch.Tensor]:
    return dict(model.named_parameters())


def equal(one, other) -> bool:
    return all(torch.equal(tensor, weights(other)[name]) for name, tensor in weights(one).items())


def test_random_twins_follow_their_seed_alone(tiny_llama):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one = twins.load_twin(tiny_llama, "random0", "float32", "cpu")
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert equal(one, twins.load_twin(tiny_llama, "random0", "float32", "cpu"))
    drawn = [twins.load_twin(tiny_llama, f"random{seed}", "float32", "cpu") for seed in range(5)]
    projections = [twin.model.layers[1].self_attn.q_proj.weight for twin in drawn]
    assert not any(torch.equal(a, b) for i, a in enumerate(projections) for b in projections[:i])
    assert not one.training


def test_a_random_twin_has_the_familys_own_initialisation_and_shapes(tiny_llama):
    model, twin = load_model(tiny_llama, "float32", "cpu"), twins.load_twin(tiny_llama, "random0", "float32", "cpu")
    assert {name: tensor.shape for name, tensor in weights(model).items()} == {
        name: tensor.shape for name, tensor in weights(twin).items()
    }
    assert twin.config.to_dict() | {"dtype": ...} == model.config.to_dict() | {"dtype": ...}
    assert twin.lm_head.weight is twin.model.embed_tokens.weight
    assert torch.equal(twin.model.norm.weight, torch.ones(64))
    drawn = twin.model.layers[0].mlp.up_proj.weight.detach()
    assert float(drawn.std()) == pytest.approx(twin.config.initializer_range, rel=0.05)
    assert float(drawn.mean()) == pytest.approx(0, abs=0.002)


@pytest.mark.parametrize("twin", ["random0", "shuffled0"])
def test_a_twin_in_half_precision_is_the_same_twin_rounded(tiny_llama, twin):
    exact, half = (twins.load_twin(tiny_llama, twin, dtype, "cpu") for dtype in ("float32", "bfloat16"))
    assert half.dtype == torch.bfloat16
    assert all(torch.equal(tensor.bfloat16(), weights(half)[name]) for name, tensor in weights(exact).items())
    stored = load_model(tiny_llama, "bfloat16", "cpu").model.rotary_emb.inv_freq
    assert torch.equal(half.model.rotary_emb.inv_freq, stored)


def test_shuffled_layers_are_a_permutation_and_nothing_else_moves(tiny_llama):
    model, twin = load_model(tiny_llama, "float32", "cpu"), twins.load_twin(tiny_llama, "shuffled3", "float32", "cpu")
    order = twins.shuffled_order(4, 3)
    assert sorted(order) == [0, 1, 2, 3] != order
    for place, source in enumerate(order):
        assert equal(twin.model.layers[place], model.model.layers[source])
        assert twin.model.layers[place].self_attn.layer_idx == place
    for name, tensor in weights(model).items():
        if ".layers." not in name:
            assert torch.equal(tensor, weights(twin)[name])
    assert twin.lm_head.weight is twin.model.embed_tokens.weight
    assert equal(twin, twins.load_twin(tiny_llama, "shuffled3", "float32", "cpu"))
    ids = torch.arange(9)[None]
    with torch.no_grad():
        assert not torch.allclose(twin(ids).logits, model(ids).logits, atol=1e-3)
        model.model.layers = torch.nn.ModuleList([model.model.layers[source] for source in order])
        assert torch.equal(twin(ids, use_cache=False).logits, model(ids, use_cache=False).logits)


def test_an_order_is_never_the_identity_and_follows_its_seed():
    orders = [twins.shuffled_order(2, seed) for seed in range(50)]
    assert orders == [[1, 0]] * 50
    drawn = {tuple(twins.shuffled_order(30, seed)) for seed in range(20)}
    assert len(drawn) == 20
    assert twins.shuffled_order(30, 7) == twins.shuffled_order(30, 7)


def spearman_with_depth(values) -> float:
    return float(np.corrcoef(np.argsort(np.argsort(values)), np.arange(len(values)))[0, 1])


def test_sensitivity_of_a_random_twin_is_monotone_in_depth(tmp_path):
    """Architecture alone makes a profile of depth: what a trained model's profile must be compared with."""
    folder = make_model(tmp_path, num_hidden_layers=12, hidden_size=128, intermediate_size=256)
    for seed in range(3):
        twin = twins.load_twin(folder, f"random{seed}", "float32", "cpu")
        given = {"metric": "sensitivity", "seed": 0, "pool": "skip_first"}
        values = compute("sensitivity", twin, make_tokenizer(), given, DATA).profile["value"]
        assert abs(spearman_with_depth(values)) > 0.95


def test_other_twins_are_refused(copy):
    for twin in ("random", "shuffled-1", "twin0", "random0x"):
        with pytest.raises(InputError, match=f"twin: found '{twin}', allowed: random or shuffled with a seed"):
            twins.load_twin(copy, twin, "float32", "cpu")
    with pytest.raises(InputError, match="dtype: found 'nf4' for the twin random0, allowed: float32, bfloat16"):
        twins.load_twin(copy, "random0", "nf4", "cpu")
    with pytest.raises(InputError, match="a model of 1 layer cannot be shuffled"):
        twins.shuffled_order(1, 0)


def test_layers_of_several_kinds_are_not_shuffled(tiny_llama):
    model = load_model(tiny_llama, "float32", "cpu")
    model.model.layers[2].mlp.up_proj = torch.nn.Linear(64, 48, bias=False)
    with pytest.raises(InputError, match="layer 2 has other weights than layer 0: such a model cannot be shuffled"):
        twins._shuffle(model.model.layers, 0)


@pytest.mark.smollm2
def test_sensitivity_of_a_random_smollm2_is_monotone_in_depth(smollm2):
    twin = twins.load_twin(smollm2, "random0", "float32", "cpu")
    given = {"metric": "sensitivity", "seed": 0, "pool": "skip_first"}
    values = compute("sensitivity", twin, load_tokenizer(smollm2), given, DATA).profile["value"].to_numpy()
    assert (np.diff(values) > 0).all() or (np.diff(values) < 0).all()
