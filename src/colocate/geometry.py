"""The geometry of a model in a local folder, from config.json and the headers of its safetensors files alone.

Light: no torch, no weights read. Notation of the project: L layers, H query heads, K KV heads (GQA: 1 < K < H,
MQA: K = 1, MHA: K = H), d rotary dimension. A safetensors file is 8 bytes n (little-endian), n bytes of JSON {tensor:
{dtype, shape, data_offsets}}, then the data (https://huggingface.co/docs/safetensors): its true size follows from its
own header.

Positions: transformers 5 writes `rope_parameters` {rope_type, rope_theta, partial_rotary_factor, ...}, in some families
once per layer type; older configs write rope_theta, rope_scaling and partial_rotary_factor apart. Both are read.
"""

import json
import re
from collections import Counter
from math import prod
from pathlib import Path

from colocate.errors import InputError
from colocate.files import read_json

UNSUITED = {  # model_type -> why RoPE influence is not defined on it
    "bloom": "ALiBi",
    "mpt": "ALiBi",
    "gpt2": "learned absolute positions",
    "gpt_bigcode": "learned absolute positions",
    "gpt_neo": "learned absolute positions",
    "opt": "learned absolute positions",
    "t5": "relative position biases",
    "gptj": "rotary encoding without a base in its config",
    "codegen": "rotary encoding without a base in its config",
    "mamba": "no attention",
    "mamba2": "no attention",
    "rwkv": "no attention",
}
ROPE_TYPES = {"default", "linear", "dynamic", "yarn", "longrope", "llama3"}  # each an inv_freq of rotary_dim / 2 values
SLIDING_ONLY = {
    "afmoe",
    "cohere2",
    "cohere2_moe",
    "exaone4",
    "exaone_moe",
    "flint",
}  # their full-attention layers have no RoPE
FLOATS = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}  # safetensors -> torch
LAYER_WEIGHT = re.compile(r"(?:^|\.)(?:layers|h)\.(\d+)\.(.+)\.weight$")
OTHER_TOWER = re.compile(r"vision|visual|audio|image")
KEY_WEIGHTS = {"k_proj", "qkv_proj", "query_key_value"}  # the names under which attention projects its keys


def read_geometry(folder: str | Path, *, name: str | None = None) -> dict:
    """Geometry of the model in `folder`, which messages call `name`: plain numbers, strings and lists, ready for JSON.

    source, revision, sha256 and quantisation (of its manifest; None without one), n_layers, n_heads, n_kv_heads,
    head_dim, attention ("GQA", "MQA", "MHA"), hidden, ffn, vocab, n_params (stored weights, tied ones once),
    checkpoint_dtype, rope_theta and rope_type (each a dict by layer type where the types differ), rotary_dim,
    rope_layers (indices of the layers that rotate), linear_shapes ({"<layer>": {"q_proj": [out, in], ...}}).
    InputError for a damaged folder, and for a model without RoPE, with latent attention or with quantised weights.
    """
    folder = Path(folder)
    place = f"{name or folder}/config.json"
    config = read_hub_json(folder / "config.json", place)
    text = config.get("text_config") or config
    stated = config_geometry(config, place)
    headers = safetensors_headers(folder, name=name)
    heads, kv_heads, head_dim = (stated[key] for key in ("n_heads", "n_kv_heads", "head_dim"))
    shapes = _linear_shapes(headers, stated["n_layers"], place)
    _check_attention(shapes, heads * head_dim, kv_heads * head_dim, place)
    manifest = read_json(folder / "manifest.json") if (folder / "manifest.json").is_file() else {}
    return {
        **{key: manifest.get(key) for key in ("source", "revision", "sha256", "quantisation")},
        **stated,
        "attention": "MHA" if kv_heads == heads else "MQA" if kv_heads == 1 else "GQA",
        "n_params": _count(headers, config.get("tie_word_embeddings", text.get("tie_word_embeddings"))),
        "checkpoint_dtype": _dtype(config, text, headers),
        "linear_shapes": shapes,
        **_rope(text, head_dim, shapes, place),
    }


def quantised(geometry: dict) -> str:
    """How a study's weights (geometry.json) have been made coarser, in words; empty where they have not been."""
    said = []
    if geometry.get("quantisation"):
        said.append(f"weights that were quantised to {geometry['quantisation']}")
    if geometry.get("dtype") == "nf4":
        said.append("weights loaded in 4 bits (nf4)")
    return ", ".join(said)


def config_geometry(config: dict, place: str) -> dict[str, int]:
    """What a config.json alone says: n_layers, n_heads, n_kv_heads, head_dim, hidden, ffn, vocab.

    InputError for a model without RoPE, with latent attention or with quantised weights.
    """
    text = config.get("text_config") or config
    _refuse(config, text, place)

    def number(key: str) -> int:
        return _whole_number(text, key, place)

    heads, hidden = number("num_attention_heads"), number("hidden_size")
    return {
        "n_layers": number("num_hidden_layers"),
        "n_heads": heads,
        "n_kv_heads": text.get("num_key_value_heads") or heads,
        "head_dim": text.get("head_dim") or hidden // heads,
        "hidden": hidden,
        "ffn": number("intermediate_size"),
        "vocab": number("vocab_size"),
    }


def context_length(folder: str | Path, *, name: str | None = None) -> int:
    """Tokens that the model in `folder` takes: max_position_embeddings. InputError where its config does not say."""
    place = f"{name or folder}/config.json"
    config = read_hub_json(Path(folder) / "config.json", place)
    return _whole_number(config.get("text_config") or config, "max_position_embeddings", place)


def _whole_number(config: dict, key: str, place: str) -> int:
    if not isinstance(config.get(key), int):
        raise InputError(f"{place}: {key}: found {config.get(key)!r}, expected a whole number")
    return config[key]


def check_geometry(found: dict, expected: dict, place: str) -> None:
    """Every key of `expected` has the same value in `found`, else an InputError that names each one that differs."""
    unknown = sorted(expected.keys() - found.keys())
    if unknown:
        raise InputError(f"{place}: geometry: found unknown {', '.join(unknown)}; allowed: {', '.join(sorted(found))}")
    wrong = [key for key in sorted(expected) if found[key] != expected[key]]
    if wrong:
        each = "; ".join(f"{key}: found {found[key]!r}, expected {expected[key]!r}" for key in wrong)
        raise InputError(
            f"{place}: geometry differs: {each} (by the config); correct models.NAME.geometry, or the source"
        )


def safetensors_headers(folder: str | Path, *, name: str | None = None) -> dict[str, dict]:
    """{tensor: {dtype, shape, data_offsets}} over all parts; InputError for a missing, cut or inconsistent part."""
    folder, place = Path(folder), name or str(folder)
    index = "model.safetensors.index.json"
    if not (folder / index).is_file():
        return _header(folder / "model.safetensors", f"{place}/model.safetensors")
    placed = read_hub_json(folder / index, f"{place}/{index}")["weight_map"]
    headers = {part: _header(folder / part, f"{place}/{part}") for part in sorted(set(placed.values()))}
    for tensor, part in placed.items():
        if tensor not in headers[part]:
            raise InputError(f"{place}/{part}: tensor {tensor} is missing, which {index} places there")
    return {tensor: headers[part][tensor] for tensor, part in placed.items()}


def read_hub_json(path: Path, place: str) -> dict:
    """A JSON file of a model; InputError, which calls it `place`, where it is missing or not JSON."""
    if not path.is_file():
        raise InputError(f"{place}: missing; expected a model in hub layout")
    try:
        return read_json(path)
    except ValueError as error:
        raise InputError(f"{place}: not JSON: {error}") from error


def _header(path: Path, place: str) -> dict[str, dict]:
    if not path.is_file():
        raise InputError(f"{place}: missing; expected a safetensors file")
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= size - 8:
            raise InputError(f"{place}: found {size} bytes, expected a header of {length} bytes after the first 8")
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise InputError(f"{place}: its header is not JSON ({error}); expected a safetensors file") from error
    header.pop("__metadata__", None)
    expected = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if size != expected:
        raise InputError(f"{place}: found {size} bytes, expected {expected} by its own header; fetch or copy it again")
    return header


def _refuse(config: dict, text: dict, place: str) -> None:
    """Models on which the quantities of this project are not defined, by name and with the reason."""
    kind = text.get("model_type")
    reason = UNSUITED.get(kind) or ("ALiBi" if text.get("alibi") else None)
    if config.get("is_encoder_decoder"):
        reason = f"an encoder-decoder{f' with {reason}' if reason else ''}"
    if "kv_lora_rank" in text:
        reason = "multi-head latent attention"
    if text.get("position_embedding_type", "rope") not in ("rope", "rotary"):
        reason = f"position_embedding_type {text['position_embedding_type']!r}"
    if not reason and not text.get("rope_theta") and not text.get("rope_parameters"):
        reason = "no rope_theta or rope_parameters; prepare_model writes the latter for a model with RoPE"
    if reason:
        raise InputError(
            f"{place}: model_type: found {kind!r} ({reason}); "
            "expected a decoder-only model with rotary position encoding (RoPE) and MHA, GQA or MQA"
        )
    method = (config.get("quantization_config") or {}).get("quant_method")
    if method:
        raise InputError(
            f"{place}: quantization_config: found {method!r}; expected unquantised weights (nf4 quantises at load)"
        )


def _rope(text: dict, head_dim: int, shapes: dict[str, dict], place: str) -> dict:
    """rope_theta, rope_type, rotary_dim and rope_layers."""
    parameters = text.get("rope_parameters") or text.get("rope_scaling") or {}
    layer_types = text.get("layer_types") or ["full_attention"] * len(shapes)
    by_type = {key: value for key, value in parameters.items() if key in layer_types} or {None: parameters}
    by_type = {key: value for key, value in by_type.items() if value is not None}  # that layer type does not rotate

    def each(key: str, default):
        values = {kind: value.get(key, default) for kind, value in by_type.items()}
        return next(iter(values.values())) if len(set(values.values())) == 1 else values

    theta = each("rope_theta", text.get("rope_theta"))
    if not theta or (isinstance(theta, dict) and None in theta.values()):
        raise InputError(f"{place}: rope_parameters: found {parameters}, expected rope_theta in it")
    rope_type = each("rope_type", parameters.get("type", "default"))
    if not ROPE_TYPES.issuperset(rope_type.values() if isinstance(rope_type, dict) else [rope_type]):
        raise InputError(f"{place}: rope_type: found {rope_type!r}, allowed: {', '.join(sorted(ROPE_TYPES))}")
    share = each("partial_rotary_factor", text.get("partial_rotary_factor") or 1.0)
    if isinstance(share, dict):
        raise InputError(f"{place}: partial_rotary_factor: found {share}, expected the same in every layer")

    rotates = text.get("no_rope_layers") or [1] * len(shapes)  # named after its zeros: 1 = the layer rotates
    types = set(layer_types) if None in by_type else set(by_type)
    if text.get("model_type") in SLIDING_ONLY and text.get("sliding_window"):
        types = {"sliding_attention"}
    return {
        "rope_theta": theta,
        "rope_type": rope_type,
        "rotary_dim": int(head_dim * share),
        "rope_layers": [
            layer
            for layer in range(len(shapes))
            if rotates[layer] and layer_types[layer] in types and KEY_WEIGHTS & shapes[str(layer)].keys()
        ],
    }


def _count(headers: dict[str, dict], tied: bool | None) -> int:
    """Stored floating-point weights; an output head that repeats the embedding is not counted again."""
    return sum(
        prod(entry["shape"])
        for name, entry in headers.items()
        if entry["dtype"] in FLOATS and not name.endswith("inv_freq") and not (tied and name == "lm_head.weight")
    )


def _dtype(config: dict, text: dict, headers: dict[str, dict]) -> str:
    """The dtype that the config names, else the one that most weights are stored in."""
    for place in (config, text):
        for key in ("dtype", "torch_dtype"):
            if place.get(key) in FLOATS.values():
                return place[key]
    stored = Counter()
    for entry in headers.values():
        stored[FLOATS.get(entry["dtype"], "float32")] += prod(entry["shape"])
    return stored.most_common(1)[0][0]


def _linear_shapes(headers: dict[str, dict], n_layers: int, place: str) -> dict[str, dict[str, list[int]]]:
    """{"<layer>": {last part of the module's name: [out, in]}}; routed experts and routers are no linear modules."""
    shapes: dict[str, dict[str, list[int]]] = {str(layer): {} for layer in range(n_layers)}
    for name, entry in headers.items():
        match = LAYER_WEIGHT.search(name)
        if not match or len(entry["shape"]) != 2 or OTHER_TOWER.search(name):
            continue
        layer, module = match.groups()
        parts = module.split(".")
        if {"experts", "router"} & set(parts) or parts[-1] == "gate":
            continue
        if layer not in shapes:
            raise InputError(f"{place}: num_hidden_layers: found {n_layers}, but the weights hold {name}")
        if parts[-1] in shapes[layer]:
            raise InputError(f"{place}: layer {layer} has two linear weights called {parts[-1]}, one of them {name}")
        shapes[layer][parts[-1]] = entry["shape"]
    return shapes


def _check_attention(shapes: dict[str, dict], query: int, key: int, place: str) -> None:
    """The projections have as many rows as the config's heads need: then it means what is read in it here."""
    expected = {"k_proj": key, "v_proj": key, "qkv_proj": query + 2 * key, "query_key_value": query + 2 * key}
    for layer, linear in shapes.items():
        for name in sorted(expected.keys() & linear.keys()):
            if linear[name][0] != expected[name]:
                raise InputError(
                    f"{place}: layer {layer}: {name} has {linear[name][0]} rows, expected {expected[name]} "
                    "by num_attention_heads, num_key_value_heads and head_dim"
                )
    if not any(KEY_WEIGHTS & linear.keys() for linear in shapes.values()):
        raise InputError(f"{place}: found no layer with {', '.join(sorted(KEY_WEIGHTS))}; expected attention layers")
