"""Turn a GGUF file of the Llama architecture into a plain Hugging Face folder, exactly, or refuse by name.

Weights: every tensor is dequantised and stored in float32. Q4_1 is w = scale * q + minimum with 4-bit q and float16
scale and minimum: 15 bits and more, which neither float16 nor bfloat16 holds. llama.cpp rotates neighbouring dimensions
(2i, 2i+1), transformers rotates halves (i, i + d/2); the converter to GGUF therefore permuted the rows of q_proj and
k_proj head by head, and this undoes it:

    stored (heads, d/2, 2, hidden)  ->  (heads, 2, d/2, hidden)

Tokenizer: `gpt2` in llama.cpp is byte-level BPE, and `tokenizer.ggml.pre` names the expressions that cut a text into
words before it. One kind is reproduced here, `smollm`: each digit alone (\\p{N}), then the expression of GPT-2.

A wrong guess would be silent (fluent text, wrong numbers): metadata keys, tensors, pre-tokenizers and token types that
are not handled below are errors that name them.
Source: ggml-org/llama.cpp, convert_hf_to_gguf.py (LlamaModel.permute), src/llama-vocab.cpp (pre type SMOLLM).
"""

from collections import Counter
from pathlib import Path

import numpy as np

from colocate.errors import InputError
from colocate.files import write_json

MODEL_KEYS = {  # `llama.*` metadata that is read here; any other would change what the model computes
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "rope.freq_base",
    "rope.dimension_count",
    "vocab_size",
}
LAYER_TENSORS = {  # GGUF name in a block -> name in a transformers layer
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
UNQUANTISED = {0: "float32", 1: "float16", 32: "bfloat16"}  # general.file_type -> dtype
PLAIN = {"F64", "F32", "F16", "BF16"}  # formats of tensors that lose nothing to blocks of shared scales
NORMAL, CONTROL = 1, 3  # tokenizer.ggml.token_type


def convert(gguf_file: str | Path, folder: str | Path) -> str | None:
    """Write the config, generation_config, model.safetensors, tokenizer and tokenizer_config files into `folder`.

    Returns the formats that the weights had been quantised to, that of most weights first ("Q4_1, Q8_0"), or None.
    InputError where the file is damaged, or holds anything that this module does not reproduce.
    """
    gguf_file, folder = Path(gguf_file), Path(folder)
    metadata, tensors = _read(gguf_file)
    config = _config(metadata, tensors, gguf_file)
    _write_weights(config, tensors, gguf_file, folder / "model.safetensors")
    write_json(folder / "config.json", config)
    ids = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id") if key in config}
    write_json(folder / "generation_config.json", ids)
    _write_tokenizer(metadata, gguf_file, folder)
    return _quantisation(tensors)


def _read(gguf_file: Path) -> tuple[dict, dict]:
    """Metadata by key, and tensors (gguf.ReaderTensor) by name."""
    import gguf

    try:
        reader = gguf.GGUFReader(gguf_file)
    except (ValueError, IndexError, OverflowError) as error:  # what the reader meets in a cut or foreign file
        raise InputError(
            f"{gguf_file.name}: not a whole GGUF file ({error}); expected one of version 2 or 3"
        ) from error
    metadata = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    return metadata, {tensor.name: tensor for tensor in reader.tensors}


def _config(metadata: dict, tensors: dict, gguf_file: Path) -> dict:
    """The transformers config of a Llama model."""

    def get(key: str, default=None):
        value = metadata.get(f"llama.{key}", default)
        if value is None or isinstance(value, list):
            raise InputError(f"{gguf_file.name}: llama.{key}: found {value!r}, expected one number")
        # GGUF keeps float32: its shortest decimal form is the number that the model's author wrote
        return float(str(np.float32(value))) if isinstance(value, float) else value

    architecture = metadata.get("general.architecture")
    if architecture != "llama":
        raise InputError(f"{gguf_file.name}: general.architecture: found {architecture!r}, allowed: 'llama'")
    unknown = {key for key in metadata if key.startswith("llama.")} - {f"llama.{key}" for key in MODEL_KEYS}
    if unknown:
        raise InputError(
            f"{gguf_file.name}: {', '.join(sorted(unknown))}: not reproduced here; use the safetensors model"
        )
    heads = get("attention.head_count")
    head_dim = get("attention.key_length", get("embedding_length") // heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        if get(key, head_dim) != head_dim:
            raise InputError(f"{gguf_file.name}: llama.{key}: found {get(key)}, allowed: the head's size, {head_dim}")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": UNQUANTISED.get(metadata.get("general.file_type"), "bfloat16"),  # nominal: what such models ran in
        "vocab_size": len(metadata.get("tokenizer.ggml.tokens", [])),
        "hidden_size": get("embedding_length"),
        "intermediate_size": get("feed_forward_length"),
        "num_hidden_layers": get("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": get("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": get("context_length"),
        "rms_norm_eps": get("attention.layer_norm_rms_epsilon"),
        "rope_parameters": {"rope_type": "default", "rope_theta": get("rope.freq_base", 10000.0)},
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": "output.weight" not in tensors,
    }
    for name, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding")):
        if f"tokenizer.ggml.{key}_token_id" in metadata:
            config[f"{name}_token_id"] = metadata[f"tokenizer.ggml.{key}_token_id"]
    return config


def _quantisation(tensors: dict) -> str | None:
    held = Counter()
    for tensor in tensors.values():
        held[tensor.tensor_type.name] += int(tensor.n_elements)
    return ", ".join(name for name, _ in held.most_common() if name not in PLAIN) or None


def _write_weights(config: dict, tensors: dict, gguf_file: Path, path: Path) -> None:
    """Dequantise every tensor in float32; shapes are checked against the config by name."""
    import gguf
    from safetensors.numpy import save_file

    hidden, ffn, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads, kv_heads, d = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    in_layer = {
        "attn_norm": (hidden,),
        "attn_q": (heads * d, hidden),
        "attn_k": (kv_heads * d, hidden),
        "attn_v": (kv_heads * d, hidden),
        "attn_output": (hidden, heads * d),
        "ffn_norm": (hidden,),
        "ffn_gate": (ffn, hidden),
        "ffn_up": (ffn, hidden),
        "ffn_down": (hidden, ffn),
    }
    wanted = {
        "token_embd.weight": ("model.embed_tokens.weight", (vocab, hidden)),
        "output_norm.weight": ("model.norm.weight", (hidden,)),
    }
    if not config["tie_word_embeddings"]:
        wanted["output.weight"] = ("lm_head.weight", (vocab, hidden))
    for layer in range(config["num_hidden_layers"]):
        for name, shape in in_layer.items():
            wanted[f"blk.{layer}.{name}.weight"] = (f"model.layers.{layer}.{LAYER_TENSORS[name]}.weight", shape)
    for what, names in (
        ("missing", wanted.keys() - tensors.keys()),
        ("not reproduced here", tensors.keys() - wanted.keys()),
    ):
        if names:
            raise InputError(f"{gguf_file.name}: tensors {what}: {', '.join(sorted(names)[:5])} ({len(names)} in all)")

    weights = {}
    for name, (new_name, shape) in wanted.items():
        array = np.asarray(gguf.dequantize(tensors[name].data, tensors[name].tensor_type), dtype=np.float32)
        if array.shape != shape:
            raise InputError(f"{gguf_file.name}: tensor {name}: shape {array.shape}, expected {shape}")
        if name.endswith(("attn_q.weight", "attn_k.weight")):
            array = array.reshape(-1, d // 2, 2, hidden).swapaxes(1, 2).reshape(shape)
        weights[new_name] = np.ascontiguousarray(array)
    save_file(weights, path, metadata={"format": "pt"})


def _write_tokenizer(metadata: dict, gguf_file: Path, folder: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    def get(key: str, default=None):
        return metadata.get(f"tokenizer.ggml.{key}", default)

    allowed = {
        "model": "gpt2",
        "pre": "smollm",
        "add_bos_token": False,
        "add_eos_token": False,
        "add_space_prefix": False,
    }
    for key, value in allowed.items():
        found = get(key, False if value is False else None)
        if found != value:
            raise InputError(f"{gguf_file.name}: tokenizer.ggml.{key}: found {found!r}, allowed: {value!r}")
    tokens, kinds, merges = get("tokens", []), get("token_type", []), get("merges", [])
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if not merges or len(vocabulary) != len(tokens) or len(kinds) != len(tokens):
        raise InputError(
            f"{gguf_file.name}: tokenizer.ggml: found {len(tokens)} tokens ({len(vocabulary)} different), {len(kinds)} "
            f"token types and {len(merges)} merges; expected as many types as tokens, no token twice, and merges"
        )
    foreign = sorted(set(kinds) - {NORMAL, CONTROL})
    if foreign:
        raise InputError(f"{gguf_file.name}: tokenizer.ggml.token_type: found {foreign}, allowed: {NORMAL}, {CONTROL}")

    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[tuple(merge.split(" ")) for merge in merges]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    specials = [token for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL]
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)

    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": metadata["llama.context_length"],
        "clean_up_tokenization_spaces": False,
    }
    for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        if get(f"{key}_token_id") is not None:
            settings[f"{name}_token"] = tokens[get(f"{key}_token_id")]
    if "tokenizer.chat_template" in metadata:
        settings["chat_template"] = metadata["tokenizer.chat_template"]
    write_json(folder / "tokenizer_config.json", settings)
