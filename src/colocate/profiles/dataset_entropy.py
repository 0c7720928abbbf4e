"""Data-set entropy of layer l: how evenly its states keep the texts apart.

Formula   - sum_j q_j log q_j / log min(N, D), q_j the eigenvalues of X X^T / tr(X X^T), X (N, D): the pooled outputs of
          layer l for N texts. So it equals log(effective rank min(N, D)) / log min(N, D), and ranks the layers alike
Source    Zhao et al. 2026, arXiv:2604.11838; Skean et al. 2025, arXiv:2502.02013.

Texts, pools, centring, interval: whole_sample.
"""

from colocate.files import Progress, silent
from colocate.profiles import Profile, whole_sample
from colocate.profiles.representation import matrix_entropy


def compute(model, tokenizer, settings: dict, data: dict, progress: Progress = silent) -> Profile:
    """Profile (n = texts) and variants."""
    return whole_sample.measure(matrix_entropy, model, tokenizer, settings, data, progress)
