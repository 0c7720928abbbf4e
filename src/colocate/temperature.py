"""Learnable temperatures of attention logits per KV head: a control for GARFA with exactly as many parameters.

Formula    logit(h, m, n) = exp(log_temperature_k) s q_m . k_n
           for the G query heads h of KV head k, positions m and n, and the family's own scale s: before a soft cap
           (Gemma 2), a mask or a sink (gpt-oss). The parameter is float32, one per KV head of a chosen layer, 0 at
           first, where every bit is the stock model's. Above 0 attention is sharper.

GARFA changes how sharply a KV head looks at near and far positions; a temperature how sharply it looks at all. An arm
whose gain a temperature matches owes nothing to position. It is allowed where GARFA is: in layers with RoPE.

Mechanism  The rotated queries are multiplied in float32 and rounded to their own dtype, on the way in that
           colocate.rotation has.
"""

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from colocate.errors import InputError
from colocate.rotation import ROTATE, Rotation, computes_on, free_attentions, hook


class LogitScale(nn.Module):
    """The temperatures of one layer: log temperature (K,), and how it changes the layer's queries."""

    def __init__(self, n_kv_heads: int, device: torch.device | str | None = None):
        super().__init__()
        self.log_temperature = nn.Parameter(torch.zeros(n_kv_heads, dtype=torch.float32, device=device))

    def forward(self, q: torch.Tensor) -> torch.Tensor:
        """Queries (B, H, T, d_head) of all heads, those of group k times exp(log_temperature_k)."""
        scale = self.log_temperature.exp().repeat_interleave(q.shape[1] // len(self.log_temperature))
        return (q * scale.view(-1, 1, 1)).to(q.dtype)


def add_logit_scale(model: nn.Module, layers: list[int]) -> None:
    """Give the attention of each chosen layer a child module `logit_scale` (LogitScale, 0), which acts at once.

    InputError, before anything is changed, as for GARFA (colocate.rope.add_rope_scale), and for a family whose rotated
    queries are not the ones that enter the attention.
    """
    for one in attentions_for_temperature(model, layers):
        one.module.logit_scale = LogitScale(one.n_kv_heads, device=computes_on(one.module))
        hook(one.module, _then_scale)


def attentions_for_temperature(model: nn.Module, layers: list[int]) -> list:
    """The attentions that add_logit_scale changes, all its conditions checked."""
    chosen = free_attentions(model, layers, "logit_scale")
    for one in chosen:
        if not _queries_enter_attention(inspect.unwrap(type(one.module).forward)):
            raise InputError(
                f"logit temperatures cannot be exact on model type '{model.config.model_type}': "
                f"{type(one.module).__name__} changes its queries between the rotation and the attention"
            )
    return chosen


def _then_scale(attention: nn.Module, rotation: Rotation, sin: torch.Tensor, position_ids: torch.Tensor) -> tuple:
    return replace(rotation, then=attention.logit_scale), sin


@functools.lru_cache
def _queries_enter_attention(forward: Callable) -> bool:
    """Whether a forward hands the queries that `apply_rotary_pos_emb` returns to the attention as they are.

    Phi and StableLM, for one, put unrotated dimensions beside them first. Read from the source.
    """
    nodes = list(ast.walk(ast.parse(textwrap.dedent(inspect.getsource(forward)))))
    rotations = [node for node in nodes if isinstance(node, ast.Assign) and ROTATE in ast.unparse(node.value)]
    if len(rotations) != 1 or not isinstance(rotations[0].targets[0], ast.Tuple):
        return False
    end, queries = rotations[0].end_lineno, ast.unparse(rotations[0].targets[0].elts[0])
    changed = [node for node in nodes if isinstance(getattr(node, "ctx", None), ast.Store) and node.lineno > end]
    calls = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == "attention_interface"]
    enters = [[ast.unparse(argument) for argument in call.args[:2]] == ["self", queries] for call in calls]
    return enters == [True] and queries not in map(ast.unparse, changed)
