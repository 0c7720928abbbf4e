"""Weight change of layer l: how far tuning moved the layer's weights.

Formula   absolute   w_l = sqrt(sum_W ||W' - W||_F^2), over the linear modules W of layer l
          relative   w_l over sqrt(sum_W ||W||_F^2)
          W' - W: the adapter's effective change, or the difference of two models' weights (colocate.profiles.compared)
Source    Zhao et al. 2026, arXiv:2604.11838: Frobenius norm of the change per layer, over q, k, v, o.

Variants size/modules: `all` linear modules of the layer, `attention` (q, k, v, o, the published choice), and each
module by its name. A module that an adapter leaves alone counts with a change of 0, so that arms which adapt different
modules or layers compare. Exact, so without interval. GARFA's alphas are not weights and do not count.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from colocate.files import Progress, silent
from colocate.profiles import Profile, tables
from colocate.profiles.compared import Compared, LinearChange
from colocate.profiles.settings import choice, parse

PARTS = ("all", "attention")
SIZES = ("relative", "absolute")


@dataclass(frozen=True)
class Settings:
    """modules: whose change becomes the profile; size: over the weights' own norm, or as it is. Nothing is random."""

    modules: str = "all"
    size: str = "relative"
    seed: int = 0
    batch_tokens: int = 4096

    def __post_init__(self):
        choice("modules", self.modules, PARTS)
        choice("size", self.size, SIZES)


def compute(compared: Compared, tokenizer, settings: dict, data: dict, progress: Progress = silent) -> Profile:
    """Profile (n = number of modules counted) and variants. `tokenizer` and `data` are not used."""
    chosen = parse(Settings, settings)
    layers: list[dict[str, np.ndarray]] = []  # one a layer: module or part -> [||W' - W||^2, ||W||^2, modules]
    for number in range(compared.n_layers):
        layers.append(_squares(compared, number))
        progress((number + 1) / compared.n_layers, f"layer {number}")

    values = {}
    for name in dict.fromkeys(name for found in layers for name in found):
        # NaN in a layer that has no such module
        change, weight, _ = np.array([found.get(name, np.full(3, np.nan)) for found in layers]).T
        values |= {f"relative/{name}": np.sqrt(change / weight), f"absolute/{name}": np.sqrt(change)}
    undefined = np.full(compared.n_layers, np.nan)
    n_modules = np.array([int(found[chosen.modules][2]) for found in layers])
    return Profile(
        profile=tables.profile(values[f"{chosen.size}/{chosen.modules}"], undefined, undefined, n_modules),
        variants=pd.concat(
            [tables.variant_rows(name, ["all"], value[np.newaxis]) for name, value in values.items()], ignore_index=True
        ),
    )


def _squares(compared: Compared, layer: int) -> dict[str, np.ndarray]:
    """[||W' - W||^2, ||W||^2, 1] of the linear modules of a layer by their last name, and their sums for PARTS."""
    found = {part: np.zeros(3) for part in PARTS}
    for linear in compared.linear_modules(layer):
        entry = np.array([*squared_norms(linear), 1])
        for name in (linear.name.rpartition(".")[2], "all", *["attention"] * linear.in_attention):
            found[name] = found.get(name, 0) + entry
    return found


def squared_norms(linear: LinearChange) -> tuple[float, float]:
    """||W' - W||_F^2 and ||W||_F^2 of one linear module; float64."""
    change = linear.change()
    moved = 0.0 if change is None else float(torch.linalg.vector_norm(change)) ** 2
    return moved, float(torch.linalg.vector_norm(linear.weight())) ** 2
