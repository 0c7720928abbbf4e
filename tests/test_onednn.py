"""Float32 layers by oneDNN: the same products to float32's rounding, and nothing of it left behind."""

import pytest
import torch
from torch import nn

from colocate import models, onednn
from colocate.profiles import compute
from evaluating import run
from test_profiles_rope_influence import DATA, SETTINGS
from tiny import make_tokenizer

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this build of torch has no oneDNN")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 48), (3, 5, 48), (7, 48), (48,)])
def test_products_are_those_of_float64_to_the_rounding_of_float32(shape, bias):
    torch.manual_seed(0)
    layer = nn.Linear(48, 80, bias=bias)
    inputs = [torch.randn(shape), torch.randn(*shape[:-1], 96)[..., ::2]]  # the second with gaps between its numbers
    with torch.no_grad(), onednn.float32_layers(nn.Sequential(layer)):
        found = [layer(x) for x in inputs]
    weight, shift = layer.weight.detach().double(), layer.bias.detach().double() if bias else 0.0
    for x, y in zip(inputs, found, strict=True):
        assert y.dtype == torch.float32
        assert y.shape == (*shape[:-1], 80)
        torch.testing.assert_close(y.double(), x.double() @ weight.T + shift, rtol=2e-6, atol=2e-6)


def test_layers_compute_by_it_within_the_block_and_as_before_after_it(monkeypatch):
    """The operator itself is watched: a block that left all as it is would agree to the last bit as well."""
    calls = []
    product = onednn._product
    monkeypatch.setattr(onednn, "_product", lambda layer, x: calls.append(layer) or product(layer, x))
    exact, half = nn.Linear(8, 8), nn.Linear(8, 8).bfloat16()
    x = torch.randn(2, 8)

    def outputs():
        return exact(x), half(x.bfloat16())

    def interrupted():
        with onednn.float32_layers(nn.ModuleList([exact, half])):
            outputs()
            raise RuntimeError("stop")

    with torch.no_grad():
        before = outputs()
        with pytest.raises(RuntimeError, match="stop"):
            interrupted()
        assert calls == [exact]  # bfloat16 has oneDNN already
        after = outputs()
    assert all(map(torch.equal, before, after))
    assert calls == [exact]
    assert "forward" not in vars(exact)


def test_without_onednn_torch_computes(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    layer = nn.Linear(8, 8)
    with onednn.float32_layers(nn.Sequential(layer)):
        assert "forward" not in vars(layer)


def test_a_model_gives_the_same_logits(tiny_llama):
    model = models.load_model(tiny_llama, "float32", "cpu")
    ids = torch.arange(40)[None] % 50
    with torch.no_grad():
        plain = model(input_ids=ids).logits
        with onednn.float32_layers(model):
            found = model(input_ids=ids).logits
    torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-6)


@pytest.fixture
def layers_seen(monkeypatch) -> set:
    """(inputs, outputs) of the layers that computed by oneDNN."""
    seen = set()
    product = onednn._product
    monkeypatch.setattr(
        onednn, "_product", lambda layer, x: seen.add((layer.in_features, layer.out_features)) or product(layer, x)
    )
    return seen


@pytest.mark.parametrize(("method", "used"), [("output", True), ("removal", True), ("local", True), ("fisher", False)])
def test_rope_influence_computes_by_it_but_where_it_differentiates(tiny_llama, layers_seen, method, used):
    model = models.load_model(tiny_llama, "float32", "cpu")
    compute("rope_influence", model, make_tokenizer(), SETTINGS | {"method": method, "max_texts": 1}, DATA)
    assert bool(layers_seen) == used


def test_an_evaluation_computes_its_output_head_by_it(tiny_llama, layers_seen):
    head = models.load_model(tiny_llama, "bfloat16", "cpu").get_output_embeddings()
    run(tiny_llama, {"task": "mini_arc", "limit": 2}, dtype="bfloat16")
    assert layers_seen == {(head.in_features, head.out_features)}  # all else is bfloat16
