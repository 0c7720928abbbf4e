"""How each family of models rotates queries and keys, and the way in for one rotation per KV head.

Mechanism  A decoder computes one (cos, sin), each (B, T, R), for all layers and hands it to every `self_attn` as
           `position_embeddings`. A forward pre-hook on a chosen `self_attn` puts a Rotation in its place: cos and sin
           per KV head, (B or 1, K, T, R), in the model's own layout and dtype (colocate.rope), or something to do to
           the rotated queries (colocate.temperature), or both. The family's own `apply_rotary_pos_emb(q, k, cos, sin)`,
           with q (B, H, T, d_head) and k (B, K, T, d_head), gets a stateless wrapper that lets it take these and passes
           plain cos and sin through untouched. q/k norms, partial rotation, KV cache, masks and attention kernels stay
           the family's.

Gradient   of frequencies f, at the output of the rotation: a pair o = (o_1, o_2) turned by the angle m f has
           do/d(m f) = (-o_2, o_1), so with g the loss's gradient with respect to o
               dL/df_ki = sum over rows of the batch, the heads of group k and positions m of m (g_2 o_1 - g_1 o_2).
           States turn back by (cos, -sin). cos and sin take no gradient, which would be as large as the queries.

What a family does is found out from its own code and rotary module when one of its layers is first asked for, never
assumed; whatever is not understood is refused by name.

Source     Su et al. 2021, arXiv:2104.09864, section 3.4 (the rotation).
"""

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from numbers import Integral

import torch
from torch import nn

from colocate.errors import InputError
from colocate.models import decoder_layers

ROTATE = "apply_rotary_pos_emb"

# How a rotary module spreads d/2 angles over the last dimension of cos and sin.
LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "halves": lambda values: torch.cat((values, values), dim=-1),
    "interleaved": lambda values: torch.repeat_interleave(values, 2, dim=-1),
    "half width": lambda values: values,
}

# Which dimensions a family's rotation takes for the pairs (o_1, o_2): GLM spreads by halves, yet turns neighbours.
PAIRS: dict[str, Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]] = {
    "halves": lambda states: states.chunk(2, dim=-1),
    "neighbours": lambda states: states.unflatten(-1, (-1, 2)).unbind(-1),
}


@dataclass(frozen=True)
class Rotary:
    """The model's rotary module as one layer uses it, read at every call: some kinds change frequencies with length."""

    module: nn.Module
    layer_type: str | None  # Gemma 3 and OLMo 3 keep one set of frequencies per layer type
    layout: str  # key of LAYOUTS
    pairs: str | None = None  # key of PAIRS

    def _read(self, name: str):
        return getattr(self.module, name if self.layer_type is None else f"{self.layer_type}_{name}")

    @property
    def inv_freq(self) -> torch.Tensor:
        """(d/2,), float32, after any scaling of the model's own."""
        return self._read("inv_freq").float()

    def cos_sin(self, inv_freq: torch.Tensor, position_ids: torch.Tensor, dtype: torch.dtype) -> tuple:
        """inv_freq (d/2,) gives cos and sin (B, T, R), as the model does; (K, d/2) and (B, K, d/2) (B, K, T, R)."""
        positions = position_ids.float().unsqueeze(-1)
        if inv_freq.dim() > 1:
            positions, inv_freq = positions.unsqueeze(1), inv_freq.unsqueeze(-2)
        angles, scaling, spread = positions * inv_freq, self._read("attention_scaling"), LAYOUTS[self.layout]
        cos, sin = angles.cos(), angles.sin()
        if scaling != 1:
            cos, sin = cos * scaling, sin * scaling
        return spread(cos.to(dtype)), spread(sin.to(dtype))

    def rotation(self, inv_freq: torch.Tensor, position_ids: torch.Tensor, dtype: torch.dtype) -> tuple:
        """(Rotation, sin) by frequencies per KV head, or (B, K, d/2), which learn where they require a gradient."""
        cos, sin = self.cos_sin(inv_freq.detach() if inv_freq.requires_grad else inv_freq, position_ids, dtype)
        return Rotation(cos, (inv_freq, position_ids, self.pairs) if inv_freq.requires_grad else None), sin


@dataclass(frozen=True)
class RotatingAttention:
    """The attention of a layer with RoPE, how it makes cos and sin, and its number of KV heads, K."""

    module: nn.Module
    rotary: Rotary
    n_kv_heads: int


def rotating_attention(model: nn.Module, layer: int) -> RotatingAttention:
    """InputError for a layer that does not exist or does not rotate, and for a family that cannot be supported."""
    with_rope, layers = rotating_layers(model), decoder_layers(model)
    if not isinstance(layer, Integral) or not 0 <= layer < len(layers):
        raise InputError(f"layer {layer!r} does not exist: this model has layers 0 to {len(layers) - 1}")
    if layer not in with_rope:
        raise InputError(f"layer {layer} has no rotary position encoding; layers with it: {with_rope}")
    attention = layers[layer].self_attn
    rotary, n_kv_heads = _rotary(model, layer), _n_kv_heads(model, attention)
    rotary = replace(rotary, pairs=_pairs(model, attention, rotary))
    _check_per_head(model, attention, rotary, n_kv_heads)
    return RotatingAttention(attention, rotary, n_kv_heads)


def free_attentions(model: nn.Module, layers: list[int], child: str) -> list[RotatingAttention]:
    """The attentions of `layers`, none of which has a child module of this name. InputError also for a layer twice."""
    layers = list(layers)
    if len(set(layers)) < len(layers):
        raise InputError(f"{child} on layers {layers}: a layer is named twice")
    chosen = [rotating_attention(model, layer) for layer in layers]
    for layer, one in zip(layers, chosen, strict=True):
        if hasattr(one.module, child):
            raise InputError(f"layer {layer} already has a {child}; start from the base model")
    return chosen


def computes_on(attention: nn.Module) -> torch.device:
    """The device on which an attention computes; weights that accelerate keeps elsewhere meanwhile do not count."""
    hooks = (getattr(module, "_hf_hook", None) for module in attention.modules())
    found = (getattr(hook, "execution_device", None) for hook in hooks)
    return torch.device(next((one for one in found if one is not None), next(attention.parameters()).device))


def rotating_layers(model: nn.Module) -> list[int]:
    """The layers whose attention rotates queries and keys. InputError for a family that cannot be supported."""
    _check_family(model)
    return [i for i, layer in enumerate(decoder_layers(model)) if _rotates(model, getattr(layer, "self_attn", None))]


# --- the way in -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rotation:
    """Stands where cos does: cos, the frequencies that learn, and what is done to the queries, (B, H, T, d_head)."""

    cos: torch.Tensor
    learning: tuple[torch.Tensor, torch.Tensor, str] | None = None  # frequencies, position_ids, key of PAIRS
    then: Callable[[torch.Tensor], torch.Tensor] = lambda q: q


class _Learning(torch.autograd.Function):
    """`rotate`, for q (B, H, T, d_head) and k (B, K, T, d_head), with the gradient of the module's docstring."""

    @staticmethod
    def forward(ctx, rotate, q, k, cos, sin, inv_freq, position_ids, pairs):
        q, k = rotate(q, k, cos, sin)
        ctx.save_for_backward(q, k, cos, sin, inv_freq, position_ids)
        ctx.rotate, ctx.pairs = rotate, PAIRS[pairs]
        return q, k

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *gradients):
        *states, cos, sin, inv_freq, position_ids = ctx.saved_tensors
        positions, rotated = position_ids.to(inv_freq.dtype)[:, None, None], slice(2 * inv_freq.shape[-1])
        by_head = []  # (B, H, 1, d/2), (B, K, 1, d/2)
        for o, g in zip(states, gradients, strict=True):
            (o_1, o_2), (g_1, g_2) = ctx.pairs(o[..., rotated]), ctx.pairs(g[..., rotated])
            by_head.append(positions @ (g_2 * o_1).addcmul_(g_1, o_2, value=-1).to(positions.dtype))
        queries, keys = by_head
        by_group = queries.unflatten(1, (keys.shape[1], -1)).sum((2, 3)) + keys.squeeze(2)  # (B, K, d/2)
        q, k = ctx.rotate(*gradients, cos, -sin)
        return None, q, k, None, None, by_group.sum_to_size(inv_freq.shape), None, None


def hook(attention: nn.Module, change: Callable):
    """Before each call of `attention`, its (cos, sin) become change(attention, rotation, sin, position_ids).

    rotation: the Rotation so far, whose fields `change` keeps where they are not its own; so two hooks go together.
    Returns the handle that takes the hook off. `change` must be a module-level function or a dataclass of such, since a
    deep copy of the model must copy what the hook refers to.
    """
    code = inspect.unwrap(type(attention).forward).__globals__
    if not hasattr(code[ROTATE], "family"):  # else another model of this family has wrapped it already
        code[ROTATE] = _per_head(code[ROTATE])
    return attention.register_forward_pre_hook(_PositionHook(change), with_kwargs=True)


@dataclass(frozen=True)
class _PositionHook:
    change: Callable

    def __call__(self, attention: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        stock, position_ids = kwargs.get("position_embeddings"), kwargs.get("position_ids")
        if stock is None or position_ids is None:
            raise InputError(f"{type(attention).__name__} was called without position_embeddings or position_ids")
        cos, sin = stock
        rotation = cos if isinstance(cos, Rotation) else Rotation(cos)  # of a hook before this one
        return args, kwargs | {"position_embeddings": self.change(attention, rotation, sin, position_ids)}


def _per_head(rotate: Callable) -> Callable:
    """Let a family's `apply_rotary_pos_emb` take a Rotation, and cos and sin per KV head, (B or 1, K or 1, T, R).

    It keeps no state. q becomes (B, G, K, T, d_head) and k (B, 1, K, T, d_head), both views: the family's
    cos.unsqueeze(1) then lines up.
    """

    @functools.wraps(rotate)
    def rotate_per_head(q, k, cos, sin, *args, **kwargs):
        if isinstance(cos, Rotation):
            own = functools.partial(rotate_per_head, *args, **kwargs)
            learning, rotated_by = cos.learning, (q, k, cos.cos, sin)
            q, k = _Learning.apply(own, *rotated_by, *learning) if learning else own(*rotated_by)
            return cos.then(q), k
        if cos.dim() != 4:
            return rotate(q, k, cos, sin, *args, **kwargs)
        if cos.shape[0] not in {1, q.shape[0]} or cos.shape[1] not in {1, k.shape[1]}:
            raise InputError(f"cos {tuple(cos.shape)} fits neither the batch nor the KV heads of k {tuple(k.shape)}")
        q, k = q.unflatten(1, (k.shape[1], -1)).transpose(1, 2), k.unsqueeze(1)
        q, k = rotate(q, k, cos, sin, *args, **kwargs)
        return q.transpose(1, 2).flatten(1, 2), k.squeeze(1)

    rotate_per_head.family = rotate
    return rotate_per_head


# --- what a family does -----------------------------------------------------------------------------------------------


def _refuse(family: str, reason: str) -> InputError:
    return InputError(f"RoPE per KV head cannot be exact on model type '{family}': {reason}")


def _check_family(model: nn.Module) -> None:
    family = model.config.model_type
    if not isinstance(getattr(model.get_decoder(), "rotary_emb", None), nn.Module):
        raise _refuse(family, "its decoder has no rotary module `rotary_emb`")
    try:
        layers = decoder_layers(model)
    except InputError as error:
        raise _refuse(family, str(error)) from error
    attentions = [layer.self_attn for layer in layers if hasattr(layer, "self_attn")]
    if not attentions:
        raise _refuse(family, "its layers have no `self_attn`")
    for attention in {type(attention): attention for attention in attentions}.values():
        name, forward = type(attention).__name__, inspect.unwrap(type(attention).forward)
        rotate = forward.__globals__.get(ROTATE)
        if hasattr(attention, "kv_lora_rank"):
            raise _refuse(family, f"{name} is latent attention, whose rotated key belongs to all heads at once")
        if "position_embeddings" not in inspect.signature(forward).parameters:
            raise _refuse(family, f"{name} does not take `position_embeddings`")
        if rotate is None or list(inspect.signature(rotate).parameters)[:4] != ["q", "k", "cos", "sin"]:
            raise _refuse(family, f"{name} has no {ROTATE}(q, k, cos, sin)")
        _conditions(family, forward)


@functools.lru_cache
def _conditions(family: str, forward: Callable) -> tuple[str, ...]:
    """The conditions on `self` under which a forward rotates queries and keys (none = always), from its source."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(forward)))
    calls = list(_calls(tree))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and "rotary" in node.id}
    if len(calls) != 1 or names != {ROTATE} or len(calls[0][0].args) != 4 or calls[0][0].keywords:
        raise _refuse(family, f"{forward.__qualname__} does not call {ROTATE}(q, k, cos, sin) exactly once")
    conditions = tuple(condition for condition in calls[0][1] if condition != "position_embeddings is not None")
    for condition in conditions:
        if {node.id for node in ast.walk(ast.parse(condition)) if isinstance(node, ast.Name)} != {"self"}:
            raise _refuse(family, f"{forward.__qualname__} rotates only if {condition}, which no layer decides alone")
    return conditions


def _calls(node: ast.AST, conditions: tuple[str, ...] = ()) -> Iterator[tuple[ast.Call, tuple[str, ...]]]:
    """Every call of `apply_rotary_pos_emb` below a node, with the conditions of the `if`s round it."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == ROTATE:
        yield node, conditions
    test = ast.unparse(node.test) if isinstance(node, ast.If | ast.IfExp) else None
    for name, value in ast.iter_fields(node):
        branch = {"body": test, "orelse": f"not ({test})"}.get(name) if test else None
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _calls(child, (*conditions, branch) if branch else conditions)


def _rotates(model: nn.Module, attention: nn.Module | None) -> bool:
    """Whether this layer rotates. Evaluated as the family wrote it: a table of families would go stale."""
    if attention is None:
        return False
    conditions = _conditions(model.config.model_type, inspect.unwrap(type(attention).forward))
    return all(eval(condition, {"self": attention}) for condition in conditions)


def _n_kv_heads(model: nn.Module, attention: nn.Module) -> int:
    config = model.get_decoder().config
    n_heads = config.num_attention_heads
    n_kv_heads = getattr(config, "num_key_value_heads", None) or n_heads
    if getattr(attention, "num_key_value_groups", n_heads // n_kv_heads) != n_heads // n_kv_heads:
        raise _refuse(
            model.config.model_type, f"{type(attention).__name__} has another number of KV heads than its config"
        )
    return n_kv_heads


def _rotary(model: nn.Module, layer: int) -> Rotary:
    """The rotary module and the layout of its cos and sin, found by comparing with all that are known."""
    decoder = model.get_decoder()
    module, layer_type = decoder.rotary_emb, None
    if "layer_type" in inspect.signature(module.forward).parameters:
        layer_type = decoder.config.layer_types[layer]
    named = [name if layer_type is None else f"{layer_type}_{name}" for name in ("inv_freq", "attention_scaling")]
    if not all(hasattr(module, name) for name in named):
        raise _refuse(model.config.model_type, f"{type(module).__name__} has no {' and '.join(named)}")
    device = getattr(module, named[0]).device
    probe, position_ids = torch.zeros(1, device=device), torch.tensor([[0, 1, 7]], device=device)
    cos, sin = module(probe, position_ids, *([] if layer_type is None else [layer_type]))
    for layout in LAYOUTS:
        rotary = Rotary(module, layer_type, layout)
        own_cos, own_sin = rotary.cos_sin(rotary.inv_freq, position_ids, cos.dtype)
        if torch.equal(own_cos, cos) and torch.equal(own_sin, sin):
            return rotary
    raise _refuse(
        model.config.model_type,
        f"the cos and sin of {type(module).__name__} are in none of the layouts {', '.join(LAYOUTS)}",
    )


def _family_rotation(attention: nn.Module) -> Callable:
    rotate = inspect.unwrap(type(attention).forward).__globals__[ROTATE]
    return getattr(rotate, "family", rotate)


def _pairs(model: nn.Module, attention: nn.Module, rotary: Rotary) -> str:
    """Which dimensions the family turns together, pair i by cos_i and sin_i; others must stay as they are."""
    rotate, n_pairs, device = _family_rotation(attention), len(rotary.inv_freq), rotary.inv_freq.device
    sin = torch.arange(1.0, n_pairs + 1, device=device)
    cos_sin = [LAYOUTS[rotary.layout](values.view(1, 1, -1)) for values in (torch.full_like(sin, 2), sin)]
    states = torch.arange(1.0, 2 * n_pairs + 3, device=device).view(1, 1, 1, -1)
    rotated, rest = states.split([2 * n_pairs, 2], dim=-1)
    turned, _ = rotate(rotated, rotated, *cos_sin)
    stays = True
    with suppress(RuntimeError):  # from a family that takes rotated dimensions alone
        stays = torch.equal(rotate(states, states, *cos_sin)[0], torch.cat((turned, rest), dim=-1))
    for name, split in PAIRS.items():
        x_1, x_2 = split(rotated)
        if stays and all(map(torch.equal, split(turned), (2 * x_1 - sin * x_2, 2 * x_2 + sin * x_1))):
            return name
    raise _refuse(model.config.model_type, f"its {ROTATE} turns no pairs of the kinds {', '.join(PAIRS)}")


def _check_per_head(model: nn.Module, attention: nn.Module, rotary: Rotary, n_kv_heads: int) -> None:
    """Compare the wrapped `apply_rotary_pos_emb` with the family's own, which rotates all heads by one's angles."""
    rotate = _family_rotation(attention)
    n_pairs, device = len(rotary.inv_freq), rotary.inv_freq.device
    positions = torch.tensor([[1, 7]], device=device)
    values = torch.linspace(-1, 1, 3 * n_kv_heads * 2 * 2 * n_pairs, device=device).view(1, -1, 2, 2 * n_pairs)
    q, k = values[:, n_kv_heads:], values[:, :n_kv_heads]  # G = 2
    inv_freq = rotary.inv_freq * torch.linspace(0.9, 1.1, n_kv_heads, device=device).unsqueeze(-1)
    q_found, k_found = _per_head(rotate)(q, k, *rotary.cos_sin(inv_freq, positions, torch.float32))
    for head, own in enumerate(inv_freq):
        q_head, k_head = rotate(q, k, *rotary.cos_sin(own, positions, torch.float32))
        queries, keys = slice(2 * head, 2 * head + 2), slice(head, head + 1)
        if not (q_found[:, queries].equal(q_head[:, queries]) and k_found[:, keys].equal(k_head[:, keys])):
            raise _refuse(model.config.model_type, f"its {ROTATE} cannot rotate each KV head by its own angles")
