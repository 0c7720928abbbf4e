"""Full fine-tuning: every weight of the model is trained, as in published SFT; what is saved is the whole model.

Weights    stay in the dtype in which the model is evaluated. For bfloat16 the optimizer works on a float32 copy, in
           which gradients are summed as well, and whose rounding is the model after every step: at 1e-5 of a weight,
           steps in bfloat16 itself would vanish. Bytes a parameter on the device, without activations: bfloat16
           2 + 4 (copy) + 4 (gradient) + 8 (Adam), in all 18; float32 4 + 4 + 8 = 16
Folder     adapter_config.json, whose peft_type OWN_TYPE PEFT refuses with that very text, and adapter_model.safetensors
           with every weight under its own name, tied ones once; not a difference, which would need a second rounding
Loading    replaces the weights of the base model; there is no adapter to turn off, so that a comparison with the base
           takes a second model in memory (profiles.compared.Compared.of_arm)

Source     float32 master weights: Micikevicius et al. 2018, arXiv:1710.03740, section 3.1.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from colocate.errors import InputError
from colocate.files import read_json, replacing, write_json

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # the names that every arm's files have
OWN_TYPE = "a full fine-tune, not an adapter: load it with colocate.adapters.load"


def unfreeze(model):
    """The model with every weight trainable. InputError for 4-bit and float16 weights, which cannot be trained so."""
    import torch

    found = {parameter.dtype for parameter in model.parameters()} - {torch.float32, torch.bfloat16}
    if found:
        kinds = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in found))
        raise InputError(f"full fine-tuning: found weights in {kinds}; allowed dtypes: bfloat16, float32")
    return model.requires_grad_(True)


@contextmanager
def in_float32(model) -> Iterator[dict]:
    """{name: tensor} for the optimizer: the trained parameters, those in bfloat16 as float32 copies.

    Within the block a copy gets its parameter's gradients, summed in float32; the parameter keeps none. What the
    optimizer makes of the copies reaches the model by `write_back`.
    """
    trained, handles = {}, []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        trained[name] = parameter
        if parameter.dtype.itemsize < 4:
            trained[name] = parameter.detach().float()
            handles.append(parameter.register_post_accumulate_grad_hook(_into(trained[name])))
    try:
        yield trained
    finally:
        for handle in handles:
            handle.remove()


def _into(copy):
    def move(parameter) -> None:
        gradient = parameter.grad.float()
        copy.grad = gradient if copy.grad is None else copy.grad.add_(gradient)
        parameter.grad = None

    return move


def write_back(model, trained: dict) -> None:
    """Round the float32 copies of `in_float32` into the parameters that they stand for."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in trained and trained[name] is not parameter:
                parameter.copy_(trained[name])


def is_full(folder: str | Path) -> bool:
    """Whether the folder of an arm holds a full fine-tune."""
    path = Path(folder) / CONFIG
    try:
        return path.is_file() and read_json(path).get("peft_type") == OWN_TYPE
    except (ValueError, AttributeError):  # damaged: adapters.load says how
        return False


def save(model, folder: str | Path, base: dict | None = None) -> None:
    """Write every weight to `folder`. `base`: the base model's manifest, for its source. InputError if not finite."""
    import torch
    from safetensors.torch import save_file

    folder = Path(folder)
    tensors = {name: parameter.detach() for name, parameter in model.named_parameters()}  # tied ones come once
    broken = sorted(name for name, tensor in tensors.items() if not torch.isfinite(tensor).all())
    if broken:
        raise InputError(
            f"{folder}: not saved, since {broken[0]} is not finite ({len(broken)} tensors): training diverged"
        )
    write_json(folder / CONFIG, {"peft_type": OWN_TYPE, "base_model_name_or_path": (base or {}).get("source")})
    with replacing(folder / WEIGHTS) as private:
        metadata = {"model_type": model.config.model_type}
        save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, private, metadata)


def load(model, folder: str | Path):
    """The model (changed in place) with the weights of a full fine-tune, frozen and in eval mode.

    InputError for a missing or damaged file, and for weights of a model of other names or shapes.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    path = Path(folder) / WEIGHTS
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected an arm's folder with {CONFIG} and {WEIGHTS}")
    parameters = dict(model.named_parameters())
    quantised = sorted(name for name, parameter in parameters.items() if not parameter.is_floating_point())
    if quantised:
        raise InputError(f"{folder}: a full fine-tune cannot be put into 4-bit weights; allowed: bfloat16, float32")
    try:
        with safe_open(path, framework="pt") as file, torch.no_grad():
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in list(file.keys())}
            expected = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
            wrong = sorted(name for name in shapes.keys() | expected.keys() if shapes.get(name) != expected.get(name))
            if wrong:
                each = f"{wrong[0]}: the fine-tune's {shapes.get(wrong[0])}, this model's {expected.get(wrong[0])}"
                raise InputError(f"{folder}: a fine-tune of another base model: {each} ({len(wrong)} such tensors)")
            for name, parameter in parameters.items():
                parameter.copy_(file.get_tensor(name))
    except SafetensorError as error:
        raise InputError(f"{path}: damaged: {error}") from error
    return model.requires_grad_(False).eval()
