"""The loss of a network, and the response function phi(x) = max(0, tanh(x)) that it matches, of tensors."""

import numpy as np
import torch
import torch.nn.functional as F


def rate(x):
    """phi, differentiable."""
    return torch.tanh(x).clamp(min=0)


def inverse(r):
    """Input current of an active neuron from its rate 0 < r < 1."""
    return torch.arctanh(r.clamp(max=0.9999))


def matching(a, r):
    """log cosh(max(a, 0)) - a * r: its derivative with respect to the current a is phi(a) - r."""
    positive = a.clamp(min=0)
    return positive + F.softplus(-2 * positive) - np.log(2) - a * r


def squared(a, r):
    """(phi(a) - r)^2: the published loss."""
    return (rate(a) - r).square()


LOSSES = {"matching": matching, "mse": squared}
