"""Pairs of layer profiles that have nothing to do with each other: what a correlation of profiles is held against.

Each null makes (draws, L) profiles, rows independent of one another; neighbouring layers of a row are more or less
alike. A p value that takes layers as independent is right for `white` alone.

    white            independent normal values
    AR(1) phi        x_l = phi x_{l-1} + normal, from its stationary distribution
    smooth, length s Gaussian process over layers with kernel exp(-(i - j)^2 / (2 s^2))
    random walk      sums of independent normal values
    trends           a random slope over depth plus a smooth process of length 3
"""

from collections.abc import Callable

import numpy as np
from scipy import stats
from scipy.signal import lfilter

Null = Callable[[np.random.Generator, int, int], np.ndarray]


def white(rng: np.random.Generator, draws: int, n_layers: int) -> np.ndarray:
    return rng.normal(size=(draws, n_layers))


def autoregressive(phi: float) -> Null:
    def draw(rng, draws, n_layers):
        steps = rng.normal(size=(draws, n_layers))
        steps[:, 0] /= np.sqrt(1 - phi**2)
        return lfilter([1.0], [1.0, -phi], steps, axis=1)

    return draw


def smooth(length: float) -> Null:
    def draw(rng, draws, n_layers):
        depth = np.arange(n_layers)
        kernel = np.exp(-0.5 * ((depth[:, None] - depth) / length) ** 2) + 1e-8 * np.eye(n_layers)
        return rng.normal(size=(draws, n_layers)) @ np.linalg.cholesky(kernel).T

    return draw


def random_walk(rng: np.random.Generator, draws: int, n_layers: int) -> np.ndarray:
    return rng.normal(size=(draws, n_layers)).cumsum(axis=1)


def trends(rng: np.random.Generator, draws: int, n_layers: int) -> np.ndarray:
    slope = 2 * rng.normal(size=(draws, 1))
    return slope * np.linspace(-1, 1, n_layers) + smooth(3)(rng, draws, n_layers)


NULLS: dict[str, Null] = {
    "white": white,
    "AR(1) 0.7": autoregressive(0.7),
    "AR(1) 0.9": autoregressive(0.9),
    "smooth, length 3": smooth(3),
    "smooth, length 6": smooth(6),
    "random walk": random_walk,
    "trends + smooth noise": trends,
}


def share_as_large(null: Null, r: float, n_layers: int, draws: int = 20000, seed: int = 0) -> float:
    """P(|r_s| >= |r|) of two independent profiles of one null."""
    rng = np.random.default_rng(seed)
    x, y = (stats.rankdata(null(rng, draws, n_layers), axis=1) - (n_layers + 1) / 2 for _ in range(2))
    found = (x * y).sum(axis=1) / np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return float((np.abs(found) >= abs(r) - 1e-12).mean())
