"""Packed rows do not leak, LoRA computes in the base model's dtype: losses and gradients equal the plain way's."""

from contextlib import ExitStack, nullcontext

import pytest
import torch

from colocate import fitting, lora_compute, models, packed_attention
from colocate.budget import AdapterSpec
from colocate.errors import InputError
from tiny import make_tokenizer
from toy_training import TARGETS, arm, gradients, load, run

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = AdapterSpec((0, 2), (1,), 4, 8, TARGETS)


def family(name: str, folder):
    """Folder of a tiny random model of a family with the toy tokenizer."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "head_dim": 8, "vocab_size": len(make_tokenizer()), "pad_token_id": 0}
    special = {
        "mistral": {"sliding_window": 16},
        "gemma3_text": {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"] * 2},
        "olmo3": {"sliding_window": 16},
        "mixtral": {"num_local_experts": 2, "num_experts_per_tok": 1},
        "gpt_oss": {"num_local_experts": 2, "num_experts_per_tok": 1},
    }
    if name == "gemma3_text":
        sizes["num_hidden_layers"] = 4
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[name](**sizes | special.get(name, {})))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(4)
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


FAMILIES = ["llama", "mistral", "mixtral", "gemma2", "gemma3_text", "qwen3", "olmo3", "granite", "cohere2", "glm"]


@pytest.mark.parametrize("way", ["one example at a time", "masked row"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_packed_row_is_its_examples_apart(name, way, mixture, tmp_path):
    """Losses and every gradient of a row of four examples, and of four rows of one through the family's own code.

    The examples are longer than the sliding windows.
    """
    folder = family(name, tmp_path)
    results = []
    for packed in (True, False):
        model, one = load(folder, mixture, AdapterSpec((0, 2), (), 4, 8, ("q_proj", "o_proj")), packing=packed)
        row = one.data["train"][:4]
        assert min(len(example.ids) for example in row) > 16
        model.eval()
        inner = packed_attention.per_example(model) if packed and way != "masked row" else nullcontext()
        with inner:
            losses = [fitting.losses_of(model, part, "cpu") for part in one.rows(row)]
            torch.cat(losses).sum().backward()
        assert len(losses) == (1 if packed else 4)
        results.append((torch.cat(losses).detach(), gradients(model)))
    (losses, found), (apart, expected) = results
    torch.testing.assert_close(losses, apart, rtol=1e-4, atol=1e-5)
    for key in expected:
        scale = expected[key].abs().max().item()
        torch.testing.assert_close(found[key], expected[key], rtol=1e-3, atol=1e-4 * max(scale, 1e-3), msg=key)


def test_one_example_at_a_time_is_used_where_it_can_be(tiny_llama, mixture, monkeypatch):
    calls = []
    attend = packed_attention._attend
    monkeypatch.setattr(
        packed_attention, "_attend", lambda *args, **options: calls.append(1) or attend(*args, **options)
    )
    model, one = load(tiny_llama, mixture, SPEC)
    with packed_attention.per_example(model):
        fitting.losses_of(model, one.data["train"][:3], "cpu")
    assert len(calls) == 4  # layers
    assert model.get_base_model().config._attn_implementation == "sdpa"
    fitting.losses_of(model, one.data["train"][:3], "cpu")
    assert len(calls) == 4


@pytest.mark.parametrize("packing", [True, False])
def test_a_family_whose_packing_leaks_is_refused(packing, mixture, tmp_path):
    """gpt-oss makes its masks without looking at positions."""
    folder = family("gpt_oss", tmp_path / "model")
    resolved = arm(folder, (1,), (0,), targets=("q_proj",))
    if not packing:
        run(folder, mixture, tmp_path, resolved=resolved, max_tokens=300, packing=False)
        return
    says = r"training.packing: found true, .*a neighbour moves a loss by 0.* nat\): set training.packing to false"
    with pytest.raises(InputError, match=says):
        run(folder, mixture, tmp_path, resolved=resolved, max_tokens=300)


# --------------------------------------------------------------------------------------------------- LoRA in bfloat16


def step(folder, mixture, spec, *contexts, dtype="bfloat16"):
    model, one = load(folder, mixture, spec, dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # else A has no gradient
                parameter.normal_(std=0.05)
    with ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context(model))
        return fitting.accumulate(model, one, one.data["train"][:6]), gradients(model)


def test_lora_in_bfloat16_has_float32_gradients_close_to_peft_s(tiny_llama, mixture):
    torch.manual_seed(0)
    loss, plain = step(tiny_llama, mixture, SPEC)
    torch.manual_seed(0)
    narrow, found = step(tiny_llama, mixture, SPEC, lora_compute.in_base_dtype)
    assert narrow == pytest.approx(loss, abs=0.02)
    for name, gradient in plain.items():
        assert found[name].dtype == torch.float32
        cosine = torch.nn.functional.cosine_similarity(found[name].flatten(), gradient.flatten(), dim=0)
        assert cosine > 0.98, name
    assert any(not torch.equal(found[name], gradient) for name, gradient in plain.items())


@pytest.mark.parametrize("variant", ["lora", "dora"])
def test_other_dtypes_and_dora_keep_peft_s_way(tiny_llama, mixture, variant):
    spec = AdapterSpec((0, 2), (), 4, 8, TARGETS, variant=variant)
    dtype = "float32" if variant == "lora" else "bfloat16"
    loss, plain = step(tiny_llama, mixture, spec, dtype=dtype)
    same, found = step(tiny_llama, mixture, spec, lora_compute.in_base_dtype, dtype=dtype)
    assert same == loss
    for name, gradient in plain.items():
        assert torch.equal(found[name], gradient), name


def test_peft_s_own_forward_is_back_afterwards(tiny_llama, mixture):
    model, _ = load(tiny_llama, mixture, SPEC, "bfloat16")
    with lora_compute.in_base_dtype(model):
        pass
    layers = [module for module in model.modules() if hasattr(module, "lora_A")]
    assert all(layer.cast_input_dtype_enabled for layer in layers)
    assert not any("forward" in vars(layer.lora_A["default"]) for layer in layers)


def test_the_base_model_s_own_dropout_stays_off(mixture, tmp_path):
    """StarCoder 2 drops attention weights and residuals in training."""
    from transformers import Starcoder2Config, Starcoder2ForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    drops = {"attention_dropout": 0.5, "residual_dropout": 0.5, "embedding_dropout": 0.5}
    Starcoder2ForCausalLM(
        Starcoder2Config(vocab_size=len(make_tokenizer()), num_key_value_heads=2, **sizes, **drops)
    ).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    model, one = load(tmp_path, mixture, AdapterSpec((1,), (), 4, 8, ("q_proj",), dropout=0.5))
    losses = []
    for training in (False, True, True):
        fitting.set_mode(model, training)
        torch.nn.init.ones_(models.decoder_layers(model)[1].self_attn.q_proj.lora_B["default"].weight)
        losses.append(fitting.losses_of(model, one.data["train"][:2], "cpu").detach())
    assert not torch.equal(losses[1], losses[2])  # LoRA's own dropout
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    fitting.set_mode(model, training=True)
    assert torch.equal(fitting.losses_of(model, one.data["train"][:2], "cpu").detach(), losses[0])
