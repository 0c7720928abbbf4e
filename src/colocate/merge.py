"""Write a LoRA, DoRA or rsLoRA adapter into its base model: an ordinary model folder, which needs no PEFT.

    W_merged = W + scale B A          DoRA: each row brought to its trained norm

computed in float32 and rounded once, to the dtype of the merged model. Modules without LoRA keep their bits.

    python -m colocate.merge MODEL ADAPTER OUT [--dtype bfloat16]

MODEL is a plain model folder, such as resources/models/smollm2-135m; ADAPTER a folder that `adapters.save` wrote; OUT a
new folder. Not for GARFA and logit temperatures: the base model's code has no place for what they change.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from colocate import adapters
from colocate.errors import InputError

FLOATS = ("float32", "bfloat16", "float16")
NOT_COPIED = {"config.json", "manifest.json"}  # the first is written anew, the second is about the base's files
WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".gguf"}


def merge(model_folder: str | Path, adapter_folder: str | Path, out_folder: str | Path, dtype: str = "auto") -> None:
    """Write the merged model, with the base's tokenizer, to `out_folder`. dtype "auto" is the base checkpoint's.

    InputError for an adapter with GARFA or temperatures, one that does not fit the model (as adapters.load), an unknown
    dtype, and an `out_folder` that is not empty.
    """
    import torch

    from colocate.geometry import read_geometry
    from colocate.models import load_model

    model_folder, out = Path(model_folder), Path(out_folder)
    if dtype not in ("auto", *FLOATS):
        raise InputError(f"merge: dtype: found {dtype!r}, allowed: auto, {', '.join(FLOATS)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists already; name a new folder for the merged model")
    for what, table in (
        ("GARFA", adapters.read_alphas(adapter_folder)),
        ("logit temperatures", adapters.read_temperatures(adapter_folder)),
    ):
        if len(table):
            raise InputError(
                f"{adapter_folder}: has {what} in layers {sorted(set(table.layer.tolist()))}, which change the way "
                "attention works and not its weights, so no ordinary model can hold them: use colocate.adapters.load"
            )
    target = None if dtype == "auto" else getattr(torch, dtype)
    model = load_model(model_folder, read_geometry(model_folder)["checkpoint_dtype"], "cpu")
    adapted = adapters.load(model, adapter_folder)
    for module in adapted.modules():
        if hasattr(module, "lora_A"):
            weight = module.get_base_layer().weight
            rounded = target or weight.dtype
            weight.data = weight.data.float()
            module.merge()
            weight.data = weight.data.to(rounded)
    merged = adapted.unload() if hasattr(adapted, "unload") else adapted  # a full fine-tune is whole already
    if target:
        merged.to(target)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as private:
        whole = Path(private) / out.name
        merged.save_pretrained(whole)
        for path in model_folder.iterdir():
            weights = path.suffix in WEIGHTS or path.name.endswith(".index.json")
            if path.is_file() and path.name not in NOT_COPIED and not weights:
                shutil.copyfile(path, whole / path.name)
        whole.replace(out)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m colocate.merge", description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path, help="folder of the base model")
    parser.add_argument("adapter", type=Path, help="folder of the adapter")
    parser.add_argument("out", type=Path, help="new folder for the merged model")
    parser.add_argument("--dtype", default="auto", help=f"auto (the base checkpoint's, default), {', '.join(FLOATS)}")
    options = parser.parse_args()
    try:
        merge(options.model, options.adapter, options.out, options.dtype)
    except InputError as error:
        sys.exit(f"Error: {error}")
    print(f"{options.out}: an ordinary model; load it with AutoModelForCausalLM.from_pretrained({str(options.out)!r})")


if __name__ == "__main__":
    main()
