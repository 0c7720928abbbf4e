"""Tiny hub-like folders of the models that the overlays name: each family's config.json as the hub has it, small width.

The keys, their spelling (transformers 4's rope_theta and rope_scaling, torch_dtype, text_config, ...) and the structure
(layers, heads, KV heads, ties, biases, sliding windows) are those of the released models; hidden size, head dimension
and vocabulary are small, the weights random and in several safetensors files.
"""

import hashlib
import json
from pathlib import Path

import torch
import yaml

from conftest import ROOT
from hub import COMMIT
from tiny import CHAT_TEMPLATE, make_tokenizer

HEAD_DIM, HIDDEN, FFN = 8, 64, 64
LLAMA3 = {
    "factor": 8.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}


def structure(layers: int, heads: int, kv_heads: int, named: bool = True) -> dict:
    """What every config.json names, at a small width; `named`: head_dim too, else it is hidden size / heads."""
    width = {"hidden_size": HIDDEN, "head_dim": HEAD_DIM} if named else {"hidden_size": heads * HEAD_DIM}
    return width | {
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": FFN,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "initializer_range": 0.02,
        "attention_dropout": 0.0,
    }


def llama(layers, heads, kv_heads, **more) -> dict:
    return (
        structure(layers, heads, kv_heads, named=False)
        | {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "attention_bias": False,
            "mlp_bias": False,
            "hidden_act": "silu",
            "max_position_embeddings": 131072,
            "pretraining_tp": 1,
            "rms_norm_eps": 1e-05,
            "rope_scaling": LLAMA3,
            "rope_theta": 500000.0,
            "tie_word_embeddings": False,
        }
        | more
    )


def smollm2(layers, heads, kv_heads) -> dict:
    return llama(layers, heads, kv_heads, rope_scaling=None, rope_theta=100000, max_position_embeddings=8192) | {
        "tie_word_embeddings": True,
        "rope_interleaved": False,
        "is_llama_config": True,
    }


def olmo2(layers, heads, kv_heads, **more) -> dict:
    return (
        structure(layers, heads, kv_heads, named=False)
        | {
            "architectures": ["Olmo2ForCausalLM"],
            "model_type": "olmo2",
            "attention_bias": False,
            "hidden_act": "silu",
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-06,
            "rope_scaling": None,
            "rope_theta": 500000,
            "tie_word_embeddings": False,
        }
        | more
    )


def qwen(version: int, layers, heads, kv_heads, tied: bool) -> dict:
    return (
        structure(layers, heads, kv_heads, named=version == 3)
        | {
            "architectures": [f"Qwen{version}ForCausalLM"],
            "model_type": f"qwen{version}",
            "hidden_act": "silu",
            "max_position_embeddings": 32768,
            "max_window_layers": layers,
            "rms_norm_eps": 1e-06,
            "rope_theta": 1000000.0,
            "sliding_window": None if version == 3 else 131072,
            "use_sliding_window": False,
            "tie_word_embeddings": tied,
        }
        | ({"attention_bias": False, "rope_scaling": None} if version == 3 else {"use_mrope": False})
    )


def gemma2(layers, heads, kv_heads) -> dict:
    return structure(layers, heads, kv_heads) | {
        "architectures": ["Gemma2ForCausalLM"],
        "model_type": "gemma2",
        "attention_bias": False,
        "attn_logit_softcapping": 50.0,
        "cache_implementation": "hybrid",
        "final_logit_softcapping": 30.0,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 8192,
        "query_pre_attn_scalar": HEAD_DIM,
        "rms_norm_eps": 1e-06,
        "rope_theta": 10000.0,
        "sliding_window": 4096,
        "sliding_window_size": 4096,
    }


def gemma3_text(layers, heads, kv_heads) -> dict:
    return structure(layers, heads, kv_heads) | {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "attention_bias": False,
        "attn_logit_softcapping": None,
        "cache_implementation": "hybrid",
        "final_logit_softcapping": None,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 32768,
        "query_pre_attn_scalar": HEAD_DIM,
        "rms_norm_eps": 1e-06,
        "rope_local_base_freq": 10000,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window": 512,
        "sliding_window_pattern": 6,
    }


def gemma3(layers, heads, kv_heads) -> dict:
    """Text and images: the language model's keys are in text_config."""
    text = gemma3_text(layers, heads, kv_heads) | {"rope_scaling": {"factor": 8.0, "rope_type": "linear"}}
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    return {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "text_config": {key: value for key, value in text.items() if key not in ("architectures", "torch_dtype")},
        "vision_config": vision | {"image_size": 28, "model_type": "siglip_vision_model", "patch_size": 14},
        "mm_tokens_per_image": 4,
        "torch_dtype": "bfloat16",
    }


def mistral(layers, heads, kv_heads) -> dict:
    return structure(layers, heads, kv_heads) | {
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-05,
        "rope_theta": 1000000.0,
        "sliding_window": None,
        "tie_word_embeddings": False,
    }


# name in the overlays: (config.json, whether the released tokenizer has a chat template)
MODELS = {
    "llama31-8b": (llama(32, 32, 8), False),
    "llama31-8b-instruct": (llama(32, 32, 8), True),
    "llama31-8b-nf4": (llama(32, 32, 8), False),
    "llama31-8b-instruct-nf4": (llama(32, 32, 8), True),
    "llama31-70b": (llama(80, 64, 8, hidden_size=HIDDEN, head_dim=HEAD_DIM), False),
    "llama32-1b": (llama(16, 32, 8, rope_scaling=LLAMA3 | {"factor": 32.0}, tie_word_embeddings=True), False),
    "llama32-3b": (llama(28, 24, 8, rope_scaling=LLAMA3 | {"factor": 32.0}, tie_word_embeddings=True), False),
    "mistral-7b": (mistral(32, 32, 8), False),
    "qwen25-1.5b": (qwen(2, 28, 12, 2, tied=True), True),
    "qwen25-7b": (qwen(2, 28, 28, 4, tied=False), True),
    "qwen3-1.7b": (qwen(3, 28, 16, 8, tied=True), True),
    "qwen3-8b": (qwen(3, 36, 32, 8, tied=False), True),
    "gemma2-2b": (gemma2(26, 8, 4), False),
    "gemma2-9b": (gemma2(42, 16, 8), False),
    "gemma3-4b": (gemma3(34, 8, 4), False),
    "gemma3-1b": (gemma3_text(26, 4, 1), False),
    "smollm2-360m": (smollm2(32, 15, 5), False),
    "smollm2-1.7b": (smollm2(24, 32, 32), False),
    "olmo2-1b": (olmo2(16, 16, 16), False),
    "olmo2-1b-sft": (olmo2(16, 16, 16), True),
    "olmo2-1b-instruct": (olmo2(16, 16, 16), True),
    "olmo2-7b": (olmo2(32, 32, 32), False),
    "olmo2-32b": (olmo2(64, 40, 8), False),
    "olmo2-7b-sft": (olmo2(32, 32, 32), True),
    "olmo2-7b-instruct": (olmo2(32, 32, 32), True),
}
# The default study's model as the hub has it, and four of its layers.
SMOLLM2 = {"smollm2-135m-hub": (smollm2(30, 9, 3), True), "smollm2-4-layers": (smollm2(4, 9, 3), True)}
KNOWN = MODELS | SMOLLM2


def overlay(name: str) -> dict:
    return yaml.safe_load((ROOT / f"config/{name}.yaml").read_text(encoding="utf-8"))


def small_geometry(name: str, geometry: dict) -> dict:
    """An overlay's geometry at the width of these folders: layers and heads stay as the overlay has them."""
    raw = KNOWN[name][0]
    hidden = raw.get("text_config", raw)["hidden_size"]
    return geometry | {"head_dim": HEAD_DIM, "hidden": hidden, "ffn": FFN, "vocab": len(make_tokenizer())}


def make_cache(home: Path, entries: dict[str, str]) -> dict[str, str]:
    """Fill a hub cache under `home`, in the client's own layout; entries: {model: "ORG/NAME"}. Its environment."""
    for number, (name, repository) in enumerate(entries.items()):
        place = home / "hub" / f"models--{repository.replace('/', '--')}"
        if place.exists():  # two entries of one model
            continue
        snapshot, blobs = place / "snapshots" / COMMIT, place / "blobs"
        for folder in (snapshot, blobs, place / "refs"):
            folder.mkdir(parents=True)
        made = make_repository(name, home / "made" / name, seed=number)
        for file in sorted(made.iterdir()):
            blob = blobs / hashlib.sha256(file.read_bytes()).hexdigest()
            file.rename(blob)
            (snapshot / file.name).symlink_to(Path("../..") / "blobs" / blob.name)
        (place / "refs/main").write_text(COMMIT)
    return {"HF_HUB_CACHE": str(home / "hub"), "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}


def make_repository(name: str, folder: Path, seed: int = 0) -> Path:
    """Write the tiny repository of a model to `folder`: config.json, safetensors in several files, tokenizer."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    raw, has_template = KNOWN[name]
    tokenizer = make_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE if has_template else None
    numbers = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.convert_tokens_to_ids("<|im_start|>"),
        "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
    }
    raw = json.loads(json.dumps(raw))
    raw.get("text_config", raw).update(numbers)
    config = CONFIG_MAPPING[raw["model_type"]].from_dict(raw)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(std=2 / parameter.shape[1] ** 0.5)
    model.save_pretrained(folder, max_shard_size="900KB")
    (folder / "config.json").write_text(json.dumps(raw))  # as the hub has it, not as this transformers would write it
    tokenizer.save_pretrained(folder)
    return folder
