"""A trained arm of the tiny model, and its layers written out in float64: for tests of metrics of two models."""

import copy

import numpy as np
import torch

from colocate.models import load_model
from colocate.pairs import Pair
from colocate.profiles import compute
from reference_states import layer_states
from tiny import make_tokenizer

WORDS = "apple bread cloud drum eagle fox glass hill ink jar kite lamp".split()
PAIRS = [Pair(word, "words", "en", f"The {word} is", f" {WORDS[i - 1]}", " x", " y") for i, word in enumerate(WORDS)]
DATA = {"pairs": PAIRS, "paraphrases": [], "texts": []}
SETTINGS = {"seed": 0, "batch_tokens": 100}
POOLS = ("all", "skip_first", "answer", "unit")


def lora_model(folder, layers: list[int], scale: float, **options):
    """LoRA on q_proj and down_proj of chosen layers, B random of size `scale` (0: as before training)."""
    from peft import LoraConfig, get_peft_model

    torch.set_num_threads(1)
    targets = ["q_proj", "down_proj"]
    config = LoraConfig(r=4, lora_alpha=12, target_modules=targets, layers_to_transform=layers, **options)
    model = get_peft_model(load_model(folder, "float32", "cpu"), config).eval()
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            parameter.data = (0.2 if "lora_A" in name else scale) * torch.randn_like(parameter)
    return model


def hidden_states(model) -> list[np.ndarray]:
    """(L, T, D) float64 of the right text of each of PAIRS."""
    model = copy.deepcopy(model).double()
    return [layer_states(model, pair.prompt, pair.correct)[0][1:] for pair in PAIRS]


def pooled(rows: list[np.ndarray], pool: str) -> np.ndarray:
    """(L, n, D), written out."""
    if pool == "unit":
        rows = [row / np.linalg.norm(row, axis=2, keepdims=True) for row in rows]
    starts = {"answer": [len(pair.prompt) for pair in PAIRS]}.get(pool, [int(pool == "skip_first")] * len(rows))
    return np.stack([row[:, start:].mean(axis=1) for row, start in zip(rows, starts, strict=True)], axis=1)


def variants_of(metric: str, model, **settings):
    return compute(metric, model, make_tokenizer(), SETTINGS | settings, DATA).variants


def values_of(variants, name: str) -> np.ndarray:
    """A variant's profile."""
    return variants[variants["variant"] == name].groupby("layer")["value"].mean().to_numpy()
