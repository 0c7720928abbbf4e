"""Empirical Fisher information of layer l: the trace of the matrix over all of the layer's linear weights.

Formula   mean over examples i of ||d loss_i / d W||_F^2: the sum over weights of the mean squared per-example gradient
Source    LAARA, arXiv:2607.19391. Empirical: at the data's labels, not at labels drawn from the model.

Examples, loss, variants, and how the norms come without the gradients: gradients.
"""

from colocate.files import Progress, silent
from colocate.profiles import Profile, gradients


def compute(model, tokenizer, settings: dict, data: dict, progress: Progress = silent) -> Profile:
    """Profile, items (examples) and variants. The examples are encoded already: `tokenizer` is not used."""
    return gradients.measure(lambda squares: squares, model, settings, data, progress)
