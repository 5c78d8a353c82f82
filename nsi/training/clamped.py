"""The gradient of the loss while recorded units are clamped and hidden units do not connect to each other.

    h[t] = phi(u[t] @ A + v[t] @ W_in + b_hidden)        u: recorded state, known, so that there is no loop over time
    s = K @ h                                            K: the synapse, K[t, t'] = alpha (1 - alpha)^(t - 1 - t')
    a = u @ W + s @ B + b + stimulus                     current of the recorded units, phi(a) against their rates

A third of the steps after the warm-up counts in the loss: neighbouring steps carry nearly the same information. A test
holds this equal to autograd's gradient of model.py; bptt.py has the general case.
"""

import torch

from nsi.training import losses

LOSS_STRIDE = 3  # steps, of which one counts in the loss


def synapse(length, steps, alpha):
    """K (S, length): the state at some steps (a slice or indices) of what begins at 0, from the rates at all steps."""
    lag = torch.arange(length)[steps, None] - 1 - torch.arange(length)
    return torch.where(lag >= 0, alpha * (1 - alpha) ** lag.clamp(min=0), 0.0).float()


@torch.no_grad()
def clamped_gradient(weights, n, K, batch, steps, free=None, log=True):
    """The matching loss of a batch of windows at some steps, and its gradient, of one replica.

    weights: W (units, units), W_in (D, units), b (units,); n: recorded units; K: of `synapse`; batch: velocity (T, B,
    D), recorded state, rates and stimulus or None (T, B, n); steps: a slice or indices (S,), those that count; free:
    (units, units) 1 where a weight is trained, or None; log: whether to compute the loss. Returns: loss or None,
    gradients of W, W_in and b.
    """
    W, W_in, b = (p.detach() for p in weights)
    v, u, r, stimulus = batch
    length, windows, _ = u.shape
    two_a = torch.matmul(u, 2 * W[:n, n:])
    two_a += torch.matmul(v, 2 * W_in[:, n:]) + 2 * b[n:]
    s = losses.half_rate(two_a, two_a)  # (1 + h) / 2
    states = (2 * torch.mm(K, s.view(length, -1)) - K.sum(1, keepdim=True)).view(-1, s.shape[-1])
    known = u[steps].reshape(-1, n)
    a = torch.addmm(b[:n], known, W[:n, :n]).addmm_(states, W[n:, :n])
    if stimulus is not None:
        a += stimulus[steps].reshape(-1, n)
    rates = r[steps].reshape(-1, n)
    loss = losses.matching(a, rates).mean() if log else None
    g = losses.rate(a).sub_(rates).div_(rates.numel())
    back = torch.mm(K.T, torch.mm(g, W[n:, :n].T).view(len(K), -1)).view(-1, s.shape[-1])
    back *= losses.slope(s, torch.empty_like(s)).view(-1, s.shape[-1])
    W_grad, W_in_grad, u = torch.zeros_like(W), torch.zeros_like(W_in), u.view(-1, n)
    W_grad[:n, n:], W_grad[n:, :n] = torch.mm(u.T, back), torch.mm(states.T, g)
    if free is None or free[:n, :n].any():
        W_grad[:n, :n] = torch.mm(known.T, g)
    W_in_grad[:, n:] = torch.mm(v.view(length * windows, -1).T, back)
    if free is not None:
        W_grad *= free
    return loss, (W_grad, W_in_grad, torch.cat([g.sum(0), back.sum(0)]))
