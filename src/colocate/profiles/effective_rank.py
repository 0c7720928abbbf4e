"""Effective rank of layer l: over how many directions the texts spread, as a share of all there could be.

Formula   exp(- sum_j q_j log q_j) / min(N, D), q_j = s_j^2 / sum s^2, s the singular values of X (N, D): the pooled
          outputs of layer l for N texts. 1 / min(N, D) where all texts lie on one line, 1 where no direction wins
Source    Zhao et al. 2026, arXiv:2604.11838.

Texts, pools, centring, interval: whole_sample.
"""

from colocate.files import Progress, silent
from colocate.profiles import Profile, whole_sample
from colocate.profiles.representation import effective_rank


def compute(model, tokenizer, settings: dict, data: dict, progress: Progress = silent) -> Profile:
    """Profile (n = texts) and variants."""
    return whole_sample.measure(effective_rank, model, tokenizer, settings, data, progress)
