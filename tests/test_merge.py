"""Merging an adapter into its base: the ordinary model that comes out, and what cannot be merged."""

import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from colocate import adapters, models
from colocate.budget import VARIANTS, AdapterSpec
from colocate.errors import InputError
from colocate.merge import main, merge
from families import shake

IDS = torch.arange(3, 43)[None]


def save_arm(base, folder, **settings) -> torch.Tensor:
    """Save a shaken adapter of the model in `base`; returns the adapted model's logits in float32."""
    settings = {"lora_layers": (1, 3), "rank": {1: 2, 3: 5}, "alpha": 6, "targets": ("q_proj", "o_proj")} | settings
    model = adapters.adapt(models.load_model(base, "float32", "cpu"), AdapterSpec(**settings))
    shake(model)
    adapters.save(model, folder)
    with torch.no_grad():
        return model(input_ids=IDS).logits


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_merged_model_is_an_ordinary_one(variant, tiny_llama, tmp_path):
    adapted = save_arm(tiny_llama, tmp_path / "adapter", variant=variant)
    merge(tiny_llama, tmp_path / "adapter", tmp_path / "merged")
    stock = AutoModelForCausalLM.from_pretrained(tiny_llama)
    merged, info = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    with torch.no_grad():
        torch.testing.assert_close(merged(IDS).logits, adapted, rtol=0, atol=1e-5 * float(adapted.abs().max()))
        assert not torch.allclose(stock(IDS).logits, adapted, atol=1e-2)
    changed = {key for key, value in merged.state_dict().items() if not torch.equal(value, stock.get_parameter(key))}
    assert changed == {f"model.layers.{i}.self_attn.{name}.weight" for i in (1, 3) for name in ("q_proj", "o_proj")}
    text = "Twelve  cats, 2024!"
    there, here = (models.load_tokenizer(folder)(text)["input_ids"] for folder in (tmp_path / "merged", tiny_llama))
    assert there == here
    assert models.read_geometry(tmp_path / "merged")["n_params"] == models.read_geometry(tiny_llama)["n_params"]
    assert not list(tmp_path.glob(".*")), "nothing private is left"


@pytest.mark.parametrize(
    ("stored", "dtype", "expected"),
    [
        ("bfloat16", "auto", torch.bfloat16),
        ("bfloat16", "float32", torch.float32),
        ("float32", "bfloat16", torch.bfloat16),
    ],
)
def test_weights_are_rounded_once(stored, dtype, expected, tiny_llama, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=getattr(torch, stored))
    model.save_pretrained(tmp_path / "base")
    save_arm(tmp_path / "base", tmp_path / "adapter")
    merge(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged", dtype)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto")
    assert {value.dtype for value in merged.state_dict().values()} == {expected}
    tensors = adapters.load(models.load_model(tmp_path / "base", "float32", "cpu"), tmp_path / "adapter")
    module = tensors.get_base_model().model.layers[3].self_attn.o_proj
    exact = module.base_layer.weight + 6 / 5 * (module.lora_B["default"].weight @ module.lora_A["default"].weight)
    found = merged.model.layers[3].self_attn.o_proj.weight
    step = 2.0 ** (-8 if expected == torch.bfloat16 else -22)  # half a unit in the last place, relative
    assert ((found.double() - exact.double()).abs() <= step * exact.abs().double() + 1e-7).all()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"garfa_layers": (0, 2)}, r"has GARFA in layers \[0, 2\], which change the way attention works"),
        ({"temperature_layers": (1,)}, r"has logit temperatures in layers \[1\], .* use colocate.adapters.load"),
    ],
)
def test_garfa_and_temperatures_cannot_be_merged(settings, reason, tiny_llama, tmp_path):
    save_arm(tiny_llama, tmp_path / "adapter", **settings)
    with pytest.raises(InputError, match=reason):
        merge(tiny_llama, tmp_path / "adapter", tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_refusals_and_the_command_line(tiny_llama, tmp_path, monkeypatch):
    save_arm(tiny_llama, tmp_path / "adapter")
    with pytest.raises(InputError, match="dtype: found 'nf4', allowed: auto, float32"):
        merge(tiny_llama, tmp_path / "adapter", tmp_path / "merged", "nf4")
    with pytest.raises(InputError, match="no such file; expected an adapter folder"):
        merge(tiny_llama, tiny_llama, tmp_path / "merged")
    folders = [str(folder) for folder in (tiny_llama, tmp_path / "adapter", tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["merge", *folders, "--dtype", "bfloat16"])
    main()
    merged = (tmp_path / "out/model.safetensors").read_bytes()
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").dtype == torch.bfloat16
    with pytest.raises(SystemExit, match="Error: .*out: exists already; name a new folder"):
        main()
    assert (tmp_path / "out/model.safetensors").read_bytes() == merged


def test_the_documented_lines_work(tiny_llama, tmp_path, monkeypatch, capsys):
    """Every Python block and the merge command of docs/adapters.md, with a tiny model in the places that they name."""
    docs = (Path(__file__).parents[1] / "docs/adapters.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", docs, re.DOTALL)
    lines = [[line for line in block.splitlines() if line] for block in blocks[:2]]
    assert list(map(len, lines)) == [5, 5], "an arm is used in five lines"
    place = tmp_path / "results/smollm2/smollm2-135m/adapters"
    save_arm(tiny_llama, place / "colocated/seed0", garfa_layers=(1, 3))
    save_arm(tiny_llama, place / "standard_lora/seed0")
    (tmp_path / "resources/models").mkdir(parents=True)
    (tmp_path / "resources/models/smollm2-135m").symlink_to(tiny_llama)
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(block, {})
    assert "[0, 1, 2, 3]" in capsys.readouterr().out
    block = re.search(r"```\w*\npython -m colocate.merge (.*?)```", docs, re.DOTALL).group(1)
    command = block.replace("\\\n", "").split()
    merge(*command)
    assert AutoModelForCausalLM.from_pretrained(command[2]).config.num_hidden_layers == 4
