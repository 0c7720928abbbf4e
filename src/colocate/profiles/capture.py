"""Look into a running decoder: pooled outputs of all layers, inputs of all layers, a forward that starts at layer l.

Hooks, never `output_hidden_states`: its last entry is after the final norm, and its first layer is the embedding.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn

from colocate.files import Progress, silent
from colocate.models import decoder_layers
from colocate.pairs import encode

POOLS = ("all", "skip_first", "answer", "unit")
FORMS = ("state", "increment")


@torch.no_grad()
def pooled_states(
    model, tokenizer, texts: Sequence[tuple[str, str]], batch_tokens: int, progress: Progress = silent
) -> np.ndarray:
    """Mean-pooled layer states of n texts (prompt, answer), (n, 2 FORMS, 4 POOLS, L, D) float32, from one pass.

    state       h_l, the output of decoder layer l
    increment   h_l - h_{l-1}; below layer 0 is the embedding
    all         mean over all tokens
    skip_first  ... without token 0, which is an attention sink (a text of one token keeps it)
    answer      ... over the tokens of the answer
    unit        mean over all tokens, each first scaled to norm 1

    Texts are padded on the right and batched by length, at most batch_tokens (padding included) a forward.
    """
    encoded = [encode(tokenizer, prompt, answer) for prompt, answer in texts]
    layers, decoder = decoder_layers(model), _decoder(model)
    device = next(decoder.parameters()).device
    states, done = None, 0
    for batch in length_batches([len(ids) for ids, _ in encoded], batch_tokens):
        ids, mask, weights = _pad([encoded[index] for index in batch])
        weights = weights.to(device)
        with recorded(layers) as calls:
            decoder(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False)
        pooled = [_pool(hidden_input(call), first(call[2]), weights) for call in calls]
        pooled = torch.stack(pooled, dim=3).cpu().numpy()
        if states is None:
            states = np.empty((len(texts), *pooled.shape[1:]), dtype=np.float32)
        states[batch] = pooled
        done += len(batch)
        progress(done / len(texts), f"{done} of {len(texts)} texts")
    return states


def _pad(encoded: list[tuple[list[int], int]]) -> tuple[Tensor, Tensor, Tensor]:
    """ids and attention mask (B, T), and the weights (B, 3, T) of the first three POOLS, each row summing to 1."""
    shape = len(encoded), max(len(ids) for ids, _ in encoded)
    ids, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    weights = torch.zeros(shape[0], 3, shape[1])
    for row, (tokens, start) in enumerate(encoded):
        n = len(tokens)
        ids[row, :n], mask[row, :n] = torch.tensor(tokens), 1
        weights[row, 0, :n] = 1
        weights[row, 1, min(1, n - 1) : n] = 1
        weights[row, 2, start:n] = 1
    return ids, mask, weights / weights.sum(dim=2, keepdim=True)


def _pool(before: Tensor, after: Tensor, weights: Tensor) -> Tensor:
    """A layer's input and output (B, T, D) to (B, 2 FORMS, 4 POOLS, D), in float32."""
    forms = []
    for states in (after.float(), after.float() - before.float()):
        norms = states.norm(dim=2).clamp_min(torch.finfo(torch.float32).tiny)
        unit = weights[:, :1] / norms.unsqueeze(1)
        forms.append(torch.bmm(torch.cat((weights, unit), dim=1), states))
    return torch.stack(forms, dim=1)


def length_batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Indices in batches of like length: longest * size <= batch_tokens, at least one a batch."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and lengths[index] * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


@contextmanager
def recorded(modules: Sequence[nn.Module]) -> Iterator[list[tuple[tuple, dict, object]]]:
    """Within the block, each module's last call is kept as (args, kwargs, output), in the order of `modules`."""
    calls: list = [None] * len(modules)

    def hook(index):
        def keep(module, args, kwargs, output):
            calls[index] = (args, kwargs, output)

        return keep

    handles = [module.register_forward_hook(hook(i), with_kwargs=True) for i, module in enumerate(modules)]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def hidden_input(call: tuple) -> Tensor:
    """The hidden states that a recorded module was called with, (B, T, D)."""
    args, kwargs, _ = call
    return args[0] if args else kwargs["hidden_states"]


def first(output) -> Tensor:
    """Some families return (hidden states, ...), others the hidden states alone."""
    return output[0] if isinstance(output, tuple) else output


@contextmanager
def resumed(model, layer: int, hidden: Tensor) -> Iterator[None]:
    """Within the block, forwards of `model` start at `layer` with the input `hidden` (B, T, D); no layer below runs.

    The model's own forward goes on doing all the rest (masks, positions, final norm, head), so nothing of it is
    repeated here. The token ids passed in the block need the shape (B, T); their values do not matter.
    """
    layers = decoder_layers(model)

    def replace(module, args, kwargs):
        return ((hidden, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": hidden})

    handle = layers[layer].register_forward_pre_hook(replace, with_kwargs=True)
    for below in layers[:layer]:
        below.forward = _pass_through  # on the instance: hides the class's method until it is deleted again
    try:
        yield
    finally:
        for below in layers[:layer]:
            del below.forward
        handle.remove()


def _pass_through(hidden_states: Tensor, *args, **kwargs) -> Tensor:
    return hidden_states


@contextmanager
def in_float32(model) -> Iterator[None]:
    """Within the block, half-precision weights are float32. Exact both ways; float32 and float64 stay as they are."""
    halves = (torch.float16, torch.bfloat16)
    narrow = [(t, t.dtype) for t in chain(model.parameters(), model.buffers()) if t.dtype in halves]
    for tensor, _ in narrow:
        tensor.data = tensor.data.float()
    try:
        yield
    finally:
        for tensor, dtype in narrow:
            tensor.data = tensor.data.to(dtype)


def _decoder(model):
    """The stack of layers without the head, which no pooled state needs."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return base.get_decoder()
