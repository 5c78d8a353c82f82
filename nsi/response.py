"""The response function of every neuron, phi(x) = max(0, tanh(x)), and its slope, of numpy arrays.

nsi/loss.py has the same of tensors: apart, since torch is slow to import and a simulation does without.
"""

import numpy as np


def phi(x):
    """Firing rate from input current."""
    return np.maximum(0, np.tanh(x))


def slope(r):
    """phi'(x) at the input current x whose rate is r."""
    return (1 - r**2) * (r > 0)
