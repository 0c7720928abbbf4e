"""Gradient norm of layer l: how strongly the training data pull at the layer's weights.

Formula   mean over examples i of ||d loss_i / d W||_F, W all linear weights of layer l together
Source    Aletheia, arXiv:2604.15351, and GRASS, arXiv:2604.07808 (both choose layers by it; per example here, so that
          examples can be resampled and batches do not matter).

Examples, loss, variants, and how the norms come without the gradients: gradients.
"""

import numpy as np

from colocate.files import Progress, silent
from colocate.profiles import Profile, gradients


def compute(model, tokenizer, settings: dict, data: dict, progress: Progress = silent) -> Profile:
    """Profile, items (examples) and variants. The examples are encoded already: `tokenizer` is not used."""
    return gradients.measure(np.sqrt, model, settings, data, progress)
