"""LoRA on a bfloat16 model computed in bfloat16, with float32 weights and float32 gradients.

    h + (alpha / r) B' A' x     A', B' = A, B rounded to x's dtype; dA, dB are summed in float32

PEFT widens every input to float32 for A and B, as autocast would not: on SmolLM2's 30 layers a training step takes 15 %
longer that way. What is trained stays float32, or a small step of the optimizer would vanish in the rounding. Other
dtypes keep PEFT's way: in float16 gradients would underflow. So does DoRA, whose norms would no longer cancel.
"""

import functools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import Tensor, bfloat16, nn


@contextmanager
def in_base_dtype(model) -> Iterator[None]:
    """Within the block, the LoRA layers of a PeftModel take bfloat16 inputs as they are."""
    from peft.helpers import disable_input_dtype_casting

    layers = [module for module in model.modules() if hasattr(module, "lora_A")]
    if not layers or any(layer.lora_variant for layer in layers):  # full fine-tuning; DoRA
        yield
        return
    linears = [linear for layer in layers for linear in (*layer.lora_A.values(), *layer.lora_B.values())]
    with ExitStack() as stack:
        stack.enter_context(disable_input_dtype_casting(model))
        for linear in linears:
            linear.forward = functools.partial(_product, linear)  # on the instance: hides the class's method
            stack.callback(delattr, linear, "forward")
        yield


def _product(linear: nn.Linear, x: Tensor) -> Tensor:
    if x.dtype == bfloat16:
        return nn.functional.linear(x, linear.weight.to(x.dtype))
    return nn.functional.linear(x.to(linear.weight.dtype), linear.weight)
