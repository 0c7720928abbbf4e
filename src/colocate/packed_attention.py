"""Attention over packed rows on CPUs, one example at a time, and a check that no example sees another.

A row holds examples e of T_e tokens. The stock way is one call with a block-diagonal mask, (sum T_e)^2 scores a head;
here each example attends alone, sum T_e^2 scores, so that neighbours cannot be seen whatever the mask. Half precision
goes through the kernel in float32: torch's CPU kernel for bfloat16 is three times slower backwards, and less precise.

On GPUs the stock way stays: a masked row is one launch, a row of seven examples would be seven.

Measured (SmolLM2, 30 layers, one core with AVX512-BF16, rows of 480 tokens in 7 examples, forward and backward of one
layer's attention): masked row 18 ms in bfloat16, 20 ms in float32; one example at a time 4 ms.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from colocate.errors import InputError
from colocate.models import without_adapter

NAME = "colocate_per_example"  # in transformers' registry of attention functions
KINDS = {"full_attention", "sliding_attention"}  # of layers; others (chunked, linear) keep the stock way
_lengths: ContextVar[tuple[int, ...]] = ContextVar("lengths of the examples in the row")


@contextmanager
def per_example(model) -> Iterator[None]:
    """Within the block, forwards of a model on a CPU attend one example at a time; each needs `examples_of` round it.

    Nothing changes on GPUs, nor for families without sdpa (they cap logits or have sinks, in code of their own).
    """
    from transformers import AttentionInterface

    base = without_adapter(model)
    stock, config = base.config._attn_implementation, base.get_decoder().config
    kinds = set(getattr(config, "layer_types", None) or KINDS)
    if stock != "sdpa" or base.device.type != "cpu" or not kinds <= KINDS:
        yield
        return
    AttentionInterface.register(NAME, _attend)
    base.set_attn_implementation(NAME)
    try:
        yield
    finally:
        base.set_attn_implementation(stock)


@contextmanager
def examples_of(lengths: Sequence[int]) -> Iterator[None]:
    """Within the block, rows consist of examples of these lengths, in tokens."""
    token = _lengths.set(tuple(lengths))
    try:
        yield
    finally:
        _lengths.reset(token)


def _attend(module, query, key, value, attention_mask, is_causal=None, sliding_window=None, **options):
    """An attention function of transformers: q (1, H, T, d), k and v (1, K, T, d) to (1, T, H, d), and no weights."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    lengths, dtype = _lengths.get(), query.dtype
    pieces = []
    for q, k, v in zip(*(states.float().split(lengths, dim=2) for states in (query, key, value)), strict=True):
        mask = _window(q.shape[2], sliding_window) if sliding_window and q.shape[2] > sliding_window else None
        pieces.append(sdpa_attention_forward(module, q, k, v, mask, is_causal=mask is None, **options)[0])
    return torch.cat(pieces, dim=1).to(dtype), None


def _window(length: int, width: int) -> torch.Tensor:
    """True where a position sees another: itself and the width - 1 before it, (1, 1, T, T)."""
    ones = torch.ones(1, 1, length, length, dtype=torch.bool)
    return ones.tril() & ~ones.tril(-width)


def check_packing(
    losses: Callable[[list[list[int]]], torch.Tensor], ids: list[list[int]], n_tokens: int, tolerance: float
) -> None:
    """InputError where a loss of the second example of a row depends on the tokens of the first, by over `tolerance`.

    `losses(ids)`: losses (labels of the second,), in nat, of a row of two examples; `n_tokens`: size of the vocabulary.
    Only the tokens of the first are exchanged, so that all shapes stay, and in a dense model every bit.
    """
    before = losses(ids)
    after = losses([[(token + 1) % n_tokens for token in ids[0]], ids[1]])
    difference = float((before - after).abs().max())
    if difference > tolerance:  # losses that are not numbers are the loop's to judge
        raise InputError(
            f"training.packing: found true, but this model lets packed examples see each other (a neighbour moves a "
            f"loss by {difference:.2g} nat): set training.packing to false"
        )
