"""RoPE influence of layer l: how much the model, or the layer, changes when the layer's rotary base changes.

The layer's K KV heads all get the base theta alpha with alpha = exp(+e) and exp(-e), e = log_alpha; p is the model's
next-token distribution, over positions m >= 16 of windows of a fixed number of tokens (item = window). Methods:

output    mean over positions of KL(p || p_alpha), mean of the two signs
removal   mean over positions of KL(p || p_0), where layer l rotates nothing (every angle 0)
fisher    mean over positions of E_{y ~ p} (d log p(y) / d log alpha)^2 at alpha = 1: the limit of 2 KL / e^2. With t_y
          the derivative of logit y it is the variance of t under p, since E_{y ~ p} d log p = 0
local     ||o_alpha - o||_F / ||o||_F, o the output of the layer's attention for the same input, mean of the two signs

Precision: output, removal and fisher run in float32 whatever the model's dtype (a bfloat16 KL is rounding noise),
softmax and sums in float64. `local` keeps the model's dtype. `precision: bfloat16` rounds weights and activations all
the same, to show what that does: its variants end in " (bf16 warning)" and no layer set may be made from it.
Noise floor (variant `noise_floor`, on the first window): the output computation with alpha = 1, where every element of
layer l's input is moved to its neighbouring float, up or down at random. All operations from layer l on then round
afresh, as they do when alpha changes; what KL remains is rounding alone. For fisher the floor is 2 KL / e^2 likewise.
Cost: layer l leaves the layers below alone, so one base pass keeps every layer's input and only the layers from l on
rerun, both signs in one batch.
Source: this project. Rao 2026 (arXiv:2604.07766) names the quantity and prints no definition.

Variants: the method's name; output_plus and output_minus or local_plus and local_minus, the single signs; noise_floor.
Per KV head (kv_head >= 0): `local` always, the same ratio for what the head's group feeds into the output projection;
the others with `per_head`, the same quantity with that head's base alone changed, at K times the price.
Layers without RoPE have NaN, and n = 0 in the profile.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from colocate.errors import InputError
from colocate.files import Progress, silent
from colocate.models import attention, decoder_layers
from colocate.onednn import float32_layers
from colocate.profiles import Profile, tables
from colocate.profiles.capture import (
    check_plain,
    context_length,
    first,
    hidden_input,
    in_bfloat16,
    in_float32,
    recorded,
    resumed,
)
from colocate.profiles.noise_floor import BF16_WARNING
from colocate.profiles.settings import at_least, choice, parse
from colocate.profiles.windows import windows
from colocate.rope import rope_layers, rope_removed, rope_scaled

PRECISIONS = ("float32", "bfloat16")
LIMITS = {"output": 7, "removal": 12, "fisher": 4, "local": 24}  # windows: about two CPU minutes on a 135M model
FIRST_POSITION = 16  # earlier positions have hardly any context whose order could matter
FLOOR_WINDOWS = 1


@dataclass(frozen=True)
class Settings:
    """text_tokens: length of a window. max_texts: most windows, 0 = LIMITS[method]. seed: of floor and bootstrap.

    batch_tokens bounds the memory: at most that many positions of logits, both signs together, or one window's.
    """

    method: str = "output"
    log_alpha: float = 0.693
    text_tokens: int = 128
    max_texts: int = 0
    precision: str = "float32"
    per_head: bool = False
    seed: int = 0
    batch_tokens: int = 4096

    def __post_init__(self):
        choice("method", self.method, LIMITS)
        choice("precision", self.precision, PRECISIONS)
        at_least("text_tokens", self.text_tokens, FIRST_POSITION + 1)
        at_least("max_texts", self.max_texts, 0)
        if not 0 < self.log_alpha < 10:
            raise InputError(f"log_alpha: found {self.log_alpha!r}, expected a number between 0 and 10")


def compute(model, tokenizer, settings: dict, data: dict, progress: Progress = silent) -> Profile:
    """Profile, items and variants over windows of data["texts"]."""
    chosen = parse(Settings, settings)
    if getattr(model, "is_quantized", False) and (model.dtype != torch.float32 or chosen.method == "fisher"):
        allowed = "float32" if chosen.method == "fisher" else "nf4_float32"
        raise InputError(
            f"method: {chosen.method} on a 4-bit model in {model.dtype}; load it in {allowed}: a KL needs it"
        )
    if chosen.text_tokens > context_length(model):
        raise InputError(f"text_tokens: found {chosen.text_tokens}, but this model takes {context_length(model)}")
    limit = chosen.max_texts or LIMITS[chosen.method]
    found = windows(tokenizer, data["texts"], chosen.text_tokens, limit)
    signs = 1 if chosen.method in ("removal", "fisher") else 2
    size = max(1, chosen.batch_tokens // (signs * chosen.text_tokens))
    batches = [found[start : start + size] for start in range(0, len(found), size)]

    measured: list[dict[tuple[str, int], np.ndarray]] = []  # one a batch: (variant, kv_head) -> (windows, L)
    with torch.no_grad(), _precision(model, chosen):
        for number, batch in enumerate(batches):
            ids = torch.tensor([window.ids for window in batch], device=next(model.parameters()).device)

            def report(share: float, number=number) -> None:
                progress((number + share) / len(batches), f"batch {number + 1} of {len(batches)}")

            if chosen.method == "local":
                measured.append(_local(model, ids, chosen, report))
            else:
                n_floor = min(len(batch), max(0, FLOOR_WINDOWS - number * size))
                measured.append(on_output(model, ids, n_floor, chosen, report))

    items = [window.item for window in found]
    values = {key: np.concatenate([batch[key] for batch in measured if key in batch]) for key in measured[0]}
    whole = values[chosen.method, tables.ALL_HEADS]
    mark = BF16_WARNING * (chosen.precision == "bfloat16")
    rows = [tables.variant_rows(name + mark, items[: len(array)], array, k) for (name, k), array in values.items()]
    return Profile(
        profile=tables.mean_profile(whole, chosen.seed),
        items=tables.item_rows(items, whole),
        variants=pd.concat(rows, ignore_index=True),
    )


@contextmanager
def _precision(model, chosen: Settings) -> Iterator[None]:
    """The model computes as `chosen.precision` says."""
    with ExitStack() as stack:
        if chosen.precision == "bfloat16":
            stack.enter_context(in_bfloat16(model))
        elif chosen.method != "local":
            stack.enter_context(in_float32(model))
        if chosen.method != "fisher":  # it differentiates
            stack.enter_context(float32_layers(model))
        yield


def on_output(model, ids: Tensor, n_floor: int, chosen: Settings, report: Callable = silent) -> dict:
    """output, removal or fisher of one batch of windows (B, T), and the noise floor of its first n_floor.

    (variant, kv_head) -> (B or n_floor, L).
    """
    n_windows, n_positions = ids.shape[0], ids.shape[1] - FIRST_POSITION
    layers, n_kv_heads = decoder_layers(model), _n_kv_heads(model)
    with recorded(layers) as calls:
        base = Reference(_logits(model, ids, n_positions))
    check_plain(layers, calls)
    inputs = [hidden_input(call) for call in calls]
    del calls
    generator = torch.Generator().manual_seed(chosen.seed)

    def rerun(layer: int, change, hidden: Tensor) -> Tensor:
        with change, resumed(model, layer, hidden):
            return _logits(model, ids[:1].expand(len(hidden), -1), n_positions)

    def measure(layer: int, head: int) -> dict[str, Tensor]:
        hidden = inputs[layer]
        every = head == tables.ALL_HEADS
        heads = torch.ones(1) if every else functional.one_hot(torch.tensor(head), n_kv_heads).float()
        if chosen.method == "removal":
            return {"removal": base.kl(rerun(layer, rope_removed(model, layer, None if every else head), hidden))}
        if chosen.method == "fisher":
            with forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):
                log_alpha = forward_ad.make_dual(torch.zeros_like(heads), heads)
                dual = rerun(layer, rope_scaled(model, layer, log_alpha), hidden)
                return {"fisher": base.variance(forward_ad.unpack_dual(dual).tangent)}
        signs = torch.tensor([chosen.log_alpha, -chosen.log_alpha]).repeat_interleave(n_windows).unsqueeze(1)
        logits = rerun(layer, rope_scaled(model, layer, signs * heads), hidden.repeat(2, 1, 1))
        plus, minus = (base.kl(part) for part in logits.chunk(2))
        return {"output": (plus + minus) / 2, "output_plus": plus, "output_minus": minus}

    def floor(layer: int) -> Tensor:
        hidden = inputs[layer][:n_floor]
        up = torch.rand(hidden.shape, generator=generator).to(hidden.device) < 0.5
        nudged = torch.nextafter(hidden, torch.where(up, torch.inf, -torch.inf).to(hidden))
        kl = base.kl(rerun(layer, rope_scaled(model, layer, 0.0), nudged))
        return 2 * kl / chosen.log_alpha**2 if chosen.method == "fisher" else kl

    values: dict[tuple[str, int], np.ndarray] = {}
    for layer in rope_layers(model):
        for head in (tables.ALL_HEADS, *(range(n_kv_heads) if chosen.per_head else ())):
            found = measure(layer, head)
            if n_floor and head == tables.ALL_HEADS:
                found["noise_floor"] = floor(layer)
            for name, value in found.items():
                table = values.setdefault((name, head), np.full((len(value), len(layers)), np.nan))
                table[:, layer] = value.cpu().numpy()
        report((layer + 1) / len(layers))
    return values


class Reference:
    """The model's distributions p as they are, to compare others with. logits (B, M, V); float64 inside, row by row."""

    ROWS = 4  # that many float64 rows of a 50 000-word vocabulary fit a core's cache

    def __init__(self, logits: Tensor):
        self.p = torch.empty(logits.shape, dtype=torch.float64, device=logits.device)
        self.negentropy = torch.empty(logits.shape[:2], dtype=torch.float64, device=logits.device)
        for b, rows in self._blocks(len(logits)):
            log_p = logits[b, rows].double().log_softmax(dim=-1)
            self.p[b, rows] = log_p.exp()
            self.negentropy[b, rows] = (self.p[b, rows] * log_p).sum(dim=-1)

    def kl(self, logits: Tensor) -> Tensor:
        """Mean over positions of KL(p || softmax(logits)) of the first B' windows: (B', M, V) to (B',)."""
        found = torch.empty(logits.shape[:2], dtype=torch.float64, device=logits.device)
        for b, rows in self._blocks(len(logits)):
            z, p = logits[b, rows].double(), self.p[b, rows]
            found[b, rows] = self.negentropy[b, rows] - (p * z).sum(dim=-1) + z.logsumexp(dim=-1)
        return found.mean(dim=1)

    def variance(self, tangent: Tensor) -> Tensor:
        """Mean over positions of Var_{y ~ p}(t_y): (B', M, V) to (B',)."""
        found = torch.empty(tangent.shape[:2], dtype=torch.float64, device=tangent.device)
        for b, rows in self._blocks(len(tangent)):
            t, p = tangent[b, rows].double(), self.p[b, rows]
            found[b, rows] = (p * (t - (p * t).sum(dim=-1, keepdim=True)) ** 2).sum(dim=-1)
        return found.mean(dim=1)

    def _blocks(self, n_windows: int):
        step = self.ROWS if self.p.device.type == "cpu" else self.p.shape[1]
        for b in range(n_windows):
            for start in range(0, self.p.shape[1], step):
                yield b, slice(start, start + step)


def _local(model, ids: Tensor, chosen: Settings, report: Callable) -> dict:
    """local of one batch of windows (B, T), per layer and per KV head."""
    layers = decoder_layers(model)
    modules, n_kv_heads = [attention(layer) for layer in layers], _n_kv_heads(model)
    with recorded(modules) as calls:
        model.get_decoder()(input_ids=ids, use_cache=False)
    values: dict[tuple[str, int], np.ndarray] = {}
    for layer in rope_layers(model):
        module, (args, kwargs, _) = modules[layer], calls[layer]
        base = _attend(module, args, kwargs, n_kv_heads)
        both = []
        for log_alpha in (chosen.log_alpha, -chosen.log_alpha):
            with rope_scaled(model, layer, log_alpha):
                changed = _attend(module, args, kwargs, n_kv_heads)
            both.append({head: _relative_change(changed[head], base[head]) for head in base})
        found = {("local", head): (both[0][head] + both[1][head]) / 2 for head in base}
        found |= {
            (f"local_{sign}", tables.ALL_HEADS): both[i][tables.ALL_HEADS] for i, sign in enumerate(("plus", "minus"))
        }
        for key, value in found.items():
            table = values.setdefault(key, np.full((len(value), len(layers)), np.nan))
            table[:, layer] = value.cpu().numpy()
        report((layer + 1) / len(layers))
    return values


def _n_kv_heads(model) -> int:
    config = model.config.get_text_config()
    return getattr(config, "num_key_value_heads", None) or config.num_attention_heads


def _attend(module, args: tuple, kwargs: dict, n_kv_heads: int) -> dict[int, Tensor]:
    """The attention's output (B, T, D) under ALL_HEADS, and per KV head what its group gives the output projection."""
    if not hasattr(module, "o_proj"):
        return {tables.ALL_HEADS: first(module(*args, **kwargs))}
    with recorded([module.o_proj]) as calls:
        outputs = {tables.ALL_HEADS: first(module(*args, **kwargs))}
    (joined,), _, _ = calls[0]
    return outputs | dict(enumerate(joined.chunk(n_kv_heads, dim=-1)))


def _relative_change(changed: Tensor, base: Tensor) -> Tensor:
    """||changed - base||_F / ||base||_F over positions m >= 16, (B, T, D) twice to (B,)."""
    changed, base = changed[:, FIRST_POSITION:].float(), base[:, FIRST_POSITION:].float()
    return (changed - base).flatten(1).norm(dim=1) / base.flatten(1).norm(dim=1)


def _logits(model, ids: Tensor, n_positions: int) -> Tensor:
    """Logits of the last n_positions, (B, n_positions, V)."""
    return model(input_ids=ids, use_cache=False, logits_to_keep=n_positions).logits[:, -n_positions:]
