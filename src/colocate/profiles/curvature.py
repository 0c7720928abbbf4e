"""Curvature of layer l: how sharply a text's path through the layer's state space turns from token to token.

Formula   mean over t of the angle between h_{t+1} - h_t and h_{t+2} - h_{t+1}, over pi: 0 on a straight line, 1 if
          every step goes back, 0.5 at right angles; random walks give 0.5, independent points 2/3
Source    Zhao et al. 2026, arXiv:2604.11838; Hosseini & Fedorenko 2023, arXiv:2311.04930.

Texts, items, variants: token_paths. A text needs four tokens (three without token 0).
"""

from colocate.files import Progress, silent
from colocate.profiles import Profile, token_paths
from colocate.profiles.representation import curvature


def compute(model, tokenizer, settings: dict, data: dict, progress: Progress = silent) -> Profile:
    """Profile, items (texts) and variants."""
    return token_paths.measure(curvature, model, tokenizer, settings, data, progress)
