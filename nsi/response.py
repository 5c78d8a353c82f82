"""Response functions: the firing rate that an input current makes, and back.

The networks that are simulated and trained have phi(x) = max(0, tanh(x)); nsi/training/losses.py has the same of
tensors, apart, since torch is slow to import and a simulation does without. A recording's neurons may respond
otherwise, and its rates may be scaled: `Response` is one of a family, among which nsi/estimation/kinetics.py chooses by
likelihood.
"""

from typing import NamedTuple

import numpy as np


def phi(x):
    """Firing rate from input current."""
    return np.maximum(0, np.tanh(x))


def slope(r):
    """phi'(x) at the input current x whose rate is r."""
    return (1 - r**2) * (r > 0)


class Response(NamedTuple):
    """rate = phi(current) / scale, by name phi = "tanh": max(0, tanh x), "linear": max(0, x), "softplus":
    log(1 + exp(shape x)) / shape, "power": max(0, x)^shape."""

    name: str = "tanh"
    scale: float = 1.0
    shape: float = 1.0

    def phi(self, x):
        """Scaled rates from currents."""
        if self.name == "tanh":
            return phi(x)
        if self.name == "softplus":
            return np.logaddexp(0, self.shape * x) / self.shape
        return np.maximum(0, x) ** (self.shape if self.name == "power" else 1.0)

    def current(self, r):
        """The current of a neuron from its scaled rate r; of a silent one, that of a very small rate."""
        if self.name == "tanh":
            return np.arctanh(np.minimum(r, np.float32(0.99999)))
        r = np.maximum(r, np.float32(1e-9))
        if self.name == "softplus":
            return np.log(np.expm1(self.shape * r)) / self.shape
        return r ** np.float32(1 / self.shape) if self.name == "power" else r

    def slope(self, x):
        """phi'(x)."""
        if self.name == "tanh":
            return slope(phi(x))
        if self.name == "softplus":
            return 1 / (1 + np.exp(-self.shape * x))
        return (x > 0) * (self.shape * np.maximum(x, 1e-9) ** (self.shape - 1) if self.name == "power" else 1.0)

    def log_jacobian(self, r):
        """log |d current / d recorded rate| at a scaled rate r: it turns a likelihood of currents into one of rates."""
        if self.name == "tanh":
            return np.log(self.scale) - np.log1p(-(np.minimum(r, 0.99999) ** 2))
        if self.name == "softplus":
            return -np.log1p(-np.exp(-self.shape * r))
        if self.name == "power":
            return np.log(1 / self.shape) + (1 / self.shape - 1) * np.log(r)
        return np.zeros_like(r)

    def usable(self, r):
        """Whether a scaled rate shows a current."""
        return (r > 0) & (r < 0.9999) if self.name == "tanh" else r > 0

    @property
    def highest(self):
        """The current above which the response is too flat to show it."""
        return 2.0 if self.name == "tanh" else np.inf

    def __str__(self):
        words = {"tanh": "rectified tanh", "linear": "rectified linear", "softplus": "softplus", "power": "power"}
        return words[self.name]


TANH = Response()
