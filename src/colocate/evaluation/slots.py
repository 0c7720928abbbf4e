"""Keys and values of rows of tokens in a forward pass: a shared beginning once, each row's own tokens in slots.

    Prefix     keys and values of P tokens that all rows begin with, (1, K, P, d) a layer
    Slots      transformers' cache: slot s of row r holds token s of that row, (R, K, S, d) a layer

No row is padded on the left and none depends on its neighbours: a mask (B, 1, T, W) says which slots each of T new
tokens sees, positions are given with the tokens. So rows of any length join and leave at any time.

On CPUs the prefix stays apart: attention over it is one product for the queries of all rows, and

    softmax([q K_prefix, q K_own]) [V_prefix; V_own] = p_prefix V_prefix + p_own V_own

needs no copy of it a row. That is ours for families that attend with sdpa in all layers alike, in float32; elsewhere
(GPUs, sliding windows, sinks, capped logits) each row's slots begin with a copy of the prefix and the family's own
attention runs, with a mask for each kind of layer. Source of the two-part softmax: Juravsky et al. 2024,
arXiv:2402.05099 (Hydragen), section 3.1.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

NAME = "colocate_shared_prefix"  # in transformers' registry of attention functions
_current: ContextVar["Slots"] = ContextVar("the slots of this forward pass")


@dataclass(frozen=True)
class Prefix:
    """`ids`, and a layer's (keys, values), (1, K, P, d) each."""

    ids: tuple[int, ...]
    layers: tuple[tuple[Tensor, Tensor], ...]

    def __len__(self) -> int:
        return len(self.ids)


class Slots(Cache):
    """`rows` rows of `width` slots each, after `prefix`; width 0: nothing is kept after the pass.

    `apart`: the prefix is not copied into rows (see above). Slots of a row count from `base`, the copied prefix.
    """

    def __init__(self, n_layers: int, rows: int, width: int, prefix: Prefix | None, apart: bool):
        super().__init__(layers=[_Layer(self, number) for number in range(n_layers)])
        self.prefix, self.apart, self.n_rows = prefix, apart, rows
        self.base = 0 if apart or prefix is None else len(prefix)
        self.width = width + self.base if width else 0
        self.own: list[tuple[Tensor, Tensor] | None] = [None] * n_layers
        self.first, self.starts, self.seen = 0, None, 0

    @property
    def causal(self) -> bool:
        """Whether rows begin in this pass, each token seeing those before it: a kernel of its own, twice as fast."""
        return bool(self.width) and self.starts is None

    def at(self, first: int, starts: Tensor | None = None, seen: int = 0) -> None:
        """Before a pass: its rows are those from `first` on; their new tokens go to the first slots of each.

        With `starts` (B,): to the slots from these on, and the rows see `seen` slots.
        """
        self.first, self.starts, self.seen = first, starts, seen + self.base

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0  # positions are given, never counted from the cache

    def store(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, K, T, d) of new tokens into their slots; returns all that rows may see, (B, K, W, d)."""
        if self.apart:
            keys, values = keys.float(), values.float()
        if not self.width:
            if not self.base:
                return keys, values
            copies = (part.expand(len(keys), -1, -1, -1) for part in self.prefix.layers[layer])
            return tuple(torch.cat(pair, dim=2) for pair in zip(copies, (keys, values), strict=True))
        if self.own[layer] is None:
            self.own[layer] = self._allocate(layer, keys, values)
        batch, length = keys.shape[0], keys.shape[2]
        rows = [held[self.first : self.first + batch] for held in self.own[layer]]
        if self.starts is None:
            for held, new in zip(rows, (keys, values), strict=True):
                held[:, :, self.base : self.base + length] = new
            last = self.base + length
        else:
            columns = (self.starts.to(keys.device) + self.base)[:, None] + torch.arange(length, device=keys.device)
            lines = torch.arange(batch, device=keys.device)[:, None]
            for held, new in zip(rows, (keys, values), strict=True):
                held[lines, :, columns] = new.transpose(1, 2)
            last = self.seen
        return tuple(held[:, :, :last] for held in rows)

    def _allocate(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        held = tuple(new.new_zeros(self.n_rows, new.shape[1], self.width, new.shape[3]) for new in (keys, values))
        if self.base:
            for part, copied in zip(held, self.prefix.layers[layer], strict=True):
                part[:, :, : self.base] = copied
        return held

    @torch.inference_mode()
    def move(self, source: int, target: int, length: int) -> None:
        """Put the first `length` slots of one row into the place of another."""
        for pair in self.own:
            for held in pair:
                held[target, :, self.base : self.base + length] = held[source, :, self.base : self.base + length]

    def as_prefix(self, ids: tuple[int, ...]) -> Prefix:
        """What the first row holds, as a prefix; its slots must be as many as `ids`."""
        return Prefix(tuple(ids), tuple(tuple(held[:1] for held in pair) for pair in self.own))

    @contextmanager
    def in_use(self) -> Iterator[None]:
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)


class _Layer(CacheLayerMixin):
    """What transformers calls for one layer."""

    def __init__(self, slots: Slots, number: int):
        super().__init__()
        self.slots, self.number = slots, number

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        return self.slots.store(self.number, key_states, value_states)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing: slots are made by Slots."""

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return -1


def attend(module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, scaling=None, **_):
    """An attention function of transformers: q (B, H, T, d), own k and v (B, K, W, d) to (B, T, H, d), and no weights.

    attention_mask (B, 1, T, W): True where a query sees a key; the prefix of the slots in use is seen by every query.
    float32 inside.
    """
    slots, dtype = _current.get(), query.dtype
    query, key, value = query.float(), key.float(), value.float()
    n_rows, n_heads, length, width = query.shape
    n_kv = key.shape[1]
    scale = width**-0.5 if scaling is None else scaling
    if slots.prefix is None and slots.causal:
        key, value = (part.repeat_interleave(n_heads // n_kv, dim=1) for part in (key, value))
        found = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)
        return found.transpose(1, 2).to(dtype), None
    # The G query heads of a KV head as G T queries of it, (B, K, G T, d): keys and values need no copy a head.
    grouped = query.reshape(n_rows, n_kv, -1, width)
    seen = attention_mask.repeat(1, 1, n_heads // n_kv, 1)
    if slots.prefix is None:
        found = torch.nn.functional.scaled_dot_product_attention(grouped, key, value, attn_mask=seen, scale=scale)
    else:
        found = _two_parts(grouped * scale, key, value, seen, slots.prefix.layers[module.layer_idx])
    return found.reshape(n_rows, n_heads, length, width).transpose(1, 2).to(dtype), None


def _two_parts(query: Tensor, key: Tensor, value: Tensor, seen: Tensor, prefix: tuple[Tensor, Tensor]) -> Tensor:
    """Attention of scaled queries (B, K, N, d) to the prefix's (1, K, P, d) and to their own rows' (B, K, W, d) keys.

    KV heads come first within, so that one product serves the queries of all rows.
    """
    shared_key, shared_value = (part[0] for part in prefix)
    n_kv, shared = shared_key.shape[:2]
    query, key, value, seen = (part.transpose(0, 1) for part in (query, key, value, seen))
    scores = query.new_empty(*query.shape[:3], shared + key.shape[2])
    scores[..., :shared] = (query.reshape(n_kv, -1, query.shape[3]) @ shared_key.mT).view(*query.shape[:3], shared)
    scores[..., shared:] = (query @ key.mT).masked_fill_(~seen, torch.finfo(query.dtype).min)
    weights = scores.softmax(-1)
    found = weights[..., shared:] @ value
    found += (weights[..., :shared].reshape(n_kv, -1, shared) @ shared_value).view(found.shape)
    return found.transpose(0, 1)
