"""P values for the correlation of two layer profiles, whose neighbouring layers are alike.

x, y        (L,) normal scores of the ranks of two profiles over L layers, centred
surrogate   x* = inverse DCT of (random signs times the DCT of x): another profile with the same power at every spatial
            frequency, so as smooth as x, but at a random phase (Moran spectral randomisation on a path; Wagner & Dray
            2015, Methods Ecol. Evol. 6)
p           (1 + #{|r*| >= |r|}) / (B + 1) over B surrogates, r the Pearson correlation of the scores
given depth the same on the residuals of x and y on a polynomial in depth; each surrogate is residualised again

The DCT is orthonormal, so r* needs no inverse transform: x* . y = sum_k s_k X_k Y_k, and the norm of x* that is left
after the polynomial (orthonormal columns Q) is |X|^2 - |(DCT Q)' (s X)|^2. 9,999 surrogates are one (B, L) times (L,
degree + 2) product.

Beside them the modified t: with rho_x(j) the autocorrelation at lag j, 1/N* = 1/L + 2/L sum_{j <= L/5} (1 - j/L)
rho_x(j) rho_y(j), and r is tested with N* - 2 degrees of freedom (Dutilleul 1993, Biometrics 49; Pyper & Peterman 1998,
Can. J. Fish. Aquat. Sci. 55).
"""

from functools import lru_cache

import numpy as np
from scipy import fft, stats


def normal_scores(values: np.ndarray) -> np.ndarray:
    """(L,) normal quantiles of the ranks at (rank - 1/2) / L, centred; ties share their mean rank."""
    scores = stats.norm.ppf((stats.rankdata(values) - 0.5) / len(values))
    return scores - scores.mean()


def depth_basis(depth: np.ndarray, degree: int) -> np.ndarray:
    """(L, degree + 1) orthonormal columns that span the polynomials in depth, the constant among them."""
    centred = (depth - depth.mean()) / max(np.ptp(depth), 1)
    return np.linalg.qr(np.vander(centred, degree + 1, increasing=True))[0]


def residuals(values: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Rows of (..., L) less their projection on the basis (L, columns)."""
    return values - values @ basis @ basis.T


@lru_cache(maxsize=4)
def random_signs(draws: int, n_layers: int, seed: int) -> np.ndarray:
    """(draws, L) of -1 and +1, read-only: one table serves every pair of profiles, so a further pair changes no p."""
    signs = 1.0 - 2.0 * np.random.default_rng(seed).integers(0, 2, size=(draws, n_layers))
    signs.flags.writeable = False
    return signs


def surrogate_p(x: np.ndarray, y: np.ndarray, signs: np.ndarray, basis: np.ndarray) -> float:
    """P value of the correlation of x and y given `basis` (a constant column alone: the plain correlation).

    NaN if fewer than three degrees of freedom are left, or if a profile is nothing but its polynomial.
    """
    if len(x) - basis.shape[1] < 3:
        return float("nan")
    x, y = residuals(x, basis), residuals(y, basis)
    norm_x, norm_y = np.linalg.norm(x), np.linalg.norm(y)
    if min(norm_x, norm_y) < 1e-9:
        return float("nan")
    flipped = signs * fft.dct(x, norm="ortho")
    overlap = flipped @ fft.dct(y, norm="ortho")
    explained = flipped @ fft.dct(basis, norm="ortho", axis=0)
    left = np.maximum(norm_x**2 - (explained**2).sum(axis=1), 1e-12)
    r = np.abs(overlap) / (np.sqrt(left) * norm_y)
    observed = abs(x @ y) / (norm_x * norm_y)
    return float((1 + np.count_nonzero(r >= observed - 1e-12)) / (len(signs) + 1))


def modified_t_p(x: np.ndarray, y: np.ndarray) -> float:
    """Two-sided p of the correlation of x and y at the effective number of layers; 1 where fewer than two are left
    over.
    """
    n = len(x)
    x, y = x - x.mean(), y - y.mean()
    r = x @ y / np.sqrt((x @ x) * (y @ y))
    shared = 0.0
    for lag in range(1, max(1, n // 5) + 1):
        rho = [n / (n - lag) * (z[:-lag] @ z[lag:]) / (z @ z) for z in (x, y)]
        shared += (1 - lag / n) * rho[0] * rho[1]
    effective = min(n, n / max(1 + 2 * shared, 1e-9))
    if effective <= 2:
        return 1.0
    t = abs(r) * np.sqrt((effective - 2) / max(1 - r * r, 1e-15))
    return float(2 * stats.t.sf(t, effective - 2))
