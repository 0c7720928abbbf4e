"""The matrix of families that GARFA is tested on, as tiny random models: what each is, and how to build and fill it."""

import copy

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM

from colocate.adapters import AdapterSpec
from colocate.rope import add_rope_scale, rope_layers
from colocate.temperature import add_logit_scale

torch.set_num_threads(1)

HEADS, KV_HEADS, HEAD_DIM, LAYERS, THETA = 4, 2, 16, 4, 5000.0
PLAIN = {"rope_type": "default", "rope_theta": THETA}
GEOMETRY = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD_DIM,
    "max_position_embeddings": 256,
    "rope_parameters": PLAIN,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
BY_TYPE = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 300.0},
    "full_attention": {"rope_type": "default", "rope_theta": THETA},
}
SLIDING = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"] * 2}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": THETA,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": THETA,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
    "truncate": False,
}
LONG = {
    "rope_type": "longrope",
    "rope_theta": THETA,
    "short_factor": [1.0 + 0.1 * i for i in range(8)],
    "long_factor": [2.0 + 0.2 * i for i in range(8)],
    "original_max_position_embeddings": 16,
    "factor": 16.0,
}
MOE = {"num_local_experts": 2, "num_experts_per_tok": 1}

# name: (config class, what differs from GEOMETRY)
FAMILIES = {
    "llama": ("Llama", {}),
    "llama_mqa": ("Llama", {"num_key_value_heads": 1}),
    "llama_mha": ("Llama", {"num_key_value_heads": HEADS}),
    "llama_llama3": ("Llama", {"rope_parameters": LLAMA3}),
    "llama_linear": ("Llama", {"rope_parameters": PLAIN | {"rope_type": "linear", "factor": 4.0}}),
    "llama_dynamic": ("Llama", {"rope_parameters": PLAIN | {"rope_type": "dynamic", "factor": 2.0}}),
    "mistral": ("Mistral", {}),
    "mixtral": ("Mixtral", MOE),
    "qwen2": ("Qwen2", {}),
    "qwen2_yarn": ("Qwen2", {"rope_parameters": YARN}),
    "qwen3": ("Qwen3", {}),
    "gemma": ("Gemma", {}),
    "gemma2": ("Gemma2", {"sliding_window": 8}),
    "gemma3": ("Gemma3Text", SLIDING | {"rope_parameters": BY_TYPE}),
    "olmo2": ("Olmo2", {}),
    "olmo3": ("Olmo3", SLIDING | {"rope_parameters": BY_TYPE}),
    "phi3": ("Phi3", {"rope_parameters": PLAIN | {"partial_rotary_factor": 0.5}}),
    "phi3_longrope": ("Phi3", {"rope_parameters": LONG, "original_max_position_embeddings": 16}),
    "smollm3": ("SmolLM3", {}),
    "granite": ("Granite", {}),
    "cohere": ("Cohere", {}),
    "cohere2": ("Cohere2", SLIDING),
    "glm": ("Glm", {"rope_parameters": PLAIN | {"partial_rotary_factor": 0.5}}),
    "glm4": ("Glm4", {"rope_parameters": PLAIN | {"partial_rotary_factor": 0.5}}),
    "starcoder2": ("Starcoder2", {}),
    "gpt_oss": ("GptOss", SLIDING | MOE),
    "ernie4_5": ("Ernie4_5", {}),
    "exaone4": ("Exaone4", SLIDING),
}
NEIGHBOURS = {"cohere", "cohere2", "glm", "glm4", "ernie4_5"}  # pair i is (2i, 2i+1); elsewhere (i, i + d/2)
EAGER_ONLY = {"gemma2", "gpt_oss"}  # transformers offers no sdpa for them
TARGETS = {
    "phi3": ("qkv_proj", "o_proj", "down_proj"),
    "starcoder2": ("q_proj", "o_proj", "c_fc"),
}  # else q_proj, o_proj
WITHOUT_ROPE = {"smollm3": {3}, "cohere2": {1, 3}, "exaone4": {1, 3}}


def build(name: str, dtype=torch.float32, attention: str = "eager", **changes):
    """A tiny random model of a family, its weights large enough that logits differ clearly."""
    kind, differences = FAMILIES[name]
    config = getattr(transformers, f"{kind}Config")(**copy.deepcopy(GEOMETRY | differences | changes))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    return model.eval()


def attentions(model) -> list:
    return [layer.self_attn for layer in model.get_decoder().layers]


def draw_alphas(model, seed: int = 1) -> dict[int, np.ndarray]:
    """Add alphas to every layer with RoPE, log alpha between -1 and 1; returns {layer: alpha (K,)} in float64."""
    add_rope_scale(model, rope_layers(model))
    return _draw(model, "rope_scale", seed)


def draw_temperatures(model, seed: int = 2) -> dict[int, np.ndarray]:
    """Add logit temperatures to every layer with RoPE, their logarithms between -1 and 1; returns {layer: (K,)}."""
    add_logit_scale(model, rope_layers(model))
    return _draw(model, "logit_scale", seed)


def _draw(model, child: str, seed: int) -> dict[int, np.ndarray]:
    generator = torch.Generator().manual_seed(seed)
    drawn = {}
    for layer in rope_layers(model):
        (logarithm,) = getattr(attentions(model)[layer], child).parameters()
        logarithm.data.copy_(2 * torch.rand(logarithm.shape, generator=generator) - 1)
        drawn[layer] = np.exp(logarithm.detach().double().numpy())
    return drawn


def some_ids(rows: int = 2, length: int = 20, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, 96, (rows, length), generator=torch.Generator().manual_seed(seed))


def spec_for(name: str, lora=(1, 3), garfa=(0, 2), **settings) -> AdapterSpec:
    targets = TARGETS.get(name.split("_")[0], ("q_proj", "o_proj"))
    return AdapterSpec(lora, garfa, **({"rank": 4, "alpha": 8, "targets": targets} | settings))


def trainable(model) -> dict[str, torch.Tensor]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def shake(model, seed: int = 0) -> None:
    """Give every adapter tensor values as after some training."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in trainable(model).values():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model(input_ids=some_ids(), use_cache=False).logits


def check_gradients(model, parameters: list, step: float = 1e-2) -> None:
    """Compare the gradient of the next-token loss in every number of `parameters` with a central difference."""
    ids = some_ids()

    def loss():
        return torch.nn.functional.cross_entropy(model(ids[:, :-1]).logits.flatten(0, 1), ids[:, 1:].flatten())

    loss().backward()
    for parameter in parameters:
        for i in range(len(parameter)):
            values = []
            for sign in (1, -1):
                with torch.no_grad():
                    parameter[i] += sign * step
                    values.append(loss().item())
                    parameter[i] -= sign * step
            numeric = (values[0] - values[1]) / (2 * step)
            assert abs(parameter.grad[i].item() - numeric) < max(5e-3 * abs(numeric), 1e-6)
