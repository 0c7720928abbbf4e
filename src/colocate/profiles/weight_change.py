"""Weight change of layer l: how far LoRA moved the layer's weights, relative to their size.

Formula   w_l = sqrt(sum_W ||scale B A||_F^2 / sum_W ||W||_F^2), over the linear modules W of layer l
          A (r, in), B (out, r); ||B A||_F^2 = tr((B^T B)(A A^T)): no (out, in) product, nothing merged
Source    Zhao et al. 2026, arXiv:2604.11838 (Frobenius norm of the change per layer, q, k, v, o; relative to W here).

Variants: `all` linear modules of the layer, `attention` (the published choice), and each module by its name. A module
without LoRA counts with a change of 0, so that arms which adapt different modules or layers compare. Exact, so
without interval. GARFA's alphas are not weights and do not count.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from peft.tuners.lora import LoraLayer
from peft.utils.integrations import dequantize_module_weight
from torch import nn

from colocate.files import Progress, silent
from colocate.models import attention, decoder_layers
from colocate.profiles import Profile, tables
from colocate.profiles.settings import choice, parse

PARTS = ("all", "attention")


@dataclass(frozen=True)
class Settings:
    """modules: whose change becomes the profile. Nothing here is random and nothing is run."""

    modules: str = "all"
    seed: int = 0
    batch_tokens: int = 4096

    def __post_init__(self):
        choice("modules", self.modules, PARTS)


def compute(model, tokenizer, settings: dict, data: dict, progress: Progress = silent) -> Profile:
    """Profile (n = number of modules counted) and variants of a PEFT model. `tokenizer` and `data` are not used."""
    chosen = parse(Settings, settings)
    layers = decoder_layers(model)
    squares: list[dict[str, np.ndarray]] = []  # one a layer: module or part -> [||change||^2, ||W||^2, modules]
    for number, layer in enumerate(layers):
        squares.append(_squares(layer))
        progress((number + 1) / len(layers), f"layer {number}")

    def relative(name: str) -> np.ndarray:
        """(L,); NaN in a layer that has no such module."""
        change, weight, _ = np.array([found.get(name, np.full(3, np.nan)) for found in squares]).T
        return np.sqrt(change / weight)

    names = dict.fromkeys(name for found in squares for name in found)
    undefined = np.full(len(layers), np.nan)
    n_modules = np.array([int(found[chosen.modules][2]) for found in squares])
    return Profile(
        profile=tables.profile(relative(chosen.modules), undefined, undefined, n_modules),
        variants=pd.concat(
            [tables.variant_rows(name, ["all"], relative(name)[np.newaxis]) for name in names], ignore_index=True
        ),
    )


def _squares(layer: nn.Module) -> dict[str, np.ndarray]:
    """[||change||^2, ||W||^2, 1] of each linear module of a layer by name, and their sums for PARTS."""
    found = {part: np.zeros(3) for part in PARTS}
    inside = {id(module) for module in attention(layer).modules()}
    for name, module in linear_modules(layer):
        entry = np.array([change_squared(module), weight_squared(module), 1])
        found[name.rpartition(".")[2]] = entry
        found["all"] += entry
        if id(module) in inside:
            found["attention"] += entry
    return found


def linear_modules(parent: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The linear modules under `parent`, in order; one with LoRA stands for itself, not for its parts."""
    for name, module in parent.named_children():
        if isinstance(module, LoraLayer | nn.Linear):
            yield prefix + name, module
        else:
            yield from linear_modules(module, f"{prefix}{name}.")


def change_squared(module: nn.Module) -> float:
    """||scale B A||_F^2 of one linear module, 0 without LoRA; float64."""
    if not isinstance(module, LoraLayer):
        return 0.0
    total = 0.0
    for name in module.active_adapters:
        if name in module.lora_A:
            a, b = module.lora_A[name].weight.detach().double(), module.lora_B[name].weight.detach().double()
            total += module.scaling[name] ** 2 * float(((b.T @ b) * (a @ a.T)).sum())
    return total


def weight_squared(module: nn.Module) -> float:
    """||W||_F^2 of one linear module's base weight, float64; 4-bit weights are unpacked first."""
    base = module.get_base_layer() if isinstance(module, LoraLayer) else module
    weight = base.weight if base.weight.is_floating_point() else dequantize_module_weight(base)
    return float(torch.linalg.vector_norm(weight.detach(), dtype=torch.float64)) ** 2
