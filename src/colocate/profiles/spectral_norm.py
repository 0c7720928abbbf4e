"""Spectral norm of layer l: how far its states reach along their main direction.

Formula   s_1 / sqrt(N), s_1 the largest singular value of X (N, D): the pooled outputs of layer l for N texts. The root
          of the mean square of the projections; s_1 itself, as published, grows with the number of texts
Source    Zhao et al. 2026, arXiv:2604.11838.

Texts, pools, centring, interval: whole_sample.
"""

import numpy as np

from colocate.files import Progress, silent
from colocate.profiles import Profile, whole_sample
from colocate.profiles.representation import spectral_norm


def per_text(x: np.ndarray) -> np.ndarray:
    """(..., N, D) to (...)."""
    return spectral_norm(x) / np.sqrt(x.shape[-2])


def compute(model, tokenizer, settings: dict, data: dict, progress: Progress = silent) -> Profile:
    """Profile (n = texts) and variants."""
    return whole_sample.measure(per_text, model, tokenizer, settings, data, progress)
