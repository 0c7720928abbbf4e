"""LoRA and/or GARFA on chosen layers as one PEFT adapter: make it, save it, load it.

LoRA         W x + scale B A x on the modules `targets` of the LoRA layers; A (r, in), B (out, r), B = 0 at first
             (Hu et al. 2021); scale = alpha / r, for rslora alpha / sqrt(r) (Kalajdzievski 2023)
DoRA         each row of W + scale B A brought to a trained norm, at first that of W's (Liu et al. 2024)
GARFA        log alpha (K,) of the child `rope_scale` that colocate.rope gives an attention, by PEFT's `modules_to_save`
temperature  log temperature (K,) of the child `logit_scale` (colocate.temperature), likewise

All adapter weights are float32, whatever the base model is: in bfloat16 an Adam step of 1e-4 of a weight would vanish.
The base stays as loaded and is frozen; `with model.disable_adapter()` is the base model, bit for bit.

A saved adapter is a PEFT folder (adapter_config.json, adapter_model.safetensors), the same bytes for the same weights.
Without GARFA and temperatures it is a plain one, which `PeftModel.from_pretrained` loads. With them that call would
drop them without a word, since the plain model has no module to put them in; so the folder's peft_type is OWN_TYPE,
which PEFT refuses with that very text, and `load` reads it. `load` also refuses an adapter of another base model, known
by the metadata of adapter_model.safetensors, where `save` leaves the base's geometry and digests of samples of its
weights.
"""

import hashlib
import json
import re
from pathlib import Path

from colocate import full_tuning
from colocate.budget import AdapterSpec
from colocate.errors import InputError
from colocate.files import read_json, replacing, write_json

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
OWN_TYPE = "GARFA or logit temperatures: load this adapter with colocate.adapters.load"
PER_HEAD = {"rope_scale": "log_alpha", "logit_scale": "log_temperature"}  # child of an attention: its parameter (K,)


def adapt(model, spec: AdapterSpec):
    """The model (changed in place) as a PeftModel in which nothing but the new adapter can be trained.

    LoRA's A is drawn from torch's global generator: seed it first. InputError, before anything is changed, for a layer
    that does not exist or has no RoPE, a target that a layer does not have, or a model that has an adapter already.
    """
    from peft import get_peft_model

    from colocate.models import decoder_layers

    _refuse_adapted(model)
    layers = decoder_layers(model)
    wrong = [layer for layer in spec.layers if layer >= len(layers)]
    if wrong:
        raise InputError(f"adapter: layers {wrong} do not exist: this model has layers 0 to {len(layers) - 1}")
    place = next(name for name, module in model.named_modules() if module is layers)
    targets = [
        f"{place}.{layer}.{name}" for layer in spec.lora_layers for name in _targets(layers, layer, spec.targets)
    ]
    _add_per_head(model, {"rope_scale": spec.garfa_layers, "logit_scale": spec.temperature_layers})
    adapted = get_peft_model(model, _lora_config(place, targets, spec))
    found = {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}
    if found.keys() != set(targets):  # PEFT renames some targets in families with experts
        raise InputError(f"adapter: PEFT adapts {sorted(found)} instead of {targets}")
    if spec.variant == "dora":
        _start_magnitudes(found.values())
    return adapted


def save(model, path: str | Path, base: dict | None = None) -> None:
    """Write the adapter of a PeftModel to the folder `path`. `base`: the base model's manifest, for its source."""
    import torch
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    path = Path(path)
    tensors = get_peft_model_state_dict(model, save_embedding_layers=False)
    broken = sorted(name for name, tensor in tensors.items() if not torch.isfinite(tensor).all())
    if broken:
        raise InputError(
            f"{path}: not saved, since {broken[0]} is not finite ({len(broken)} tensors): training diverged"
        )
    config = model.peft_config["default"].to_dict()
    config |= {"base_model_name_or_path": (base or {}).get("source"), "inference_mode": True}
    if config["modules_to_save"]:
        config["peft_type"] = OWN_TYPE
    write_json(
        path / CONFIG, {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    )
    with replacing(path / WEIGHTS) as private:
        # One metadata key: safetensors writes several in random order, and equal adapters must be equal files.
        metadata = {"base_model": json.dumps(_identity(model.get_base_model()), sort_keys=True)}
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, private, metadata)


def load(model, path: str | Path):
    """The model (changed in place) with the saved adapter, frozen and in eval mode; with all its weights replaced, and
    no PeftModel, where the folder holds a full fine-tune (colocate.full_tuning).

    InputError for a missing or damaged file, an adapter of another base model, or one of which a tensor does not fit.
    """
    import torch
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors.torch import load_file

    path = Path(path)
    _refuse_adapted(model)
    if full_tuning.is_full(path):
        return full_tuning.load(model, path)
    config = _read_config(path / CONFIG)
    header, metadata = _header(path / WEIGHTS)
    if "base_model" in metadata:
        _check_base(_base_of(metadata, path / WEIGHTS), _identity(model), path)
    per_head = {child: sorted(_per_head_names(header, child)) for child in PER_HEAD}
    if {child for child, layers in per_head.items() if layers} != set(config.modules_to_save or ()):
        raise InputError(f"{path}: {CONFIG} and {WEIGHTS} disagree on whether this adapter has GARFA or temperatures")
    _add_per_head(model, per_head)
    try:
        with torch.random.fork_rng(devices=[]):  # PEFT draws weights before it reads them
            adapted = PeftModel.from_pretrained(model, str(path), config=config, torch_device=str(model.device))
    except (RuntimeError, KeyError, ValueError) as error:
        raise InputError(f"{path}: the adapter does not fit this model: {error}") from error
    found, saved = get_peft_model_state_dict(adapted, save_embedding_layers=False), load_file(path / WEIGHTS)
    wrong = sorted(found.keys() ^ saved.keys()) or [n for n in found if not found[n].cpu().equal(saved[n])]
    if wrong:
        raise InputError(f"{path}: {wrong[0]} is not in both the adapter and the model ({len(wrong)} such tensors)")
    return adapted


def read_alphas(path: str | Path):
    """The alphas of a saved adapter: DataFrame layer, kv_head, alpha (empty without GARFA). Light: no torch."""
    return _read_per_head(path, "rope_scale", "alpha")


def read_temperatures(path: str | Path):
    """Its factors on attention logits: DataFrame layer, kv_head, temperature (empty without). Light: no torch."""
    return _read_per_head(path, "logit_scale", "temperature")


def _read_per_head(path: str | Path, child: str, column: str):
    import numpy as np
    import pandas as pd
    from safetensors import safe_open

    path = Path(path) / WEIGHTS
    names = _per_head_names(_header(path)[0], child)
    with safe_open(path, framework="numpy") as file:
        values = {layer: np.exp(file.get_tensor(name).astype(np.float64)) for layer, name in sorted(names.items())}
    rows = [(layer, head, value) for layer, row in values.items() for head, value in enumerate(row)]
    table = pd.DataFrame(rows, columns=["layer", "kv_head", column])
    return table.astype({"layer": "int64", "kv_head": "int64", column: "float64"})


# --- making -----------------------------------------------------------------------------------------------------------


def _add_per_head(model, layers: dict[str, list[int]]) -> None:
    """Give attentions their children of PER_HEAD, in these layers; nothing is changed if one of them cannot be."""
    from colocate.rope import add_rope_scale
    from colocate.temperature import add_logit_scale, attentions_for_temperature

    attentions_for_temperature(model, layers["logit_scale"])
    add_rope_scale(model, layers["rope_scale"])
    add_logit_scale(model, layers["logit_scale"])


def _start_magnitudes(modules) -> None:
    """Make DoRA's magnitudes the norms that its forward will find in float32.

    PEFT takes them in the dtype of the base model: in bfloat16 a new adapter would change the model by 0.4 %.
    """
    import torch
    from peft.utils.integrations import dequantize_module_weight

    for module in modules:
        weight = dequantize_module_weight(module.get_base_layer()).detach().float()
        module.lora_magnitude_vector["default"].weight.data = torch.linalg.norm(weight, dim=1)


def _lora_config(place: str, targets: list[str], spec: AdapterSpec):
    """PEFT's config. `place`: name of the list of layers; `targets`: full names, so that no other layer matches.

    Not a regular expression: for families with experts PEFT takes only the last names from it, in all layers.
    """
    from peft import LoraConfig
    from peft.utils.constants import DUMMY_TARGET_MODULES

    ranks = {layer: spec.rank_of(layer) for layer in spec.lora_layers}
    alphas = {layer: spec.alpha_of(layer) for layer in spec.lora_layers}
    rank, alpha = (max(values.values(), default=1) for values in (ranks, alphas))
    children = ["rope_scale"] * bool(spec.garfa_layers) + ["logit_scale"] * bool(spec.temperature_layers)
    pattern = rf"{re.escape(place)}\.{{}}\..*"
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=alpha,
        rank_pattern={pattern.format(layer): value for layer, value in ranks.items() if value != rank},
        alpha_pattern={pattern.format(layer): value for layer, value in alphas.items() if value != alpha},
        lora_dropout=spec.dropout,
        target_modules=targets or DUMMY_TARGET_MODULES,
        modules_to_save=children or None,
        use_dora=spec.variant == "dora",
        use_rslora=spec.variant == "rslora",
    )


def _targets(layers, layer: int, targets: tuple[str, ...]) -> list[str]:
    """Names, within a decoder layer, of the linear modules that the targets mean: exactly one each."""
    from torch import nn

    linear = [name for name, child in layers[layer].named_modules() if isinstance(child, nn.Linear)]
    found = {target: [name for name in linear if name.split(".")[-1] == target] for target in targets}
    for target, names in found.items():
        if len(names) != 1:
            has = ", ".join(sorted({name.split(".")[-1] for name in linear}))
            raise InputError(
                f"adapter: layer {layer} has {len(names)} linear modules {target!r}, expected 1; it has {has}"
            )
    return [names[0] for names in found.values()]


def _refuse_adapted(model) -> None:
    if getattr(model, "peft_config", None):
        raise InputError("the model has an adapter already; start from the base model")


# --- files ------------------------------------------------------------------------------------------------------------


def _read_config(path: Path):
    """PEFT's config of a saved adapter."""
    from peft import LoraConfig

    if not path.is_file():
        raise InputError(f"{path}: no such file; expected an adapter folder with {CONFIG} and {WEIGHTS}")
    try:
        config = dict(read_json(path))
        if config.get("peft_type") in {"LORA", OWN_TYPE}:
            return LoraConfig.from_peft_type(**config | {"peft_type": "LORA"})
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: damaged: {error}") from error
    raise InputError(f"{path}: peft_type: found {config.get('peft_type')!r}, allowed: 'LORA', {OWN_TYPE!r}")


def _per_head_names(header: list[str], child: str) -> dict[int, str]:
    """{layer: name of the tensor} of this child's parameter."""
    pattern = re.compile(rf"\.layers\.(\d+)\.self_attn\.{child}\.{PER_HEAD[child]}$")
    return {int(match.group(1)): name for name in header if (match := pattern.search(name))}


def _header(path: Path) -> tuple[list[str], dict[str, str]]:
    """Names of the tensors in a safetensors file, and its metadata."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"{path}: no such file; expected an adapter folder with {CONFIG} and {WEIGHTS}")
    try:
        with safe_open(path, framework="numpy") as file:
            return list(file.keys()), file.metadata() or {}
    except SafetensorError as error:
        raise InputError(f"{path}: damaged: {error}") from error


# --- which base model -------------------------------------------------------------------------------------------------


def _identity(model) -> dict:
    """What an adapter must find again in its base: geometry, and digests of weights, in bfloat16 whatever they load as.

    `embedding`: some 64 rows of the input embedding, evenly spaced. `layers`: the first row of each weight of the
    decoder layers; None where 4-bit storage hides them.
    """
    import torch

    from colocate.models import decoder_layers

    def digest(rows) -> str:
        rounded = [row.detach().to(torch.bfloat16).cpu().view(torch.int16).numpy().tobytes() for row in rows]
        return hashlib.sha256(b"".join(rounded)).hexdigest()[:32]

    config = model.get_decoder().config
    embedding = model.get_input_embeddings().weight
    weights = [
        parameter
        for name, parameter in decoder_layers(model).named_parameters()
        if not any(part in name for part in ("lora_", *PER_HEAD))
    ]
    quantised = any(not weight.is_floating_point() for weight in weights)
    return {
        "model_type": config.model_type,
        "n_layers": config.num_hidden_layers,
        "n_heads": config.num_attention_heads,
        "n_kv_heads": getattr(config, "num_key_value_heads", None),
        "hidden": config.hidden_size,
        "vocab": embedding.shape[0],
        "embedding": digest(embedding[:: max(1, len(embedding) // 64)]),
        "layers": None if quantised else digest(weight[0] if weight.dim() > 1 else weight for weight in weights),
    }


def _base_of(metadata: dict[str, str], path: Path) -> dict:
    try:
        return dict(json.loads(metadata["base_model"]))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: damaged: base_model in its metadata: {error}") from error


def _check_base(expected: dict, found: dict, path: Path) -> None:
    wrong = [key for key in expected if None not in (expected[key], found.get(key)) and expected[key] != found[key]]
    if wrong:
        each = "; ".join(f"{key}: the adapter's {expected[key]}, this model's {found[key]}" for key in wrong)
        raise InputError(f"{path}: an adapter of another base model: {each}; load it on the one it was trained on")
