"""Learnable RoPE bases per KV head (GARFA), exact for every decoder that calls `apply_rotary_pos_emb`.

Formula    angle(m, i) = m (theta alpha_k)^(-2i/d)
           for position m, pair i = 0 .. d/2-1, rotary dimension d, and KV head k = 0 .. K-1 with the G query heads of
           its group. The parameter is log alpha, float32, one per KV head of a chosen layer, 0 at first; alpha > 1
           lowers frequencies. With scaled RoPE (llama3, YaRN, ...) alpha acts on the model's final frequencies:
           inv_freq_i alpha_k^(-2i/d).

At alpha = 1 every bit is the stock model's. How the angles reach a family's own code: colocate.rotation.

Source     Rao 2026, arXiv:2604.07766 (per-KV-head bases); Su et al. 2021, arXiv:2104.09864, section 3.4 (the rotation).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import nn

from colocate.errors import InputError
from colocate.rotation import Rotary, Rotation, computes_on, free_attentions, hook, rotating_attention, rotating_layers


class RopeScale(nn.Module):
    """The bases of one layer: log alpha (K,), and how it changes the layer's frequencies."""

    def __init__(self, n_kv_heads: int, device: torch.device | str | None = None):
        super().__init__()
        self.log_alpha = nn.Parameter(torch.zeros(n_kv_heads, dtype=torch.float32, device=device))

    def forward(self, inv_freq: torch.Tensor) -> torch.Tensor:
        """Frequencies (d/2,) of the layer to those of its KV heads (K, d/2)."""
        return scaled_frequencies(inv_freq, self.log_alpha)


def scaled_frequencies(inv_freq: torch.Tensor, log_alpha: torch.Tensor) -> torch.Tensor:
    """inv_freq_i alpha^(-2i/d): (d/2,) and log alpha (...) to (..., d/2). Log alpha 0 gives inv_freq, bit for bit."""
    n_pairs = inv_freq.shape[-1]
    exponent = torch.linspace(0, 1 / n_pairs - 1, n_pairs, dtype=inv_freq.dtype, device=inv_freq.device)  # -2i/d
    return inv_freq * torch.exp(log_alpha.to(inv_freq).unsqueeze(-1) * exponent)


def add_rope_scale(model: nn.Module, layers: list[int]) -> None:
    """Give the attention of each chosen layer a child module `rope_scale` (RopeScale, alpha = 1), which acts at once.

    InputError, before anything is changed, for a layer that is there twice, does not exist, has no RoPE or has a
    `rope_scale` already, and for a family that cannot be supported.
    """
    for one in free_attentions(model, layers, "rope_scale"):
        one.module.rope_scale = RopeScale(one.n_kv_heads, device=computes_on(one.module))
        hook(one.module, _Frequencies(one.rotary, _own_frequencies))


def rope_layers(model: nn.Module) -> list[int]:
    """The layers whose attention rotates queries and keys; some layers of SmolLM3, Cohere 2, ... do not.

    InputError, with the family's name and the reason, where GARFA cannot be exact.
    """
    return rotating_layers(model)


@contextmanager
def rope_scaled(model: nn.Module, layer: int, log_alpha: float | torch.Tensor) -> Iterator[None]:
    """Within the block, the RoPE bases of `layer` are multiplied by exp(log_alpha), on top of learned alphas.

    log_alpha: a number or (1,) for all KV heads, (K,) one for each, or a row for each row of the batch, (B, 1) or
    (B, K), so that several perturbations ride in one batch. A tensor that requires a gradient gets one.
    """
    one = rotating_attention(model, layer)
    log_alpha = torch.as_tensor(log_alpha, dtype=torch.float32)
    if log_alpha.dim() > 2 or (log_alpha.dim() and log_alpha.shape[-1] not in {one.n_kv_heads, 1}):
        allowed = f"a number, ({one.n_kv_heads},), (batch, 1) or (batch, {one.n_kv_heads})"
        raise InputError(f"log_alpha has shape {tuple(log_alpha.shape)}; allowed for layer {layer}: {allowed}")

    def change(attention: nn.Module, inv_freq: torch.Tensor) -> torch.Tensor:
        return _own_frequencies(attention, inv_freq) * scaled_frequencies(torch.ones_like(inv_freq), log_alpha)

    handle = hook(one.module, _Frequencies(one.rotary, change))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def rope_removed(model: nn.Module, layer: int, kv_head: int | None = None) -> Iterator[None]:
    """Within the block, layer `layer` rotates nothing: every angle is 0 (an attention factor such as YaRN's stays).

    With `kv_head`, only that head and the query heads of its group.
    """
    one = rotating_attention(model, layer)

    def change(attention: nn.Module, inv_freq: torch.Tensor) -> torch.Tensor:
        if kv_head is None:
            return torch.zeros_like(inv_freq)
        kept = torch.arange(one.n_kv_heads, device=inv_freq.device) != kv_head
        return _own_frequencies(attention, inv_freq) * kept.unsqueeze(-1)

    handle = hook(one.module, _Frequencies(one.rotary, change))
    try:
        yield
    finally:
        handle.remove()


@dataclass(frozen=True)
class _Frequencies:
    """Computes the (cos, sin) of a layer anew, from frequencies that are a function of the layer's own."""

    rotary: Rotary
    of: Callable[[nn.Module, torch.Tensor], torch.Tensor]

    def __call__(
        self, attention: nn.Module, rotation: Rotation, sin: torch.Tensor, position_ids: torch.Tensor
    ) -> tuple:
        inv_freq = self.of(attention, self.rotary.inv_freq.to(sin.device))
        own, sin = self.rotary.rotation(inv_freq, position_ids, sin.dtype)
        return replace(own, then=rotation.then), sin


def _own_frequencies(attention: nn.Module, inv_freq: torch.Tensor) -> torch.Tensor:
    """What the layer's own `rope_scale` makes of the frequencies; looked up at every call, since PEFT wraps it."""
    return attention.rope_scale(inv_freq) if hasattr(attention, "rope_scale") else inv_freq
