"""Adam for libraries that come without one that works in place: Kingma & Ba 2015, end of section
2."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np


class Adam:
    """Changes the arrays of ``weights`` in place, with PyTorch's defaults."""

    def __init__(self, weights: Mapping[str, np.ndarray], lr: float):
        self.weights, self.lr, self.steps = weights, lr, 0
        self.m = {name: np.zeros_like(w) for name, w in weights.items()}
        self.v = {name: np.zeros_like(w) for name, w in weights.items()}

    def step(self, slopes: Mapping[str, np.ndarray]) -> None:
        self.steps += 1
        correction = math.sqrt(1 - 0.999**self.steps)
        for name, g in slopes.items():
            m, v = self.m[name], self.v[name]
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            self.weights[name] -= (
                self.lr * correction / (1 - 0.9**self.steps) * m / (np.sqrt(v) + 1e-8 * correction)
            )
