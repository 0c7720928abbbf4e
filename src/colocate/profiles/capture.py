"""Look into a running decoder: pooled outputs of all layers, inputs of all layers, a forward that starts at layer l.

Hooks, never `output_hidden_states`: its last entry is after the final norm, and its first layer is the embedding.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn

from colocate.errors import InputError
from colocate.files import Progress, silent
from colocate.models import decoder_layers
from colocate.pairs import encode
from colocate.profiles.shared_prefix import can_share, inputs_of, rows_of

POOLS = ("all", "skip_first", "answer", "unit")
FORMS = ("state", "increment")
CPU_TOKENS = 256  # most tokens of a forward on a CPU: larger ones leave its caches and took up to twice as long
TOKENS = POOLS[:2]  # which tokens count, for a statistic of a text's tokens


@dataclass(frozen=True)
class Batch:
    """One forward over B texts, padded on the right to T tokens; L layers."""

    rows: list[int]  # which texts
    ids: Tensor  # (B, T)
    spans: list[tuple[int, int]]  # of each text: index of the answer's first token, and number of tokens
    calls: list[tuple[tuple, dict, object]]  # of each layer, see `recorded`

    def weights(self) -> Tensor:
        """(B, 3, T): the weights of the tokens in the first three POOLS, each row summing to 1."""
        tokens = [[list(range(n))] for _, n in self.spans]
        starts = [[start] for start, _ in self.spans]
        return pool_weights(tokens, starts, self.ids.shape[1]).squeeze(2).to(self.ids.device)


@torch.no_grad()
def forwards(
    model, encoded: Sequence[tuple[list[int], int]], batch_tokens: int, progress: Progress = silent
) -> Iterator[Batch]:
    """The layers' calls over n texts, in batches of like length: only one batch's states are held at a time.

    encoded: token ids, and the index of the answer's first token (pairs.encode). At most batch_tokens, with padding,
    share a forward (on CPUs at most CPU_TOKENS). InputError where states are not finite.
    """

    def inputs(rows: list[int], device) -> dict[str, Tensor]:
        ids, mask = pad([encoded[row][0] for row in rows], device)
        return {"input_ids": ids, "attention_mask": mask}

    for rows, given, calls in _run(model, [len(ids) for ids, _ in encoded], inputs, batch_tokens, progress):
        yield Batch(rows, given["input_ids"], [(encoded[row][1], len(encoded[row][0])) for row in rows], calls)


@torch.no_grad()
def _run(model, lengths: Sequence[int], inputs: Callable, batch_tokens: int, progress: Progress) -> Iterator[tuple]:
    """(which rows, their inputs, the layers' calls), batch by batch; inputs: (which rows, device) -> keywords."""
    layers, decoder = decoder_layers(model), decoder_of(model)
    device, done = next(decoder.parameters()).device, 0
    batch_tokens = min(batch_tokens, CPU_TOKENS) if device.type == "cpu" else batch_tokens
    for rows in length_batches(lengths, batch_tokens):
        given = inputs(rows, device)
        with recorded(layers) as calls:
            decoder(**given, use_cache=False)
        calls[:] = [_on(device, call) for call in calls]
        _check_finite(calls)
        yield rows, given, calls
        done += len(rows)
        progress(done / len(lengths), f"{done} of {len(lengths)} texts")


def _on(device, call: tuple) -> tuple:
    """A layer's call with its states on this device: the layers of one model may lie on several cards."""
    args, kwargs, output = call
    output = (first(output).to(device), *output[1:]) if isinstance(output, tuple) else output.to(device)
    if args:
        return (args[0].to(device), *args[1:]), kwargs, output
    return args, kwargs | {"hidden_states": kwargs["hidden_states"].to(device)}, output


def pool_weights(tokens: Sequence[list[list[int]]], starts: Sequence[list[int]], length: int) -> Tensor:
    """Weights (B, 3, K, T) of the first three POOLS, over T places, for the K texts of each of B rows.

    tokens: the places of each text's tokens; starts: which of them is the answer's first. Each text's weights sum to 1.
    """
    weights = torch.zeros(len(tokens), 3, max(map(len, tokens)), length)
    for row, texts in enumerate(tokens):
        for number, (places, start) in enumerate(zip(texts, starts[row], strict=True)):
            weights[row, 0, number, places] = 1
            weights[row, 1, number, places[min(1, len(places) - 1) :]] = 1
            weights[row, 2, number, places[start:]] = 1
    return weights / weights.sum(dim=3, keepdim=True).clamp_min(1)  # rows of fewer texts keep zeros


def pad(sequences: Sequence[Sequence[int]], device, filling: int = 0) -> tuple[Tensor, Tensor]:
    """ids, padded on the right, and attention mask, (B, T) each."""
    shape = len(sequences), max(map(len, sequences))
    ids, mask = torch.full(shape, filling), torch.zeros(shape, dtype=torch.long)
    for row, tokens in enumerate(sequences):
        ids[row, : len(tokens)], mask[row, : len(tokens)] = torch.tensor(tokens), 1
    return ids.to(device), mask.to(device)


def _check_finite(calls: list) -> None:
    """What is not finite in one layer stays so in all above: look at the last, and only then for the first."""
    if not first(calls[-1][2]).isfinite().all():
        layer = next(layer for layer, call in enumerate(calls) if not first(call[2]).isfinite().all())
        dtype = str(first(calls[layer][2]).dtype).removeprefix("torch.")
        raise InputError(f"layer {layer}: its states are not finite in {dtype}; set the model's dtype to float32")


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

    Neighbouring texts of one prompt run as one row where the model allows it (shared_prefix).
    """
    encoded = [encode(tokenizer, *text) for text in texts]
    longest = max(len(ids) for ids, _ in encoded)
    share = can_share(model, longest)
    shared = rows_of([ids for ids, _ in encoded], [prompt for prompt, _ in texts], share)

    def inputs(rows: list[int], device) -> dict[str, Tensor]:
        if share:
            return inputs_of([shared[row] for row in rows], decoder_of(model).dtype, device)
        ids, mask = pad([shared[row].ids for row in rows], device)
        return {"input_ids": ids, "attention_mask": mask}

    states = None
    for rows, given, calls in _run(model, [len(row.ids) for row in shared], inputs, batch_tokens, progress):
        batch, (_, length) = [shared[row] for row in rows], given["input_ids"].shape
        starts = [[encoded[text][1] for text in row.texts] for row in batch]
        weights = pool_weights([row.places for row in batch], starts, length).to(given["input_ids"].device)
        pooled = torch.stack([_pool(hidden_input(call), first(call[2]), weights) for call in calls], dim=4)
        pooled = pooled.cpu().numpy()  # (B, 2, 4, K, L, D)
        if states is None:
            states = np.empty((len(texts), *pooled.shape[1:3], *pooled.shape[4:]), dtype=np.float32)
        for row, found in zip(batch, pooled, strict=True):
            states[row.texts] = found[:, :, : len(row.texts)].transpose(2, 0, 1, 3, 4)
    return states


def token_statistic(
    model,
    tokenizer,
    texts: Sequence[tuple[str, str]],
    statistic: Callable[[np.ndarray], np.ndarray],
    batch_tokens: int,
    progress: Progress = silent,
) -> np.ndarray:
    """A statistic of the tokens of each of n texts in each layer, (n, 2 TOKENS, L): with and without token 0.

    statistic: (L, T, D) float32 to (L,); NaN, where a text is too short for it, is an InputError.
    """
    values = None
    for batch in forwards(model, [encode(tokenizer, *text) for text in texts], batch_tokens, progress):
        states = torch.stack([first(call[2]).float() for call in batch.calls], dim=1).cpu().numpy()
        if values is None:
            values = np.empty((len(texts), len(TOKENS), states.shape[1]))
        for row, (_, n), tokens in zip(batch.rows, batch.spans, states, strict=True):
            values[row] = statistic(tokens[:, :n]), statistic(tokens[:, 1:n])
            if np.isnan(values[row]).any():
                raise InputError(f"{' '.join(texts[row])!r}: its {n} tokens are too few for this metric")
    return values


def right_texts(data: dict, fewest: int = 1) -> list:
    """The rows whose prompt and right answer are a metric's texts: pairs and paraphrases. InputError under `fewest`."""
    rows = [*data["pairs"], *data.get("paraphrases", ())]
    if len(rows) < fewest:
        raise InputError(f"pairs: found {len(rows)} texts, this metric needs at least {fewest}")
    return rows


def _pool(before: Tensor, after: Tensor, weights: Tensor) -> Tensor:
    """A layer's input and output (B, T, D), and weights (B, 3, K, T), to (B, 2 FORMS, 4 POOLS, K, D), in float32."""
    forms = []
    for states in (after.float(), after.float() - before.float()):
        norms = states.norm(dim=2).clamp_min(torch.finfo(torch.float32).tiny)
        unit = weights[:, :1] / norms[:, None, None]
        every = torch.cat((weights, unit), dim=1)
        forms.append(torch.bmm(every.flatten(1, 2), states).unflatten(1, every.shape[1:3]))
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


def check_plain(layers: Sequence[nn.Module], calls: list) -> None:
    """InputError if layers return tuples: `resumed` cannot stand in for such a layer."""
    if any(isinstance(call[2], tuple) for call in calls):
        raise InputError(f"{type(layers[0]).__name__} returns a tuple: such layers cannot be left out of a forward")


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
    repeated here. With layer = L no layer runs at all: what is left is the family's own final norm and head. The token
    ids passed in the block need the shape (B, T); their values do not matter.
    """
    layers = decoder_layers(model)
    own = [(below, below.__dict__.get("forward")) for below in layers[:layer]]  # accelerate has put its own there

    def replace(module, args, kwargs):
        return ((hidden, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": hidden})

    handle = layers[min(layer, len(layers) - 1)].register_forward_pre_hook(replace, with_kwargs=True)
    for below in layers[:layer]:
        below.forward = _pass_through  # on the instance: hides the class's method until it is deleted again
    try:
        yield
    finally:
        for below, forward in own:
            if forward is None:
                del below.forward
            else:
                below.forward = forward
        handle.remove()


def _pass_through(hidden_states: Tensor, *args, **kwargs) -> Tensor:
    return hidden_states


def in_float32(model):
    """Context: half-precision weights are float32; float32 and float64 stay as they are."""
    halves = (torch.float16, torch.bfloat16)
    return _cast((t for t in chain(model.parameters(), model.buffers()) if t.dtype in halves), torch.float32)


def in_bfloat16(model):
    """Context: floating-point weights are bfloat16; buffers, such as RoPE's frequencies, stay as they are."""
    return _cast((t for t in model.parameters() if t.is_floating_point()), torch.bfloat16)


@contextmanager
def _cast(tensors: Iterable[Tensor], dtype: torch.dtype) -> Iterator[None]:
    """Within the block, `tensors` are of `dtype`; after it they are what they were, bit for bit."""
    before = [(tensor, tensor.data) for tensor in tensors]
    for tensor, values in before:
        tensor.data = values.to(dtype)
    try:
        yield
    finally:
        for tensor, values in before:
            tensor.data = values


def context_length(model) -> float:
    """The most tokens that the model takes; infinite where its config does not say."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None) or float("inf")


def decoder_of(model):
    """The stack of layers without the head, which no pooled state needs."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return base.get_decoder()
