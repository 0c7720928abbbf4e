"""Shape of a layer's representation, as numbers: of one set of states, or of two sets of the same texts.

Notation   X, Y (N, D): states of N texts in one layer of one model, a row a text; tokens (T, D): one text, a row a
           token. s_j: singular values of X; q_j = s_j^2 / sum s^2, which are the eigenvalues of X X^T / tr(X X^T)
Functions  effective_rank   exp(H(q)) / min(N, D), H the entropy: 1 where all directions count alike, 1/min for one
           matrix_entropy   H(q) / log min(N, D), 0 to 1; of texts (data-set entropy) or of tokens (prompt entropy).
                            On the same matrix a monotone function of the effective rank
           curvature        mean angle between successive differences of tokens, over pi: 0 on a straight line
           spectral_norm    s_1
           mean_cosine      mean over rows of cos(x_n, y_n)
           mean_shift       || mean of X - mean of Y ||
           linear_cka       see linear_cka: published (biased) or debiased
Source     Zhao et al. 2026, arXiv:2604.11838; the entropies: Skean et al. 2025, arXiv:2502.02013; the curvature:
           Hosseini & Fedorenko 2023, arXiv:2311.04930.

Everything in float64. effective_rank, matrix_entropy, curvature and spectral_norm take leading dimensions, (..., N, D)
to (...), so that all layers of one text or model are one call.
"""

import numpy as np

from colocate.profiles.linear_cka import cka, gram


def linear_cka(x: np.ndarray, y: np.ndarray, debiased: bool) -> float:
    """Linear CKA of (N, D) and (N, D') over the same N texts; debiased: N >= 4, and it may be negative."""
    return cka(gram(x), gram(y), "debiased" if debiased else "biased")


def effective_rank(x: np.ndarray) -> np.ndarray:
    """(..., N, D) to (...), between 1 / min(N, D) and 1. Not centred, as published: pass x - mean for the other."""
    return np.exp(_entropy(_spectrum(x))) / min(x.shape[-2:])


def matrix_entropy(x: np.ndarray) -> np.ndarray:
    """(..., N, D) to (...), between 0 and 1; NaN where min(N, D) is 1, whose entropy says nothing."""
    fewest = min(x.shape[-2:])
    return _entropy(_spectrum(x)) / (np.log(fewest) if fewest > 1 else np.nan)


def curvature(tokens: np.ndarray) -> np.ndarray:
    """(..., T, D) to (...), 0 to 1; NaN under three tokens. A step of length 0 has no angle and is left out."""
    steps = np.diff(np.asarray(tokens, dtype=np.float64), axis=-2)
    if steps.shape[-2] < 2:
        return np.full(steps.shape[:-2], np.nan)
    lengths = np.linalg.norm(steps, axis=-1, keepdims=True)
    unit = np.divide(steps, lengths, out=np.full_like(steps, np.nan), where=lengths > 0)
    a, b = unit[..., :-1, :], unit[..., 1:, :]
    # 2 atan2(|a - b|, |a + b|) rather than arccos(a b), which loses all digits of a small angle
    angles = 2 * np.arctan2(np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1))
    return np.nanmean(angles, axis=-1) / np.pi


def spectral_norm(x: np.ndarray) -> np.ndarray:
    """(..., N, D) to (...): the largest singular value of states or of weights."""
    return np.sqrt(_eigenvalues(x)[..., -1])


def mean_cosine(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(..., N, D) twice to (...): mean over rows of the cosine of x_n and y_n."""
    x, y = (np.asarray(values, dtype=np.float64) for values in (x, y))
    cosines = (x * y).sum(axis=-1) / (np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1))
    return cosines.mean(axis=-1)


def mean_shift(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(..., N, D) twice to (...): norm of the difference of the two means."""
    x, y = (np.asarray(values, dtype=np.float64) for values in (x, y))
    return np.linalg.norm(x.mean(axis=-2) - y.mean(axis=-2), axis=-1)


def _eigenvalues(x: np.ndarray) -> np.ndarray:
    """Squared singular values of (..., N, D), rising, (..., min(N, D)): eigenvalues of the smaller Gram matrix."""
    x = np.asarray(x, dtype=np.float64)
    x = x if x.shape[-2] <= x.shape[-1] else x.swapaxes(-1, -2)
    return np.linalg.eigvalsh(x @ x.swapaxes(-1, -2)).clip(min=0)


def _spectrum(x: np.ndarray) -> np.ndarray:
    squares = _eigenvalues(x)
    return squares / squares.sum(axis=-1, keepdims=True)


def _entropy(shares: np.ndarray) -> np.ndarray:
    """- sum q log q over the last axis, with 0 log 0 = 0."""
    return -(shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=-1)
