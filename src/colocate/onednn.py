"""Float32 linear layers by oneDNN on CPUs, without gradients.

torch hands products in bfloat16 to oneDNN, but those in float32 to MKL, which on processors not made by Intel leaves
their 512-bit units idle: on an AMD EPYC with AVX512 a product of 1,792 rows with 1,536 x 576 weights takes it 2.2 times
as long. The operator is the one that torch.compile puts in the place of a linear layer. Sums come in another order:
results move by about 1e-7 of their size.
"""

import functools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def float32_layers(model) -> Iterator[None]:
    """Within the block, linear layers of `model` whose weights are float32 on a CPU compute by oneDNN, if torch has it.

    Only where no derivative is wanted: under torch.no_grad, and not for forward-mode differentiation.
    """
    with ExitStack() as stack:
        if torch.backends.mkldnn.is_available():
            for module in model.modules():
                weight = module.weight if type(module) is nn.Linear else None
                if weight is not None and weight.device.type == "cpu" and weight.dtype == torch.float32:
                    module.forward = functools.partial(_product, module)  # on the instance: hides the class's method
                    stack.callback(delattr, module, "forward")
        yield


def _product(layer: nn.Linear, x: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, "none", [], "")
