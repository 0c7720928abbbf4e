"""The kept input of the first adapted layer: the plain run's losses, without running what lies below."""

import pandas as pd
import pytest
import torch

from colocate import adapters, fitting, models
from colocate.budget import AdapterSpec
from colocate.prefix_cache import GIB, PrefixCache, first_trained_layer
from toy_training import TARGETS, arm, load, read, run

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = AdapterSpec((2, 3), (3,), 4, 8, TARGETS)


@pytest.fixture(scope="module")
def plain(tiny_llama, mixture, tmp_path_factory):
    return run(tiny_llama, mixture, tmp_path_factory.mktemp("plain"), resolved=arm(tiny_llama, (2, 3), (3,), 4, 0.3))


@pytest.mark.parametrize("share", [1, 0.4])
def test_a_run_with_a_cache_has_the_plain_run_s_losses(tiny_llama, mixture, tmp_path, plain, share):
    """With dropout above, and also where the cache holds a part of the examples only."""
    model, one = load(tiny_llama, mixture, SPEC)
    tokens = sum(len(example.ids) for split in one.data.values() for example in split)
    gib = share * tokens * 64 * 4 / GIB
    resolved = arm(tiny_llama, (2, 3), (3,), 4, 0.3)
    out, record = run(tiny_llama, mixture, tmp_path, resolved=resolved, prefix_cache_gib=gib)
    for name in ("training_log.csv", "heldout.parquet"):
        reader = pd.read_csv if name.endswith("csv") else pd.read_parquet
        pd.testing.assert_frame_equal(reader(out / name), reader(plain[0] / name), rtol=1e-5, atol=1e-6)
    assert record["tokens"] == plain[1]["tokens"]


def test_the_cache_is_bit_equal_where_rows_are_the_same(tiny_llama, mixture):
    """States kept for a row are what a forward of this row feeds the layer, and the losses from there are its own."""
    model, one = load(tiny_llama, mixture, SPEC)
    model.eval()
    cache = PrefixCache(model, lambda row: fitting.losses_of(model, row, "cpu"), gib=1)
    row = cache.choose(one.data["train"][:4])
    cache.keep(row)
    seen = []
    layer = models.decoder_layers(model)[2]
    handle = layer.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    plain = fitting.losses_of(model, row, "cpu")
    handle.remove()
    assert torch.equal(cache.states(row), seen[0])
    assert torch.equal(fitting.losses_of(model, row, "cpu", cache), plain)
    assert cache.used == sum(len(example.ids) for example in row) * 64 * 4


def test_layers_below_run_once_per_example_and_none_where_all_is_kept(tiny_llama, mixture):
    model, one = load(tiny_llama, mixture, SPEC, epochs=3, max_tokens=10**6, prefix_cache_gib=1)
    tokens = {0: 0, 3: 0}

    def count(number):
        def hook(module, args, kwargs, output):
            tokens[number] += output.shape[1]

        return hook

    for number in tokens:  # the attention: a layer that is left out is called, and passes its input on
        attention = models.decoder_layers(model)[number].self_attn.o_proj
        attention.register_forward_hook(count(number), with_kwargs=True)
    fitting.fit(model, one, ("validate",), None, "", lambda *_: None)
    train, validate = (sum(len(example.ids) for example in one.data[split]) for split in ("train", "validate"))
    checked = 2 * sum(sorted(len(example.ids) for example in one.data["train"])[:2])  # for leaks
    assert tokens[3] == checked + 3 * train + 4 * validate
    assert tokens[0] == checked + train + validate


def test_what_does_not_fit_is_computed_when_it_is_needed(tiny_llama, mixture):
    model, one = load(tiny_llama, mixture, SPEC)
    model.eval()
    row = one.data["train"][:5]
    room = (len(row[0].ids) + len(row[2].ids)) * 64 * 4
    forwards = []

    def forward(examples):
        forwards.append([example.id for example in examples])
        fitting.losses_of(model, examples, "cpu")

    cache = PrefixCache(model, forward, room / GIB)
    chosen = cache.choose([row[0], row[2], *row[3:], row[1]])
    assert chosen == [row[0], row[2]]
    cache.keep(chosen)
    whole = PrefixCache(model, forward, 0).states(row)
    torch.testing.assert_close(cache.states(row), whole, rtol=1e-5, atol=1e-5)
    assert forwards[-1] == [row[1].id, row[3].id, row[4].id]
    assert cache.used == room


@pytest.mark.parametrize(("lora", "garfa", "first"), [((2,), (3,), 2), ((3,), (1,), 1), ((0, 3), (), 0)])
def test_the_first_trained_layer(tiny_llama, lora, garfa, first):
    model = adapters.adapt(models.load_model(tiny_llama, "float32", "cpu"), AdapterSpec(lora, garfa, 4, 8, TARGETS))
    assert first_trained_layer(model) == first


def test_a_cache_below_layer_0_is_no_cache(tiny_llama, mixture, tmp_path):
    """All layers are adapted: nothing lies below, and the run is the plain one, bit for bit."""
    resolved = arm(tiny_llama, (0, 3), (1,))
    outs = [
        run(tiny_llama, mixture, tmp_path, str(gib), resolved, prefix_cache_gib=gib, max_tokens=600)[0]
        for gib in (0, 1)
    ]
    assert read(outs[0]) == read(outs[1])
