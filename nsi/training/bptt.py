"""The network of model.py over a window of time, and the gradient of its loss: the same numbers, several times faster.

    a[t]   = u[t] @ W + b + v[t] @ W_in + stimulus[t]        r[t] = phi(a[t])
    u[t+1] = u[t] + alpha * (r[t] - u[t])

All arrays are time first, (T, ..., B, n); weights may carry a leading replica axis, arrays then the same one before B.
`weights` is always the triple W (..., units, units), W_in (..., D, units), b (..., units).
"""

from typing import NamedTuple

import torch

from nsi.training import losses
from nsi.training.clamped import LOSS_STRIDE, clamped_gradient, synapse


class Buffers(dict):
    """Arrays that one update leaves to the next: making them anew costs as much as the arithmetic done in them."""

    def like(self, name, x):
        """The array of this name, of x's shape and type, its content arbitrary (at first: zero)."""
        if name in self and self[name].shape != x.shape:
            self.clear()
        if name not in self:
            self[name] = torch.zeros_like(x)
        return self[name]

    def steps(self, x):
        """The steps of one of these arrays, or of a part of it: to make such views anew is some 4 % of an update."""
        key = x.data_ptr(), x.shape, x.stride()
        if key not in self:
            self[key] = x.unbind()
        return self[key]


class Objective(NamedTuple):
    """What a fit minimizes, and what stays as it is from update to update."""

    n: int  # units that were recorded, the first ones
    alpha: float  # dt / tau
    warmup: int  # steps outside the loss
    driven: torch.Tensor | float = 1.0  # (units,) 1 where the velocity may enter, else 0
    free: torch.Tensor | None = None  # (units, units) 1 where there may be a connection, else 0
    loss: str = "matching"  # of losses.LOSSES
    clamped: bool = False  # whether the recorded units are clamped beyond the warm-up


class Forcing(NamedTuple):
    """How the recorded state enters a window."""

    n: int  # units that were recorded
    warmup: int  # up to and with this step they are clamped
    pull: float  # fraction of the way that their state then moves to the recorded one at each step


def unroll(W, two_a, u_recorded, forcing, alpha, buffers, keep=True):
    """The loop over time: the first n units clamped to their recorded state, then moved the fraction `forcing.pull` of
    the way to it at every step (partial teacher forcing).

    It runs in s = (1 + r) / 2 and x = (1 + u) / 2, which follow the same equation, as s = max(sigmoid 2a, 1/2) takes
    two passes over an array where r takes five.

    two_a: (T, ..., B, units), 2a without its part that depends on the state, overwritten by the whole 2a, and this by s
    unless `keep`; u_recorded: (T, ..., B, n); forcing: Forcing. Returns: s and u, (T, ..., B, units).

    While the first units are clamped, their share of u @ W is one product for all these steps, and only the hidden
    units, which depend on their own past alone, need the loop.
    """
    s, x = buffers.like("s", two_a) if keep else two_a, buffers.like("x", two_a)
    n, clamped_steps = forcing.n, min(forcing.warmup + 1, len(two_a))
    x_recorded = torch.add(u_recorded, 1, out=buffers.like("x_recorded", u_recorded)).mul_(0.5)
    x[:clamped_steps, ..., :n] = x_recorded[:clamped_steps]
    two_a -= 2 * W.sum(-2, keepdim=True)
    W = 4 * W
    two_a[:clamped_steps] += x_recorded[:clamped_steps] @ W[..., :n, :]
    rate, among = torch.empty_like(x[0, ..., n:]), W[..., n:, n:].contiguous()
    x[0, ..., n:] = 0.5
    steps = [buffers.steps(y[:clamped_steps, ..., n:]) for y in (two_a, x)]
    for a_t, x_t, after in zip(*steps, [*steps[1][1:], None], strict=True):
        losses.half_rate(add_product(a_t, x_t, among), rate)
        if after is not None:
            torch.lerp(x_t, rate, alpha, out=after)
    two_a[:clamped_steps, ..., :n] += x[:clamped_steps, ..., n:] @ W[..., n:, :n]
    losses.half_rate(two_a[:clamped_steps], s[:clamped_steps])
    if clamped_steps < len(x):
        torch.lerp(x[forcing.warmup], s[forcing.warmup], alpha, out=x[clamped_steps])
    steps = [buffers.steps(y[clamped_steps:]) for y in (two_a, s, x, x[..., :n], x_recorded)]
    for a_t, s_t, x_t, x_t_recorded, recorded, after in zip(*steps, [*steps[2][1:], None], strict=False):
        x_t_recorded.lerp_(recorded, forcing.pull)
        losses.half_rate(add_product(a_t, x_t, W), s_t)
        if after is not None:
            torch.lerp(x_t, s_t, alpha, out=after)
    return s, torch.add(x, x, out=x).sub_(1)


def unroll_backward(g, from_u, W, states, forcing, alpha, buffers):
    """The gradient of a loss through `unroll`, by hand: a third of the time that recording every step takes.

    With g[t] = dL/da[t], running backwards:  g[t]     = dL/da (from the loss) + alpha * phi'(a[t]) * dL/du[t+1]
                                              dL/du[t] = dL/du (from the loss) + (1 - alpha) * dL/du[t+1] + g[t] @ W.T
    and dL/dW is one product over the whole window, sum over t of u[t].T @ g[t].

    g: (T, ..., B, units), dL/da from the loss, overwritten by the whole dL/da; from_u: the same of u, or None;
    states: s and u, `unroll`'s. Returns: dL/dW.
    """
    (s, u), n, WT = states, forcing.n, W.mT.contiguous()  # a product with a transposed matrix takes half longer
    clamped_steps = min(forcing.warmup + 1, len(s))
    slope = losses.slope(s, buffers.like("slope", s))
    du, remains = torch.zeros_like(s[0]), torch.as_tensor(1 - forcing.pull, dtype=s.dtype)  # dL/du[t+1]
    du_recorded = du[..., :n]
    steps = [buffers.steps(y[clamped_steps:]) for y in ((g, slope) if from_u is None else (g, slope, from_u))]
    for g_t, slope_t, *from_u_t in reversed(list(zip(*steps, strict=True))):
        g_t.addcmul_(du, slope_t, value=alpha)
        add_product(du, g_t, WT, beta=1 - alpha)
        for more in from_u_t:
            du.add_(more)
        du_recorded.mul_(remains)
    # clamped: the recorded units' state does not depend on what came before, and affects only their own loss
    last = clamped_steps - 1
    g[last, ..., :n].addcmul_(du_recorded, slope[last, ..., :n], value=alpha)
    among, du = WT[..., n:, n:].contiguous(), du[..., n:].contiguous()
    sent = torch.matmul(
        g[:clamped_steps, ..., :n], WT[..., :n, n:], out=buffers.like("sent", g[:clamped_steps, ..., n:])
    )
    if from_u is not None:
        sent += from_u[:clamped_steps, ..., n:]
    steps = [buffers.steps(y) for y in (g[:clamped_steps, ..., n:], slope[:clamped_steps, ..., n:], sent)]
    for g_t, slope_t, sent_t in reversed(list(zip(*steps, strict=True))):
        g_t.addcmul_(du, slope_t, value=alpha)
        add_product(du, g_t, among, beta=1 - alpha).add_(sent_t)
    return over_time(u).mT @ over_time(g)


def add_product(x, u, W, beta=1.0):
    """x = beta * x + u @ W, in place and in one pass, with or without a leading replica axis."""
    return (x.baddbmm_ if x.ndim == 3 else x.addmm_)(u, W, beta=beta)


def over_time(x):
    """Time and batch as one axis: (T, ..., B, n) to (..., T * B, n)."""
    return x.movedim(0, -3).flatten(-3, -2)


@torch.no_grad()
def gradient(weights, batch, objective, forcing=0.0, penalty=None, log=True, buffers=None):
    """The loss of a batch of windows (see model.RNN.loss) and its gradient, summed over replicas.

    weights: W, W_in, b; batch: velocity (T, ..., B, D), recorded state, recorded rates and known current or None (T,
    ..., B, n); objective: Objective; forcing, penalty: numbers or tensors without axes, the latter None for none; log:
    whether to compute the loss itself, too; buffers: of the last update.
    Returns: loss, (...) or None, and the gradients of W, W_in and b.
    """
    W, W_in, b = (p.detach() for p in weights)
    (v, u, r, stimulus), (n, alpha, warmup, driven, free, loss, clamped) = batch, objective
    buffers = Buffers() if buffers is None else buffers
    two_a = buffers.like("two_a", v[..., :1].expand(*v.shape[:-1], b.shape[-1]))
    torch.matmul(v, 2 * W_in, out=two_a)
    two_a += 2 * b.unsqueeze(-2)
    if stimulus is not None:
        two_a[..., :n].add_(stimulus, alpha=2)
    forcing = Forcing(n, len(v) if clamped else warmup, forcing)
    s, states = unroll(W, two_a, u, forcing, alpha, buffers, keep=log)
    value = losses.LOSSES[loss](two_a[warmup:, ..., :n] / 2, r[warmup:]).mean((0, -2, -1)) if log else None

    g, count = buffers.like("g", s), (len(v) - warmup) * v.shape[-2] * n
    g.zero_()
    recorded, s_recorded = g[warmup:, ..., :n], s[warmup:, ..., :n]
    torch.sub(s_recorded, r[warmup:], alpha=0.5, out=recorded).sub_(0.5).mul_(2 / count)
    if loss == "mse":
        recorded.mul_(2 * losses.slope(s_recorded, torch.empty_like(s_recorded)))
    from_u = None
    if penalty is not None:  # of the drive u[hidden] @ out, by u.T @ u and out @ out.T
        sent, out, from_u = states[warmup:, ..., n:], W[..., n:, :n], buffers.like("from_u", s)
        each = penalty / count
        torch.matmul(sent, 2 * each * out @ out.mT, out=from_u[warmup:, ..., n:])
        flat = over_time(sent)  # (..., T * B, hidden units)
        pull = each * (flat.mT @ flat) @ out
        value = value + (pull * out).sum((-2, -1)) if log else None
    W_grad = unroll_backward(g, from_u, W, (s, states), forcing, alpha, buffers)
    if penalty is not None:
        W_grad[..., n:, :n] += 2 * pull
    if free is not None:
        W_grad *= free
    return value, (W_grad, over_time(v).mT @ over_time(g) * driven, over_time(g).sum(-2))


class Gradient:
    """`gradient` of the next windows; on a CPU replicas do best one after the other, in the same arrays."""

    def __init__(self, weights, objective, windows, penalised=True):
        """weights: the tensors that an optimiser changes in place, with their replica axis; objective: Objective;
        windows: Windows; penalised: whether there is a penalty."""
        self.weights, self.objective, self.windows, self.buffers = weights, objective, windows, Buffers()
        self.penalised, self.batched = penalised, windows.rates.is_cuda
        n, alpha, warmup, driven, free, loss, clamped = objective
        apart = free is not None and not free[n:, n:].any() and not torch.as_tensor(driven).expand(len(free))[:n].any()
        self.steps = None
        if clamped and apart and loss == "matching" and not penalised and not self.batched:
            self.steps = slice(warmup, None, LOSS_STRIDE)
            self.synapse = synapse(windows.length, self.steps, alpha)

    def __call__(self, drawn, forcing, penalty, log=True):
        """drawn: Windows.draw's; forcing, penalty: at this update. Returns: loss (replicas,) if `log`, gradients."""
        penalty, (n, *_, free, _, _) = penalty if self.penalised else None, self.objective

        def work_out(weights, drawn):
            batch = self.windows.at(drawn)
            if self.steps is not None:
                return clamped_gradient(weights, n, self.synapse, batch, self.steps, free, log)
            return gradient(weights, batch, self.objective, forcing, penalty, log, self.buffers)

        if self.batched:
            return work_out(self.weights, drawn)
        each = [work_out(weights, windows) for *weights, windows in zip(*self.weights, drawn, strict=True)]
        gradients = [torch.stack(parts) for parts in zip(*(gradients for _, gradients in each), strict=True)]
        return (torch.stack([loss for loss, _ in each]) if log else None), gradients
