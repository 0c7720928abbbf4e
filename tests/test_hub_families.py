"""Models as the hub has them, tiny: each family's own config keys through fetch, loader, profiles and adapters."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from colocate import adapters, downloads, instructions, models, preparation, profiles, rope
from colocate.errors import InputError
from colocate.geometry import read_geometry
from colocate.profiles.data import read_data
from conftest import ROOT
from hub import COMMIT, client, serve
from hub_models import MODELS, make_cache, make_repository, overlay, small_geometry
from tiny import edit_config, make_model

OVERLAYS = ("llama31-8b", "olmo2", "families")
ENTRIES = {name: entry for study in OVERLAYS for name, entry in overlay(study)["models"].items()}
FAMILIES = [  # one model of each family and size class that differs in more than numbers
    *("llama31-8b-instruct", "llama32-1b", "mistral-7b", "qwen25-1.5b", "qwen25-7b", "qwen3-1.7b", "gemma2-2b"),
    *("gemma3-1b", "gemma3-4b", "smollm2-360m", "smollm2-1.7b", "olmo2-1b"),
]

pytestmark = pytest.mark.usefixtures("one_thread")


def prepared(name: str, folder):
    """The tiny model of an overlay's entry, fetched out of a hub cache as `hf:` and prepared."""
    source, download = ENTRIES[name]["source"], folder / "download"
    environment = make_cache(folder / "home", {name: source.removeprefix("hf:")})
    code = f"from colocate.downloads import fetch_model; fetch_model({source!r}, {str(download)!r}, revision='main')"
    with serve(folder, "none") as server:  # never asked
        done = client(server, folder / "home", code, **environment)
        assert done.returncode == 0, done.stderr[-2000:]
        assert not server.served
    geometry = small_geometry(name, ENTRIES[name]["geometry"])
    manifest = preparation.prepare_model(source, download, folder / "model", geometry=geometry)
    assert manifest["revision"] == COMMIT
    return folder / "model"


def test_every_model_of_the_overlays_has_a_tiny_one_with_its_layers_and_heads():
    assert set(ENTRIES) == set(MODELS)
    for name, (raw, _) in MODELS.items():
        text, geometry = raw.get("text_config", raw), ENTRIES[name]["geometry"]
        keys = {"n_layers": "num_hidden_layers", "n_heads": "num_attention_heads", "n_kv_heads": "num_key_value_heads"}
        assert {key: geometry[key] for key in keys} == {key: text[other] for key, other in keys.items()}, name


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_of_the_hub_goes_through_loader_profiles_and_adapters(name, tmp_path):
    folder = prepared(name, tmp_path)
    geometry, raw = read_geometry(folder), MODELS[name][0]
    assert len(list(folder.glob("*.safetensors"))) > 1
    model, tokenizer = models.load_model(folder, "float32", "cpu", geometry=geometry), models.load_tokenizer(folder)
    ids = torch.tensor([tokenizer("What is 3 + 4?").input_ids])
    stock = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    with torch.no_grad():
        expected = stock(input_ids=ids).logits
        assert torch.equal(model(input_ids=ids).logits, expected)
    # Ties and biases are those of the config.
    tied = raw.get("tie_word_embeddings", raw["model_type"].startswith("gemma"))
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied
    linear = models.decoder_layers(model)[0].self_attn.q_proj
    assert (linear.bias is not None) == (raw["model_type"] == "qwen2")
    assert geometry["rope_layers"] == rope.rope_layers(model)
    # A profile of each primary kind.
    files = [ROOT / f"data/pairs/{part}.jsonl" for part in ("tasks", "paraphrases", "texts")]
    data = read_data(files[:1], files[1], 2, files[2], None, tokenizer)
    for settings in (
        {"metric": "sensitivity", "pool": "all"},
        {"metric": "rope_influence", "method": "local", "text_tokens": 32, "max_texts": 1},
    ):
        found = profiles.compute(settings["metric"], model, tokenizer, settings | {"seed": 0}, data, lambda *_: None)
        assert found.profile["value"].tolist() == found.profile["value"].abs().tolist()
        assert len(found.profile) == geometry["n_layers"]
    # LoRA and GARFA on the last layers: nothing at the start, saved and loaded.
    last = geometry["rope_layers"][-2:]
    spec = adapters.AdapterSpec(tuple(last), tuple(last), 2, 4, ("q_proj", "down_proj"))
    adapted = adapters.adapt(model, spec).eval()
    with torch.no_grad():
        assert torch.allclose(adapted(input_ids=ids).logits, expected, atol=1e-5)
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)
        moved = adapted(input_ids=ids).logits
    assert not torch.allclose(moved, expected, atol=1e-3)
    adapters.save(adapted, tmp_path / "adapter")
    loaded = adapters.load(models.load_model(folder, "float32", "cpu"), tmp_path / "adapter")
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=ids).logits, moved)


@pytest.mark.parametrize("name", ["llama31-8b", "llama31-8b-instruct"])
def test_the_chat_template_is_the_tokenizers_or_a_plain_one(name, tmp_path):
    repository = make_repository(name, tmp_path / "repository")
    tokenizer = models.load_tokenizer(repository)
    turns = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]
    text = tokenizer.decode(instructions.encode_example(tokenizer, turns)[0])
    assert ("<|im_start|>user" in text) == MODELS[name][1]
    assert ("Question: 2 + 2?" in text) == (not MODELS[name][1])


def test_what_the_cache_lacks_is_named_where_the_machine_is_offline(tmp_path):
    environment = make_cache(tmp_path / "home", {})
    code = f"from colocate.downloads import fetch_model; fetch_model('hf:org/absent', {str(tmp_path / 'out')!r})"
    with serve(tmp_path, "none") as server:
        said = client(server, tmp_path / "home", code, **environment).stderr
    assert (
        "InputError: hf:org/absent, revision main: not in the hub's cache on this machine, and HF_HUB_OFFLINE" in said
    )
    assert not (tmp_path / "out").exists()


def test_a_gated_family_says_whose_terms_to_accept(tmp_path):
    repository = make_repository("llama32-1b", tmp_path / "repository")
    out = str(tmp_path / "out")
    code = f"from colocate.downloads import fetch_model; fetch_model('hf:meta-llama/Llama-3.2-1B', {out!r})"
    with serve(repository, "meta-llama/Llama-3.2-1B") as server:
        server.gated = "secret"
        refused = client(server, tmp_path / "home", code).stderr
        assert "gated: accept its terms on https://huggingface.co/meta-llama/Llama-3.2-1B" in refused
        assert client(server, tmp_path / "home", code, HF_TOKEN="secret").returncode == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"config.json", "tokenizer.json", "model.safetensors.index.json", "download.json"} <= names


def test_a_model_of_other_layers_than_the_overlay_says_is_refused(tmp_path):
    repository = make_repository("llama32-1b", tmp_path / "repository")
    edit_config(repository, num_key_value_heads=4)
    downloads.fetch_model(f"path:{repository}", tmp_path / "download")
    geometry = small_geometry("llama32-1b", ENTRIES["llama32-1b"]["geometry"])
    with pytest.raises(InputError, match=r"k_proj has 64 rows, expected 32"):
        preparation.prepare_model(f"path:{repository}", tmp_path / "download", tmp_path / "out", geometry=geometry)


@pytest.mark.four_bit
@pytest.mark.slow
def test_rope_profiles_of_a_4_bit_model_compute_in_float32_on_the_4_bit_weights(tmp_path):
    chosen = {"metric": "rope_influence", "method": "output", "text_tokens": 48, "max_texts": 1, "seed": 0}
    assert profiles.dtype_of(chosen, "nf4") == "nf4_float32"
    assert profiles.dtype_of(chosen | {"method": "fisher"}, "nf4") == "float32"
    assert profiles.dtype_of(chosen, "bfloat16") == "float32"
    assert profiles.dtype_of({"metric": "sensitivity"}, "nf4") == "nf4"
    folder = make_model(tmp_path, hidden_size=128, intermediate_size=128)  # blocks of 4-bit weights are 64 wide
    model, tokenizer = models.load_model(folder, "nf4_float32", "cpu"), models.load_tokenizer(folder)
    assert model.dtype == torch.float32
    files = [ROOT / f"data/pairs/{part}.jsonl" for part in ("tasks", "paraphrases", "texts")]
    data = read_data(files[:1], files[1], 2, files[2], None, tokenizer)
    variants = profiles.compute("rope_influence", model, tokenizer, chosen, data, lambda *_: None).variants
    means = variants[variants.kv_head < 0].groupby("variant")["value"].mean()
    assert means["output"] > 3 * means["noise_floor"]
    half = models.load_model(folder, "nf4", "cpu")
    with pytest.raises(InputError, match="output on a 4-bit model in torch.bfloat16; load it in nf4_float32"):
        profiles.compute("rope_influence", half, tokenizer, chosen, data, lambda *_: None)


def test_configs_of_these_folders_are_spelled_as_on_the_hub(tmp_path):
    """transformers 4's keys, not those that this transformers writes."""
    raw = json.loads((make_repository("llama31-8b", tmp_path) / "config.json").read_text())
    assert {"rope_theta", "rope_scaling", "torch_dtype"} <= raw.keys()
    assert "rope_parameters" not in raw
