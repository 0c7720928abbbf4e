"""A prepared model folder, loaded: dtype, device or devices, attention kernel; its tokenizer; its decoder layers."""

from importlib.util import find_spec
from pathlib import Path

from colocate.errors import InputError
from colocate.geometry import check_geometry, read_geometry

KERNELS = {  # of attention, by transformers' names: the flag of the families that have it
    "eager": None,
    "sdpa": "_supports_sdpa",
    "flash_attention_2": "_supports_flash_attn",
}
NF4 = {"nf4": "bfloat16", "nf4_float32": "float32"}  # 4-bit weights, and what they and all other weights compute in
DTYPES = ("float32", "bfloat16", "float16", "nf4")  # of a study; nf4_float32 is for single profiles


def resolve_device(device: str) -> str:
    """ "cpu" or "cuda"; "auto" takes a GPU where torch sees one."""
    import torch

    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"device: found {device!r}, allowed: auto, cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device: found cuda, but torch sees no GPU here; allowed: auto, cpu")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


def resolve_dtype(dtype: str, device: str, checkpoint_dtype: str) -> str:
    """One of DTYPES. "auto": the checkpoint's on cuda; on CPUs bfloat16 where they compute it, else float32."""
    if dtype != "auto":
        if dtype not in DTYPES:
            raise InputError(f"dtype: found {dtype!r}, allowed: auto, {', '.join(DTYPES)}")
        return dtype
    if device == "cuda":
        return checkpoint_dtype
    return "bfloat16" if _cpu_flags() & {"avx512_bf16", "amx_bf16"} else "float32"


def _cpu_flags(cpuinfo: str | Path = "/proc/cpuinfo") -> set[str]:
    """Capabilities of the first CPU as Linux lists them; empty elsewhere. Emulated bfloat16 is slower than float32."""
    if not Path(cpuinfo).is_file():
        return set()
    lines = Path(cpuinfo).read_text().splitlines()
    return set(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))


def load_model(folder: str | Path, dtype: str, device: str, *, geometry: dict | None = None, attention: str = "auto"):
    """The causal language model in a prepared folder, in eval mode.

    `dtype` is one of DTYPES or NF4 (4-bit weights by bitsandbytes, computing in bfloat16 or float32); `device` is "cpu"
    or "cuda": all cards that this process sees, the layers spread over them where they are several. `attention` is a
    key of KERNELS; "auto" is torch's sdpa (on cards that have it, itself flash attention), or eager where the family
    has no sdpa. Keys of `geometry` (those of read_geometry, and dtype) that differ from the folder's are an InputError,
    and so are weights that the folder lacks, and a kernel that family, device or dtype do not allow.
    """
    folder = Path(folder)
    if dtype not in {*DTYPES, *NF4}:
        raise InputError(f"dtype: found {dtype!r}, allowed: {', '.join(DTYPES)}")
    if dtype in NF4 and find_spec("bitsandbytes") is None:
        raise InputError("dtype: nf4 needs bitsandbytes, which is not installed: make env EXTRAS=gpu")
    if geometry:
        check_geometry(read_geometry(folder) | {"dtype": dtype}, geometry, str(folder))

    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    options = {"dtype": getattr(torch, NF4.get(dtype, dtype))}
    if dtype in NF4:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=options["dtype"],
        )
    if attention != "auto":
        _check_attention(attention, folder, device, dtype)
        options["attn_implementation"] = attention
    if dtype in NF4 or device != "cpu":
        options["device_map"] = device_map(device)
    model, info = AutoModelForCausalLM.from_pretrained(
        folder,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        output_loading_info=True,
        **options,
    )
    if info["missing_keys"]:  # transformers would only warn, and draw them at random
        missing = sorted(info["missing_keys"])
        raise InputError(f"{folder}: weights missing: {', '.join(missing[:5])} ({len(missing)} in all)")
    return model.eval()


def _check_attention(attention: str, folder: Path, device: str, dtype: str) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    if attention not in KERNELS:
        raise InputError(f"attention: found {attention!r}, allowed: auto, {', '.join(KERNELS)}")
    family = AutoModelForCausalLM._model_mapping[type(AutoConfig.from_pretrained(folder, local_files_only=True))]
    family = family[0] if isinstance(family, tuple) else family
    if KERNELS[attention] and not getattr(family, KERNELS[attention]):
        raise InputError(f"attention: found {attention}, which {family.__name__} does not have; allowed: auto")
    if attention == "flash_attention_2" and (device != "cuda" or dtype == "float32"):
        raise InputError(f"attention: found {attention} for {dtype} on {device}; it computes on cuda in half precision")
    if attention == "flash_attention_2" and find_spec("flash_attn") is None:
        raise InputError(f"attention: {attention} needs the package flash-attn, which is not installed; else: auto")


def device_map(device: str) -> dict | str:
    """Where the layers go: on one device, or, of several cards, as accelerate spreads them evenly ("balanced").

    Whole layers follow one another from card to card in one process; each job sees only the cards that it was given.
    """
    import torch

    return "balanced" if device == "cuda" and torch.cuda.device_count() > 1 else {"": device}


def load_tokenizer(folder: str | Path):
    """The tokenizer that the folder's tokenizer.json describes, as it stands; it pads with eos if no pad token is set.

    Not AutoTokenizer: for some families it builds the pre-tokenizer anew from its own class, and cuts text differently.
    """
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def without_adapter(model):
    """The model inside a PEFT model, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def decoder_layers(model):
    """The ModuleList of the L decoder layers, of a plain model or inside a PEFT model."""
    base = without_adapter(model)
    decoder = base.get_decoder()
    for holder in (decoder, getattr(decoder, "model", None)):
        if hasattr(holder, "layers"):
            return holder.layers
    raise InputError(f"{type(base).__name__}: no decoder with `layers`; expected a decoder-only causal language model")


def attention(layer):
    """The self-attention module of one decoder layer."""
    for name in ("self_attn", "attention"):
        if hasattr(layer, name):
            return getattr(layer, name)
    children = ", ".join(name for name, _ in layer.named_children())
    raise InputError(f"{type(layer).__name__}: found {children}; expected self_attn or attention")
