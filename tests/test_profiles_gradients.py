"""Gradient norm and empirical Fisher against autograd: one example at a time, float64, gradients of every weight."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from colocate.errors import InputError
from colocate.instructions import IGNORED
from colocate.models import load_model
from colocate.profiles import compute
from colocate.training_data import Example
from reference_states import float64_model, variant
from tiny import make_tokenizer

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


def example(name: str, prompt: str, answer: str) -> Example:
    ids, start = make_tokenizer()(prompt + answer)["input_ids"], len(prompt)
    return Example(name, "group", ids, [IGNORED] * start + ids[start:])


EXAMPLES = [
    example("sum", "What is 2 + 2?", " Four."),
    example("capital", "Name the capital of France, please.", " Paris, of course."),
    example("word", "Say yes.", " Yes"),
]
DATA = {"examples": EXAMPLES}


@pytest.fixture(scope="module")
def model(tiny_llama):
    torch.set_num_threads(1)
    return load_model(tiny_llama, "float32", "cpu")


@pytest.fixture(scope="module")
def squares(tiny_llama) -> dict[str, np.ndarray]:
    """Module name to squared norms (examples, L), float64, by autograd."""
    exact, found = float64_model(tiny_llama), {}
    for row, one in enumerate(EXAMPLES):
        exact.zero_grad()
        ids, labels = torch.tensor([one.ids]), torch.tensor(one.labels)
        logits = exact(ids).logits[0, :-1]
        functional.cross_entropy(logits, labels[1:], ignore_index=IGNORED).backward()
        for number, layer in enumerate(exact.model.layers):
            for name, module in layer.named_modules():
                if isinstance(module, torch.nn.Linear):
                    table = found.setdefault(name.rpartition(".")[2], np.zeros((len(EXAMPLES), 4)))
                    table[row, number] = float((module.weight.grad**2).sum())
    return found


def measure(name: str, model, data=DATA, **settings):
    return compute(name, model, None, {"metric": name, "seed": 0} | settings, data)


@pytest.mark.parametrize("batch_tokens", [1, 1000])
def test_norms_equal_autograds(model, squares, batch_tokens):
    whole = sum(squares.values())
    for name, of in (("gradient_norm", np.sqrt), ("empirical_fisher", np.array)):
        found = measure(name, model, batch_tokens=batch_tokens)
        np.testing.assert_allclose(variant(found, "all"), of(whole), rtol=1e-4)
        np.testing.assert_allclose(found.profile["value"], of(whole).mean(axis=0), rtol=1e-4)
        np.testing.assert_allclose(found.items.groupby("layer")["value"].mean(), found.profile["value"])
        for module in squares:
            np.testing.assert_allclose(variant(found, module), of(squares[module]), rtol=1e-4)
        assert set(found.variants["variant"]) == {"all", "attention", *squares}
    attention = measure("gradient_norm", model, modules="attention").profile["value"]
    np.testing.assert_allclose(attention, np.sqrt(sum(squares[name] for name in ATTENTION)).mean(axis=0), rtol=1e-4)


def test_the_order_of_examples_changes_nothing(model):
    one, other = measure("gradient_norm", model), measure("gradient_norm", model, {"examples": EXAMPLES[::-1]})
    np.testing.assert_allclose(one.profile["value"], other.profile["value"], rtol=1e-5)
    merged = one.items.merge(other.items, on=["item", "layer"])
    assert len(merged) == 12
    np.testing.assert_allclose(merged["value_x"], merged["value_y"], rtol=1e-4)


def test_a_layer_that_the_loss_does_not_see_has_no_gradient(tiny_llama):
    cut = load_model(tiny_llama, "float32", "cpu")
    with torch.no_grad():
        cut.model.layers[3].self_attn.o_proj.weight.zero_()
        cut.model.layers[3].mlp.down_proj.weight.zero_()
    found = measure("empirical_fisher", cut)
    means = found.variants.groupby(["variant", "layer"])["value"].mean()
    for module in ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"):
        assert means[module, 3] == 0 < means[module, 2]
    assert means["o_proj", 3] > 0


def test_the_model_is_left_as_it_was(model):
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    model.model.norm.weight.requires_grad_(False)
    measure("gradient_norm", model)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    assert [name for name, parameter in model.named_parameters() if not parameter.requires_grad] == [
        "model.norm.weight"
    ]
    model.model.norm.weight.requires_grad_(True)
    hooks = [module for module in model.modules() if module._forward_hooks or module._forward_pre_hooks]
    assert hooks == []


def test_the_first_examples_are_taken(model):
    assert set(measure("gradient_norm", model, max_examples=2).items["item"]) == {"sum", "capital"}


def test_half_precision_is_close(tiny_llama, model):
    half = measure("gradient_norm", load_model(tiny_llama, "bfloat16", "cpu")).profile["value"]
    np.testing.assert_allclose(half, measure("gradient_norm", model).profile["value"], rtol=0.05)


@pytest.mark.parametrize("name", ["gradient_norm", "empirical_fisher"])
def test_bad_input_is_named(tiny_llama, name):
    with pytest.raises(InputError, match="examples: found none, expected at least one of the training mixture"):
        measure(name, None, {"examples": []})
    with pytest.raises(InputError, match="max_examples: found 0, expected at least 1"):
        measure(name, None, max_examples=0)
    with pytest.raises(InputError, match="modules: found 'mlp', allowed: all, attention"):
        measure(name, None, modules="mlp")
    broken = load_model(tiny_llama, "float32", "cpu")
    with torch.no_grad():
        broken.model.layers[1].mlp.down_proj.weight[0, 0] = torch.inf
    with pytest.raises(InputError, match="its gradients are not finite in float32; set the model's dtype to"):
        measure(name, broken)
