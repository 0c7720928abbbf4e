"""Layer metrics: one number per decoder layer, with an interval. One module per metric behind one small registry.

A metric's module has `compute(model, tokenizer, settings, data, progress) -> Profile`:

    model      in eval mode; for metrics that need an arm, the PEFT model (base = the same model with its adapter off)
    settings   the profile's config entry, plus seed and batch_tokens (tokens, padding included, that share a forward)
    data       {"pairs": [Pair], "paraphrases": [Paraphrase], "texts": [Text]} of colocate.pairs

This file imports nothing heavy: the workflow reads the registry when it is parsed.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from colocate.errors import InputError
from colocate.files import Progress, silent


@dataclass(frozen=True)
class Metric:
    """What people need to know of a metric before they compute it."""

    name: str
    module: str
    formula: str
    source: str
    needs: str  # pairs | texts | arm
    items: bool  # whether the profile is a mean over items, so that items can be resampled
    meaning: str  # of a high value


@dataclass(frozen=True)
class Profile:
    """What a metric found.

    profile    DataFrame layer, value, ci_low, ci_high, n: a row a layer; NaN and n = 0 where the metric is not defined
    items      DataFrame item, layer, value: the values that `profile` averages, or None
    variants   DataFrame variant, item, layer, kv_head, value: everything the pass gave; kv_head -1 = all of the layer
    """

    profile: Any
    items: Any = None
    variants: Any = None


METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            name="sensitivity",
            module="colocate.profiles.sensitivity",
            formula="mean over pairs of 1 - cos(h+, h-), h the pooled output of layer l",
            source="Rao 2026, arXiv:2604.07766 (formula as printed; pools, forms and controls are this project's)",
            needs="pairs",
            items=True,
            meaning="the layer's states tell the two answers apart",
        ),
        Metric(
            name="rope_influence",
            module="colocate.profiles.rope_influence",
            formula="output: mean KL(p || p_alpha), layer l at alpha = exp(+-log_alpha); also local, fisher, removal",
            source="this project (Rao 2026 names the quantity and prints no definition)",
            needs="texts",
            items=True,
            meaning="changing the layer's rotary base changes what the model predicts",
        ),
        Metric(
            name="linear_cka",
            module="colocate.profiles.linear_cka",
            formula="HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) of the pooled states of base and arm",
            source="Kornblith et al. 2019, arXiv:1905.00414; debiased: Song et al. 2012, JMLR 13",
            needs="arm",
            items=False,
            meaning="training left the layer's representation of the texts as it was",
        ),
        Metric(
            name="weight_change",
            module="colocate.profiles.weight_change",
            formula="||scale B A||_F / ||W||_F over the layer's linear modules",
            source="Zhao et al. 2026, arXiv:2604.11838",
            needs="arm",
            items=False,
            meaning="training moved the layer's weights far",
        ),
    )
}


def compute(metric: str, model, tokenizer, settings: dict, data: dict, progress: Progress = silent) -> Profile:
    """Compute one metric by name. InputError for an unknown name or a bad setting."""
    if metric not in METRICS:
        raise InputError(f"metric: found {metric!r}, allowed: {', '.join(sorted(METRICS))}")
    return import_module(METRICS[metric].module).compute(model, tokenizer, settings, data, progress)
