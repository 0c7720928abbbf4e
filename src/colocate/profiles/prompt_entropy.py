"""Prompt entropy of layer l: how evenly the tokens of one text spread over directions.

Formula   - sum_j q_j log q_j / log min(T, D), q_j the eigenvalues of X X^T / tr(X X^T), X (T, D): the states of the T
          tokens of a text. 0 where all tokens point one way, 1 where no direction is preferred
Source    Zhao et al. 2026, arXiv:2604.11838; Skean et al. 2025, arXiv:2502.02013.

Texts, items, variants: token_paths. A text needs three tokens (two without token 0).
"""

from colocate.files import Progress, silent
from colocate.profiles import Profile, token_paths
from colocate.profiles.representation import matrix_entropy


def compute(model, tokenizer, settings: dict, data: dict, progress: Progress = silent) -> Profile:
    """Profile, items (texts) and variants."""
    return token_paths.measure(matrix_entropy, model, tokenizer, settings, data, progress)
