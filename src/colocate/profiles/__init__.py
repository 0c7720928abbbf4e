"""Layer metrics: one number per decoder layer, with an interval. One module per metric behind one small registry.

A metric's module has `compute(model, tokenizer, settings, data, progress) -> Profile`:

    model      in eval mode
    settings   the profile's config entry, plus seed and batch_tokens (tokens, padding included, that share a forward)
    data       {"pairs": [Pair], "paraphrases": [Paraphrase], "texts": [Text]} of colocate.pairs, and
               "examples": [Example] of colocate.training_data, from the split `train`, where a metric needs them

Metrics that need an arm compare two models: their `model` is a colocate.profiles.compared.Compared.
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
    needs: str  # pairs | texts | examples | arm
    items: bool  # whether the profile is a mean over items, so that items can be resampled
    meaning: str  # of a high value
    settings: tuple[str, ...] = ()  # the keys of its config entry, beside `metric`
    dtype: str = ""  # what the model must be loaded as, if not as the study says


def dtype_of(settings: dict, dtype: str) -> str:
    """What a model of a study's `dtype` is loaded as for the profile `settings` {metric, ...}.

    RoPE influence takes float32; of a 4-bit model the 4-bit weights, computing in float32, but where a derivative goes
    through them (fisher).
    """
    wanted = METRICS[settings["metric"]].dtype
    if wanted == "float32" and dtype == "nf4" and settings.get("method") != "fisher":
        return "nf4_float32"
    return wanted or dtype


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
            settings=("pool", "form", "contrast", "batch_tokens"),
        ),
        Metric(
            name="rope_influence",
            module="colocate.profiles.rope_influence",
            formula="output: mean over positions of KL(p || p_alpha), layer l's base times alpha = exp(+-log_alpha), "
            "mean of both signs; removal: mean of KL(p || p_0), layer l rotating nothing; "
            "fisher: mean of E_{y ~ p} (d log p(y) / d log alpha)^2 at alpha = 1; "
            "local: ||o_alpha - o||_F / ||o||_F, o the output of layer l's attention, mean of both signs",
            source="this project (Rao 2026 names the quantity and prints no definition)",
            needs="texts",
            items=True,
            meaning="changing the layer's rotary base changes what the model predicts",
            settings=("method", "log_alpha", "text_tokens", "max_texts", "precision", "per_head", "batch_tokens"),
            dtype="float32",
        ),
        Metric(
            name="probe",
            module="colocate.profiles.probe",
            formula="share of held-out pairs with w.(h+ - h-) > 0, w the mean of h+ - h- over other pairs",
            source="difference-of-means probe: Marks & Tegmark 2023, arXiv:2310.06824; held out by half-splits here",
            needs="pairs",
            items=True,
            meaning="one direction of the layer's states tells right from wrong, on pairs it has not seen (chance 0.5)",
            settings=("pool", "contrast", "batch_tokens"),
        ),
        Metric(
            name="patching",
            module="colocate.profiles.patching",
            formula="rise of log p(right) - log p(wrong) when the wrong prompt's last state is the right prompt's, "
            "over its rise when the whole prompt is",
            source="Meng et al. 2022, arXiv:2202.05262; Zhang & Nanda 2023, arXiv:2309.16042 (normalised log odds)",
            needs="pairs",
            items=True,
            meaning="the layer's last state already carries what decides the answer (0 nothing, 1 everything)",
            settings=("batch_tokens",),
        ),
        Metric(
            name="early_exit",
            module="colocate.profiles.early_exit",
            formula="share of pairs with log p_l(right answer) > log p_l(wrong answer), p_l = head(final norm(h_l))",
            source="logit lens: nostalgebraist 2020; Zhao et al. 2026, arXiv:2604.11838 (early-exit probe)",
            needs="pairs",
            items=True,
            meaning="the model's own head reads the right answer from the layer's states (chance 0.5)",
            settings=("batch_tokens",),
        ),
        Metric(
            name="input_output_cka",
            module="colocate.profiles.input_output_cka",
            formula="1 - CKA(X, Y), X and Y the pooled states that enter and leave layer l",
            source="arXiv:2602.05988; CKA: Kornblith et al. 2019, arXiv:1905.00414",
            needs="pairs",
            items=False,
            meaning="the layer rearranges the texts (LoRA goes where this is largest)",
            settings=("estimator", "pool", "batch_tokens"),
        ),
        Metric(
            name="input_output_cosine",
            module="colocate.profiles.input_output_cosine",
            formula="mean over texts and tokens of cos(x, y), x and y the states that enter and leave layer l",
            source="arXiv:2610.11620",
            needs="pairs",
            items=True,
            meaning="the layer leaves the direction of its input as it was (LoRA goes where this is lowest)",
            settings=("pool", "batch_tokens"),
        ),
        Metric(
            name="gradient_norm",
            module="colocate.profiles.gradient_norm",
            formula="mean over training examples of ||d loss / d W||_F over the linear weights W of layer l",
            source="Aletheia, arXiv:2604.15351; GRASS, arXiv:2604.07808",
            needs="examples",
            items=True,
            meaning="the layer's weights matter most to the loss on the training data, to first order",
            settings=("modules", "max_examples", "batch_tokens"),
        ),
        Metric(
            name="empirical_fisher",
            module="colocate.profiles.empirical_fisher",
            formula="mean over training examples of ||d loss / d W||_F^2 over the linear weights W of layer l",
            source="LAARA, arXiv:2607.19391",
            needs="examples",
            items=True,
            meaning="the trace of the layer's empirical Fisher matrix is large: the loss is sensitive to its weights",
            settings=("modules", "max_examples", "batch_tokens"),
        ),
        Metric(
            name="effective_rank",
            module="colocate.profiles.effective_rank",
            formula="exp(entropy of s_j^2 / sum s^2) / min(N, D), s the singular values of the texts' pooled states",
            source="Zhao et al. 2026, arXiv:2604.11838",
            needs="pairs",
            items=False,
            meaning="the texts spread over many directions of the layer's state space",
            settings=("pool", "centred", "batch_tokens"),
        ),
        Metric(
            name="dataset_entropy",
            module="colocate.profiles.dataset_entropy",
            formula="entropy of the eigenvalues of X X^T / tr(X X^T) over log min(N, D), X the texts' pooled states",
            source="Zhao et al. 2026, arXiv:2604.11838; Skean et al. 2025, arXiv:2502.02013",
            needs="pairs",
            items=False,
            meaning="the texts are spread evenly: the layer keeps them apart",
            settings=("pool", "centred", "batch_tokens"),
        ),
        Metric(
            name="prompt_entropy",
            module="colocate.profiles.prompt_entropy",
            formula="mean over texts of the entropy of the eigenvalues of X X^T / tr(X X^T) over log min(T, D), "
            "X the text's tokens",
            source="Zhao et al. 2026, arXiv:2604.11838; Skean et al. 2025, arXiv:2502.02013",
            needs="pairs",
            items=True,
            meaning="the tokens of a text are spread evenly: the layer has not compressed them",
            settings=("pool", "batch_tokens"),
        ),
        Metric(
            name="curvature",
            module="colocate.profiles.curvature",
            formula="mean over texts of the mean angle between successive differences of token states, over pi",
            source="Zhao et al. 2026, arXiv:2604.11838; Hosseini & Fedorenko 2023, arXiv:2311.04930",
            needs="pairs",
            items=True,
            meaning="a text's path through the layer's state space turns sharply from token to token",
            settings=("pool", "batch_tokens"),
        ),
        Metric(
            name="spectral_norm",
            module="colocate.profiles.spectral_norm",
            formula="s_1 / sqrt(N), s_1 the largest singular value of the texts' pooled states",
            source="Zhao et al. 2026, arXiv:2604.11838 (there without sqrt(N), which changes no ranking of layers)",
            needs="pairs",
            items=False,
            meaning="the states are long along their main direction",
            settings=("pool", "centred", "batch_tokens"),
        ),
        Metric(
            name="linear_cka",
            module="colocate.profiles.linear_cka",
            formula="HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) of the pooled states of the base and the tuned model",
            source="Kornblith et al. 2019, arXiv:1905.00414; debiased: Song et al. 2012, JMLR 13",
            needs="arm",
            items=False,
            meaning="tuning left the layer's representation of the texts as it was",
            settings=("estimator", "pool", "batch_tokens"),
        ),
        Metric(
            name="cosine",
            module="colocate.profiles.cosine",
            formula="mean over texts of cos(x, y), x and y the pooled states of the base and the tuned model",
            source="Zhao et al. 2026, arXiv:2604.11838",
            needs="arm",
            items=True,
            meaning="tuning left the direction of each text's state as it was",
            settings=("pool", "batch_tokens"),
        ),
        Metric(
            name="mean_shift",
            module="colocate.profiles.mean_shift",
            formula="|| mean of y - mean of x ||, x and y the pooled states of the base and the tuned model",
            source="Zhao et al. 2026, arXiv:2604.11838",
            needs="arm",
            items=False,
            meaning="tuning moved all texts' states one way",
            settings=("size", "pool", "batch_tokens"),
        ),
        Metric(
            name="effective_rank_change",
            module="colocate.profiles.effective_rank_change",
            formula="effective rank of the tuned model's pooled states minus that of the base model's",
            source="Zhao et al. 2026, arXiv:2604.11838",
            needs="arm",
            items=False,
            meaning="tuning spread the texts over more directions",
            settings=("pool", "centred", "batch_tokens"),
        ),
        Metric(
            name="dataset_entropy_change",
            module="colocate.profiles.dataset_entropy_change",
            formula="data-set entropy of the tuned model's pooled states minus that of the base model's",
            source="Zhao et al. 2026, arXiv:2604.11838",
            needs="arm",
            items=False,
            meaning="tuning spread the texts more evenly",
            settings=("pool", "centred", "batch_tokens"),
        ),
        Metric(
            name="spectral_norm_change",
            module="colocate.profiles.spectral_norm_change",
            formula="s_1 / sqrt(N) of the tuned model's pooled states minus that of the base model's",
            source="Zhao et al. 2026, arXiv:2604.11838",
            needs="arm",
            items=False,
            meaning="tuning stretched the states along their main direction",
            settings=("pool", "centred", "batch_tokens"),
        ),
        Metric(
            name="prompt_entropy_change",
            module="colocate.profiles.prompt_entropy_change",
            formula="mean over texts of the tuned model's prompt entropy minus the base model's",
            source="Zhao et al. 2026, arXiv:2604.11838",
            needs="arm",
            items=True,
            meaning="tuning spread the tokens of a text more evenly",
            settings=("pool", "batch_tokens"),
        ),
        Metric(
            name="curvature_change",
            module="colocate.profiles.curvature_change",
            formula="mean over texts of the tuned model's curvature minus the base model's",
            source="Zhao et al. 2026, arXiv:2604.11838",
            needs="arm",
            items=True,
            meaning="tuning made a text's path through the states turn more sharply",
            settings=("pool", "batch_tokens"),
        ),
        Metric(
            name="early_exit_change",
            module="colocate.profiles.early_exit_change",
            formula="share of pairs that the tuned model's exit at layer l gets right, minus the base model's share",
            source="Zhao et al. 2026, arXiv:2604.11838",
            needs="arm",
            items=True,
            meaning="tuning helps the model's own head read the right answer here",
            settings=("batch_tokens",),
        ),
        Metric(
            name="segment_swap",
            module="colocate.profiles.segment_swap",
            formula="mean rise of -log p(right answer) when the layer's depth segment is the base model's again",
            source="Zhao et al. 2026, arXiv:2604.11838 (there by accuracy)",
            needs="arm",
            items=True,
            meaning="what tuning brought for the right answers sits in this segment of the depth",
            settings=("outcome", "segments", "batch_tokens"),
        ),
        Metric(
            name="weight_change",
            module="colocate.profiles.weight_change",
            formula="||W' - W||_F / ||W||_F over the layer's linear modules W",
            source="Zhao et al. 2026, arXiv:2604.11838 (there absolute, over q, k, v, o)",
            needs="arm",
            items=False,
            meaning="tuning moved the layer's weights far",
            settings=("modules", "size"),
        ),
    )
}


def compute(metric: str, model, tokenizer, settings: dict, data: dict, progress: Progress = silent) -> Profile:
    """Compute one metric by name. InputError for an unknown name or a bad setting."""
    if metric not in METRICS:
        raise InputError(f"metric: found {metric!r}, allowed: {', '.join(sorted(METRICS))}")
    return import_module(METRICS[metric].module).compute(model, tokenizer, settings, data, progress)
