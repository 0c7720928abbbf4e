"""Forward passes over rows of tokens with shared beginnings: which masks a model's layers take, where logits are made.

A pass runs new tokens (B, T) of rows whose earlier tokens are in Slots. Each says which of the row's own slots it sees;
of the shared prefix it sees all. For layers with a sliding window of w tokens, key position > query position - w is
asked beside it. The output head runs only where logits are wanted, in float32 whatever the model's dtype is: bfloat16
logits lie on a grid of 1/8 between 16 and 32, enough to tie two answers.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from colocate.evaluation.slots import NAME, Prefix, Slots, attend

KINDS = {"full_attention", "sliding_attention"}  # of layers whose masks are known here


class Passes:
    """Runs `model`, plain or with an adapter. `apart`: rows hold no copy of a prefix (colocate.evaluation.slots)."""

    def __init__(self, model):
        self.model = model
        self.base = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.config = self.base.get_decoder().config
        self.device = self.base.device
        self.kinds = layer_kinds(self.config)
        self.window = getattr(self.config, "sliding_window", None)
        stock = self.base.config._attn_implementation
        self.apart = stock == "sdpa" and self.kinds == {"full_attention"} and self.device.type == "cpu"
        self.additive = stock == "eager"  # its masks are added to scores, others are True where a token is seen
        self._wanted: tuple[Tensor, Tensor] | None = None
        compute_head_in_float32(self.base)
        self.base.get_output_embeddings().register_forward_pre_hook(self._pick)

    def slots(self, rows: int, width: int, prefix: Prefix | None) -> Slots:
        return Slots(self.config.num_hidden_layers, rows, width, prefix, self.apart)

    def copied(self, shared: int) -> int:
        """Tokens of a prefix of `shared` tokens that each row holds a copy of."""
        return 0 if self.apart else shared

    @torch.inference_mode()
    def run(self, ids: Tensor, offsets: Tensor, sees: Tensor, slots: Slots, wanted: tuple[Tensor, Tensor]) -> Tensor:
        """Logits (N, V), float32, at `wanted` (rows (N,), columns (N,)) of the new tokens.

        `ids` (B, T). `offsets` (B, T): places of these tokens in their rows, 0 = right after the prefix. `sees`
        (B, T, W): which of its row's own slots each sees; in slot s is the token with offset s, or, where slots keep
        nothing, the s-th new token.
        """
        shared = len(slots.prefix) if slots.prefix else 0
        positions = offsets + shared
        keys = positions
        if slots.width:
            keys = shared + torch.arange(sees.shape[2], device=ids.device).expand(len(ids), -1)
        if slots.base:
            sees = torch.cat([sees.new_ones(*sees.shape[:2], shared), sees], dim=2)
            keys = torch.cat([torch.arange(shared, device=ids.device).expand(len(ids), -1), keys], dim=1)
        self._wanted = wanted
        try:
            with slots.in_use(), self._attention():
                return self.model(
                    input_ids=ids,
                    attention_mask=self._masks(sees, positions, keys),
                    position_ids=positions,
                    past_key_values=slots,
                    use_cache=True,
                ).logits[0]
        finally:
            self._wanted = None

    def prefix(self, ids: tuple[int, ...]) -> Prefix:
        """The keys and values of a beginning."""
        slots = self.slots(1, len(ids), None)
        row = torch.tensor([ids], device=self.device)
        last = torch.tensor([0], device=self.device)
        self.run(row, causal_offsets(row), causal(row), slots, (last, last + len(ids) - 1))
        return slots.as_prefix(ids)

    def _masks(self, sees: Tensor, positions: Tensor, keys: Tensor):
        masks = {"full_attention": sees[:, None]}
        if "sliding_attention" in self.kinds:
            near = positions[:, :, None] - keys[:, None, :] < self.window
            masks["sliding_attention"] = (sees & near)[:, None]
        if self.additive:
            least = torch.finfo(self.base.dtype).min
            masks = {
                kind: torch.zeros_like(mask, dtype=self.base.dtype).masked_fill_(~mask, least)
                for kind, mask in masks.items()
            }
        if getattr(self.config, "layer_types", None) and "sliding_attention" in self.kinds:
            return masks  # families that mix kinds take a mask for each
        return masks["sliding_attention" if "sliding_attention" in self.kinds else "full_attention"]

    @contextmanager
    def _attention(self) -> Iterator[None]:
        if not self.apart:
            yield
            return
        from transformers import AttentionInterface

        AttentionInterface.register(NAME, attend)
        stock = self.base.config._attn_implementation
        self.base.set_attn_implementation(NAME)
        try:
            yield
        finally:
            self.base.set_attn_implementation(stock)

    def _pick(self, head, inputs):
        hidden = inputs[0]
        if self._wanted is not None:
            rows, columns = (places.to(hidden.device) for places in self._wanted)
            hidden = hidden[rows, columns][None]
        return (hidden.to(head.weight),)  # its dtype, and where layers lie on several cards, its device


def layer_kinds(config) -> set[str]:
    """Attention kinds of the layers; a config that lists none but names a window is taken to slide everywhere."""
    listed = getattr(config, "layer_types", None)
    if listed:
        return set(listed)
    return {"sliding_attention" if getattr(config, "sliding_window", None) else "full_attention"}


def causal_offsets(ids: Tensor) -> Tensor:
    """Places 0, 1, ... of new tokens (B, T)."""
    return torch.arange(ids.shape[1], device=ids.device).expand(len(ids), -1)


def causal(ids: Tensor) -> Tensor:
    """(B, T, T): each of these tokens (B, T) sees itself and those before it."""
    length = ids.shape[1]
    return torch.ones(length, length, dtype=torch.bool, device=ids.device).tril().expand(len(ids), -1, -1)


def compute_head_in_float32(base) -> None:
    """Give the model a float32 copy of its output head, untied from the embedding, if it is not float32.

    A scale or soft cap that an architecture applies to its logits comes after the head, so it computes in float32 too.
    """
    head = base.get_output_embeddings()
    if head.weight.dtype == torch.float32:
        return
    exact = torch.nn.Linear(head.in_features, head.out_features, bias=head.bias is not None, device="meta")
    exact.weight = torch.nn.Parameter(head.weight.detach().float(), requires_grad=False)
    if head.bias is not None:
        exact.bias = torch.nn.Parameter(head.bias.detach().float(), requires_grad=False)
    base.set_output_embeddings(exact)
