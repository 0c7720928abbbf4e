"""What an adapter is (AdapterSpec), how many parameters it trains, and ranks that match another adapter's number.

LoRA of rank r on a linear map (out, in) trains r (in + out) parameters, DoRA a magnitude for each output besides, GARFA
and its control, logit temperatures, one per KV head of a layer:

    n = sum over LoRA layers l, targets t of r_l (in_t + out_t) [+ out_t]  +  K (GARFA layers + temperature layers)

LoRA's update B A x is multiplied by its scale: alpha / r (lora, dora) or alpha / sqrt(r) (rslora).

Light: no torch, no files. Layers count from 0. `linear_shapes` is {"<layer>": {"q_proj": [out, in], ...}}, as
geometry.read_geometry gives it.

Source: LoRA, Hu et al. 2021, arXiv:2106.09685; DoRA, Liu et al. 2024, arXiv:2402.09353; rsLoRA, Kalajdzievski 2023,
arXiv:2312.03732; a rank per layer is PEFT's `rank_pattern`.
"""

import math
import operator
from dataclasses import dataclass, replace

from colocate.errors import InputError

MODES = ("constant_scale", "as_published")
VARIANTS = ("lora", "dora", "rslora")


@dataclass(frozen=True)
class AdapterSpec:
    """LoRA, GARFA and/or logit temperatures on chosen layers. Layers are sorted; dictionaries may have text keys.

    rank and alpha are one number, or {layer: number} for exactly the LoRA layers; `targets` are last names of linear
    modules, such as q_proj; `variant` is one of VARIANTS. Without LoRA layers these four mean nothing.
    """

    lora_layers: tuple[int, ...] = ()
    garfa_layers: tuple[int, ...] = ()
    rank: int | dict[int, int] = 16
    alpha: float | dict[int, float] = 32
    targets: tuple[str, ...] = ()
    dropout: float = 0.0
    temperature_layers: tuple[int, ...] = ()
    variant: str = "lora"

    def __post_init__(self):
        for name in ("lora_layers", "garfa_layers", "temperature_layers"):
            object.__setattr__(self, name, _layers(name, getattr(self, name)))
        for name in ("rank", "alpha"):
            object.__setattr__(self, name, _numbers(name, getattr(self, name), self.lora_layers))
        object.__setattr__(self, "targets", tuple(self.targets))
        if not self.layers:
            raise InputError(
                "adapter: lora_layers, garfa_layers and temperature_layers are all empty; name at least one layer"
            )
        if self.variant not in VARIANTS:
            raise InputError(f"adapter: variant: found {self.variant!r}, allowed: {', '.join(VARIANTS)}")
        if self.lora_layers and not self.targets:
            raise InputError("adapter: targets is empty; name the linear modules that LoRA adapts, such as q_proj")
        if len(set(self.targets)) < len(self.targets):
            raise InputError(f"adapter: targets {list(self.targets)}: a name is there twice")
        if not 0 <= self.dropout < 1:
            raise InputError(f"adapter: dropout: found {self.dropout!r}, allowed: 0 <= dropout < 1")

    @property
    def layers(self) -> list[int]:
        """All adapted layers, ascending."""
        return sorted({*self.lora_layers, *self.garfa_layers, *self.temperature_layers})

    def rank_of(self, layer: int) -> int:
        return self.rank[layer] if isinstance(self.rank, dict) else self.rank

    def alpha_of(self, layer: int) -> float:
        return self.alpha[layer] if isinstance(self.alpha, dict) else self.alpha


def count_parameters(linear_shapes: dict, n_kv_heads: int, spec: AdapterSpec) -> int:
    """Trainable parameters of `spec`. InputError for a layer or a target that the model does not have."""
    lora = sum(spec.rank_of(layer) * _cost(linear_shapes, layer, spec.targets) for layer in spec.lora_layers)
    return lora + _rankless(linear_shapes, n_kv_heads, spec)


def match_budget(
    target: int,
    linear_shapes: dict,
    n_kv_heads: int,
    lora_layers: tuple[int, ...],
    garfa_layers: tuple[int, ...],
    targets: tuple[str, ...],
    rank: int,
    alpha: float,
    mode: str = "constant_scale",
    dropout: float = 0.0,
    temperature_layers: tuple[int, ...] = (),
    variant: str = "lora",
) -> AdapterSpec:
    """The spec on these layers whose trainable parameters come closest to `target`; ranks differ by at most one.

    Layers of the higher rank lie evenly through the chosen ones; of two specs equally close, the smaller. Mode
    `constant_scale` gives every layer the scale that `alpha` has at `rank`: alpha_l = alpha r_l / rank, for rslora
    alpha sqrt(r_l / rank). `as_published` keeps alpha itself, so that the scale falls as ranks rise. What deviation
    remains is count_parameters(...) - target. InputError if `target` lies below rank 1 everywhere.
    """
    if mode not in MODES:
        raise InputError(f"budget mode: found {mode!r}, allowed: {', '.join(MODES)}")
    if isinstance(rank, dict) or isinstance(alpha, dict):
        raise InputError("a matched budget chooses the ranks of the layers: rank and alpha must be one number each")
    spec = AdapterSpec(lora_layers, garfa_layers, rank, alpha, targets, dropout, temperature_layers, variant)
    if not spec.lora_layers:
        raise InputError("a budget is matched through LoRA ranks, but lora_layers is empty")
    costs = {layer: _cost(linear_shapes, layer, spec.targets) for layer in spec.lora_layers}
    rankless = _rankless(linear_shapes, n_kv_heads, spec)
    low, rest = divmod(target - rankless, sum(costs.values()))
    if low < 1:
        raise InputError(
            f"budget of {target} parameters: rank 1 on {len(costs)} layers already trains "
            f"{sum(costs.values()) + rankless}; choose fewer layers, fewer targets or a larger adapter to match"
        )
    higher = _closest_subset(costs, rest)
    ranks = {layer: low + (layer in higher) for layer in spec.lora_layers}
    alphas = dict.fromkeys(spec.lora_layers, alpha)
    if mode == "constant_scale":
        root = math.sqrt if variant == "rslora" else float
        alphas = {layer: alpha * root(ranks[layer]) / root(rank) for layer in spec.lora_layers}
    return replace(spec, rank=_plain(ranks), alpha=_plain(alphas))


def _closest_subset(costs: dict[int, int], goal: int) -> set[int]:
    """The layers whose summed costs come closest to `goal`; of layers with equal costs only the number is searched."""
    groups: dict[int, list[int]] = {}
    for layer, cost in costs.items():
        groups.setdefault(cost, []).append(layer)
    sums: dict[int, tuple[int, ...]] = {0: ()}
    for cost, members in groups.items():
        longer: dict[int, tuple[int, ...]] = {}
        for total, counts in sums.items():
            for count in range(len(members) + 1):
                longer.setdefault(total + count * cost, (*counts, count))
        sums = longer
    best = min(sums, key=lambda total: (abs(total - goal), total))
    return {
        members[(2 * j + 1) * len(members) // (2 * count)]  # the middles of `count` equal stretches
        for members, count in zip(groups.values(), sums[best], strict=True)
        for j in range(count)
    }


def _rankless(linear_shapes: dict, n_kv_heads: int, spec: AdapterSpec) -> int:
    """The parameters whose number no rank changes: alphas, temperatures, DoRA's magnitudes."""
    per_head = [*spec.garfa_layers, *spec.temperature_layers]
    for layer in per_head:
        _shapes_of(linear_shapes, layer)
    dora_layers = spec.lora_layers if spec.variant == "dora" else ()
    magnitudes = sum(_shapes_of(linear_shapes, layer)[name][0] for layer in dora_layers for name in spec.targets)
    return n_kv_heads * len(per_head) + magnitudes


def _cost(linear_shapes: dict, layer: int, targets: tuple[str, ...]) -> int:
    """Parameters of rank 1 on all targets of a layer."""
    shapes = _shapes_of(linear_shapes, layer)
    missing = [name for name in targets if name not in shapes]
    if missing:
        raise InputError(
            f"adapter: layer {layer} has no linear module {', '.join(missing)}; it has {', '.join(shapes)}"
        )
    return sum(sum(shapes[name]) for name in targets)


def _shapes_of(linear_shapes: dict, layer: int) -> dict:
    if str(layer) not in linear_shapes:
        raise InputError(f"adapter: layer {layer} does not exist: this model has layers 0 to {len(linear_shapes) - 1}")
    return linear_shapes[str(layer)]


def _plain(by_layer: dict) -> int | float | dict:
    """One number where all layers have the same."""
    values = set(by_layer.values())
    return values.pop() if len(values) == 1 else by_layer


def _layers(name: str, layers) -> tuple[int, ...]:
    layers = list(layers)
    if any(isinstance(layer, bool | str | float) or operator.index(layer) < 0 for layer in layers):
        raise InputError(f"adapter: {name}: found {layers}, allowed: layer numbers from 0")
    if len(set(layers)) < len(layers):
        raise InputError(f"adapter: {name} {layers}: a layer is there twice")
    return tuple(sorted(operator.index(layer) for layer in layers))


def _numbers(name: str, value, lora_layers: tuple[int, ...]):
    """rank (a whole number from 1) or alpha (a number above 0), one or by layer."""
    if isinstance(value, dict):
        by_layer = {int(layer): number for layer, number in value.items()}
        if sorted(by_layer) != list(lora_layers):
            raise InputError(f"adapter: {name} is for layers {sorted(by_layer)}, lora_layers are {list(lora_layers)}")
    numbers = list(by_layer.values()) if isinstance(value, dict) else [value]
    kinds, allowed = (int, "whole numbers from 1") if name == "rank" else (int | float, "numbers above 0")
    if any(isinstance(number, bool) or not isinstance(number, kinds) or number <= 0 for number in numbers):
        raise InputError(f"adapter: {name}: found {value!r}, allowed: {allowed}")
    return by_layer if isinstance(value, dict) else value
