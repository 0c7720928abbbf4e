"""Twins of a model: its architecture without what training put where. What profiles share with them is architecture.

random{n}     every weight drawn anew, with seed n, by the family's own initialisation (in float32 on the CPU, then
              cast: a twin is the same in every dtype, on every device)
shuffled{n}   the model's own weights, its decoder layers in another order, drawn with seed n; embedding, final norm and
              head stay. Weights move, modules stay: each place keeps its own number, attention type and RoPE
"""

import re
from pathlib import Path

import numpy as np

from colocate import models
from colocate.errors import InputError

DTYPES = tuple(dtype for dtype in models.DTYPES if dtype != "nf4")  # weights are moved and drawn, so they must be plain


def load_twin(folder: str | Path, twin: str, dtype: str, device: str):
    """The twin `random{n}` or `shuffled{n}` of the model in a prepared folder, in eval mode. InputError for others."""
    kind, seed = parse_twin(twin)
    if dtype not in DTYPES:
        raise InputError(f"dtype: found {dtype!r} for the twin {twin}, allowed: {', '.join(DTYPES)}")
    if kind == "random":
        return _random(folder, seed, dtype, device)
    model = models.load_model(folder, dtype, device)
    _shuffle(models.decoder_layers(model), seed)
    return model


def parse_twin(twin: str) -> tuple[str, int]:
    """("random" or "shuffled", seed)."""
    found = re.fullmatch(r"(random|shuffled)(\d+)", twin)
    if not found:
        raise InputError(f"twin: found {twin!r}, allowed: random or shuffled with a seed, such as random0")
    return found[1], int(found[2])


def shuffled_order(n_layers: int, seed: int) -> list[int]:
    """Which layer's weights each place gets: a permutation of 0 .. L-1, never the identity. InputError if L < 2."""
    if n_layers < 2:
        raise InputError(f"a model of {n_layers} layer cannot be shuffled; it needs two")
    rng = np.random.default_rng(seed)
    while (order := rng.permutation(n_layers).tolist()) == sorted(order):
        pass
    return order


def _random(folder: str | Path, seed: int, dtype: str, device: str):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
    narrow = getattr(torch, dtype)
    for parameter in model.parameters():  # not model.to(dtype): it would round the RoPE frequencies, which are buffers
        parameter.data = parameter.data.to(narrow)
    return model.to(device).eval()


def _shuffle(layers, seed: int) -> None:
    """Give each decoder layer another one's weights, in place, without a copy of any."""
    weights = [layer.state_dict() for layer in layers]
    shapes = [{name: tensor.shape for name, tensor in states.items()} for states in weights]
    for number, found in enumerate(shapes):
        if found != shapes[0]:
            raise InputError(f"layer {number} has other weights than layer 0: such a model cannot be shuffled")
    for layer, source in zip(layers, shuffled_order(len(layers), seed), strict=True):
        layer.load_state_dict(weights[source], assign=True)
