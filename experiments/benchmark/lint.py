"""LINT: a low-rank recurrent network trained on neurons' trajectories.

Valente, Pillow and Ostojic 2022, Extracting computational mechanisms from neural data using low-rank RNNs, Advances in
Neural Information Processing Systems 35, pages 24072 to 24086. Each recorded neuron is a unit, and the weights have
rank R:

    r[t] = phi(u[t] @ m @ n.T + b + v[t] @ W_in + stimulus[t])       W = m n^T        m, n: (N, R)
    u[t+1] = u[t] + alpha * (r[t] - u[t])

m, n, b and W_in are trained by backpropagation through time (Adam, Kingma and Ba 2015) on the mean squared error of the
rates over windows that begin at the record and then run freely. The rank is the one that predicts trials best that were
not trained on. Its phi and filter are the circuit's, which helps it.
"""

import numpy as np
import torch

from nsi import network
from nsi.network import Network
from nsi.training import losses

RANKS = 2, 4, 8
START, ACTIVE = 0.5, 0.1  # initial weights are small and thresholds low: a silent unit has no gradient
LEARNING_RATE = 1e-2


def lint(rec, alpha, ranks=RANKS, updates=400, batch=25, window=50, seed=0):
    """Fit a network of each rank. rec: Recording; the last tenth of its trials decides on the rank.

    Returns: Network without input units, W of the best rank.
    """
    first = np.arange(len(rec.rates)) < len(rec.rates) - max(1, len(rec.rates) // 10)
    train, test = (_tensors(rec.trials(part), alpha) for part in (first, ~first))
    window = min(window, rec.rates.shape[1] - 1)
    tried = [_trained(train, rank, alpha, updates, batch, window, seed) for rank in ranks]
    starts = np.arange(0, rec.rates.shape[1] - window, window)
    trial, start = (a.ravel() for a in np.meshgrid(np.arange(int((~first).sum())), starts))
    with torch.no_grad():
        errors = [float(_error(weights, *_windows(test, trial, start, window), alpha)) for weights in tried]
    m, n, W_in, b = (a.detach().numpy() for a in tried[int(np.argmin(errors))])
    return Network(m @ n.T, W_in, b, alpha, len(b))


def _tensors(rec, alpha):
    """u, r, v and stimulus, (trials, steps, any) each."""
    known = np.zeros_like(rec.rates) if rec.stimulus is None else rec.stimulus
    return [torch.as_tensor(a) for a in (network.synaptic_state(rec.rates, alpha), rec.rates, rec.velocity, known)]


def _windows(data, trial, start, window):
    """Windows of some trials. Returns: u (windows, N) at their starts, r, v and stimulus (window, windows, any)."""
    u, *courses = data
    moments = start + np.arange(window)[:, None]
    return u[trial, start], *(a[trial, moments] for a in courses)


def _error(weights, u, r, v, known, alpha):
    """Mean squared error of the rates of a free run."""
    m, n, W_in, b = weights
    error, driven = 0.0, v @ W_in + known + b
    for t in range(len(r)):
        rates = losses.rate(u @ m @ n.T + driven[t])
        error = error + (rates - r[t]).square().mean()
        u = u + alpha * (rates - u)
    return error / len(r)


def _trained(data, rank, alpha, updates, batch, window, seed):
    """Returns: m, n (N, rank), W_in (D, N), b (N,)."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    trials, steps, size = data[1].shape
    m, n = (START * torch.randn(size, rank, generator=generator) / np.sqrt(size) for _ in range(2))
    b = torch.arctanh(data[1].mean((0, 1)).clamp(max=0.9)) + ACTIVE
    weights = [a.requires_grad_() for a in (m, n, torch.zeros(data[2].shape[-1], size), b)]
    optimiser = torch.optim.Adam(weights, LEARNING_RATE)
    fading = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, updates)
    for _ in range(updates):
        trial, start = rng.integers(trials, size=batch), rng.integers(steps - window, size=batch)
        error = _error(weights, *_windows(data, trial, start, window), alpha)
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        fading.step()
    return weights
