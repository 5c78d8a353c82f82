"""The input-separated recurrent network.

    r[t]   = phi(u[t] @ W + b + v[t] @ W_in + stimulus[t])      phi(x) = max(0, tanh(x))
    u[t+1] = u[t] + alpha * (r[t] - u[t])                       alpha = dt / tau

Response units come first and stand for the recorded neurons, one each; input units follow. The velocity v reaches the
input units alone (columns of W_in), so that it can move the response units only through W[inp, resp]. Without input
units (the control) it enters the response units themselves. W[i, j] is the weight from unit i to unit j.
"""

import pickletools
import zipfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from files import BadInput

VERSION = 1  # of the checkpoints
PICKLED = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch FloatStorage", "torch ByteStorage"}


def phi(x):
    """Firing rate from input current."""
    return torch.tanh(x).clamp(min=0)


class RNN(nn.Module):
    """The network above; its parameters may carry a leading replica axis (see `stack`).

    n_response, n_input, n_velocity: numbers of response units, input units and velocity components;
    alpha: dt / tau; init_scale: size of the initial W relative to Glorot and Bengio (2010), W_in being at theirs:
    what the data do not determine keeps its start for ever, so W starts small; generator: draws the start.
    """

    def __init__(self, n_response, n_input, n_velocity=1, alpha=0.2, init_scale=0.03, generator=None):
        super().__init__()
        n, driven = n_response + n_input, n_input or n_response
        self.n_response, self.alpha = n_response, alpha
        self.W = nn.Parameter(torch.empty(n, n))
        self.W_in = nn.Parameter(torch.empty(n_velocity, driven))
        self.b = nn.Parameter(torch.zeros(n))
        nn.init.xavier_uniform_(self.W, gain=init_scale, generator=generator)
        nn.init.xavier_uniform_(self.W_in, generator=generator)

    def current(self, v, stimulus=None):
        """The input currents that do not depend on the state: b + v @ W_in + stimulus.

        v: (..., B, D); stimulus: (..., B, n_response) or None. Returns: (..., B, n).
        """
        n, driven = self.b.shape[-1], self.W_in.shape[-1]
        current = F.pad(v @ self.W_in, (n - driven, 0)) + self.b.unsqueeze(-2)
        return current if stimulus is None else current + F.pad(stimulus, (0, n - self.n_response))

    def step(self, u, v, stimulus=None):
        """One time step: state u (..., B, n) and velocity v (..., B, D) give r (..., B, n) and the next u."""
        r = phi(u @ self.W + self.current(v, stimulus))
        return r, u + self.alpha * (r - u)

    def forward(self, v, u_response, warmup, forcing=0.0, stimulus=None):
        """Run over time, the response units held at their recorded state up to and with step `warmup`, then freely,
        or, with `forcing`, pulled towards it by that fraction at every step.

        v: (T, ..., B, D) velocity; u_response: (T, ..., B, n_response) recorded synaptic state; stimulus:
        (T, ..., B, n_response) or None. Input units start at zero.
        Returns: a (T, ..., B, n), input currents, so that r = phi(a), and u (T, ..., B, n), states.
        """
        return Unroll.apply(self.W, self.current(v, stimulus), u_response, warmup, forcing, self.alpha)

    @staticmethod
    def stack(models):
        """One network whose parameters are those of `models` along a leading replica axis."""
        return models[0]._with(**{k: torch.stack([getattr(m, k) for m in models]) for k in ("W", "W_in", "b")})

    def unstack(self):
        """The networks that `stack` made one of; they share its memory."""
        return [self._with(W=W, W_in=W_in, b=b) for W, W_in, b in zip(self.W, self.W_in, self.b, strict=True)]

    def _with(self, **parameters):
        other = RNN(1, 0, alpha=self.alpha)
        other.n_response = self.n_response
        for name, value in parameters.items():
            setattr(other, name, nn.Parameter(value.detach()))
        return other


def load(path):
    """Read a checkpoint of train.py. Returns: the RNN, and the options it was trained with. Raises: BadInput."""
    checkpoint = read(path)
    args, weights = checkpoint["args"], checkpoint["model"]
    n_input = 0 if args["control"] else args["input_units"]
    model = RNN(weights["W"].shape[-1] - n_input, n_input, weights["W_in"].shape[-2], args["alpha"])
    for name, value in weights.items():
        setattr(model, name, nn.Parameter(value))
    return model, args


def read(path):
    """A checkpoint of train.py as a dictionary, read as if it were made to do harm.

    Raises: BadInput where it is none, is damaged, is of another version, or has weights that do not fit each other.
    """
    if not Path(path).is_file():
        raise BadInput(f"{path}: no such file; expected a checkpoint, as `python train.py` writes")
    try:
        _inspect(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        version, weights = checkpoint.get("version", VERSION), checkpoint["model"]
        if version != VERSION:
            wrong = f"is a checkpoint of version {version!r}; expected version {VERSION}: train anew"
        else:
            args, trained = checkpoint["args"], checkpoint.get("trained", weights)  # before the last step
            wrong = _misfit(weights, args) or _misfit(trained, args)
    except Exception:  # whatever torch makes of damage
        raise BadInput(f"{path}: is not a whole checkpoint; expected one that train.py wrote") from None
    if wrong:
        raise BadInput(f"{path}: {wrong}")
    return checkpoint


def _inspect(path):
    """Raise ValueError where a file is damaged, claims more than it holds, or pickles more than tensors and dicts."""
    with zipfile.ZipFile(path) as file:
        if sum(member.file_size for member in file.infolist()) > Path(path).stat().st_size:
            raise ValueError("compressed, as torch never does")
        if file.testzip():
            raise ValueError("does not agree with its checksums")
        (pickle,) = (name for name in file.namelist() if name.endswith("/data.pkl"))
        named = {what for code, what, _ in pickletools.genops(file.read(pickle)) if code.name == "GLOBAL"}
    if named - PICKLED:
        raise ValueError(f"names {named - PICKLED}")


def _misfit(weights, args):
    """What is wrong with a checkpoint's weights, in a clause, or nothing."""
    *replicas, size, _ = weights["W"].shape
    driven = size if args["control"] else args["input_units"]
    if not 0 < args["alpha"] <= 1 or driven > size - (not args["control"]):
        return f"has {args['input_units']} input units of {size} units and alpha {args['alpha']!r}; expected fewer"
    shapes = {
        "W": (*replicas, size, size),
        "W_in": (*replicas, weights["W_in"].shape[-2], driven),
        "b": (*replicas, size),
    }
    for name, shape in shapes.items():
        value = weights[name]
        if value.shape != shape:
            return f"{name} has shape {tuple(value.shape)}; expected {shape}"
        if value.dtype != torch.float32 or value.numel() * 4 > value.untyped_storage().nbytes():
            return f"{name} has type {value.dtype}, or not the memory for its shape; expected whole float32 tensors"
        if not value.isfinite().all():
            return f"{name} has values that are not finite; expected the weights of a fit that did not diverge"
    return ""


class Buffers(dict):
    """Arrays that one update leaves to the next: making them anew costs as much as the arithmetic done in them."""

    def like(self, name, x):
        """The array of this name, of x's shape and type, its content arbitrary (at first: zero)."""
        if name not in self or self[name].shape != x.shape:
            self[name] = torch.zeros_like(x)
        return self[name]


def unroll(W, a, u_response, warmup, forcing, alpha, buffers, keep=True):
    """The loop over time (see RNN.forward).

    a: (T, ..., B, n), the currents that do not depend on the state (RNN.current), overwritten by the whole ones, and
    these by r unless told to `keep` them. Returns: rates r and states u, likewise.

    While the response units are held, their share of u @ W is one product for all these steps, and only the input
    units, which know nothing but their own past, need the loop.
    """
    r, u = buffers.like("r", a) if keep else a, buffers.like("u", a)
    n, held = u_response.shape[-1], min(warmup + 1, len(a))
    u[:held, ..., :n] = u_response[:held]
    a[:held] += u_response[:held] @ W[..., :n, :]
    a_input, s, among = a[:held, ..., n:].contiguous(), torch.zeros_like(a[0, ..., n:]), W[..., n:, n:].contiguous()
    for a_t, u_t in zip(a_input, u[:held, ..., n:], strict=True):
        u_t.copy_(s)
        s.lerp_(phi(add_product(a_t, s, among)), alpha)
    a[:held, ..., n:] = a_input
    a[:held, ..., :n] += u[:held, ..., n:] @ W[..., n:, :n]
    torch.tanh(a[:held], out=r[:held]).relu_()
    if held < len(a):
        torch.lerp(u[warmup], r[warmup], alpha, out=u[held])
    steps = [x[held:].unbind() for x in (a, r, u, u[..., :n], u_response)]
    for a_t, r_t, u_t, u_t_response, recorded, after in zip(*steps, [*steps[2][1:], None], strict=False):
        u_t_response.lerp_(recorded, forcing)
        add_product(a_t, u_t, W)
        torch.tanh(a_t, out=r_t).relu_()
        if after is not None:
            torch.lerp(u_t, r_t, alpha, out=after)
    return r, u


def unroll_backward(g, from_u, W, r, u, n, warmup, forcing, alpha):
    """The gradient of a loss through `unroll`, by hand: a third of the time that recording every step takes.

    With g[t] = dL/da[t], running backwards:  g[t]     = dL/da (from the loss) + alpha * phi'(a[t]) * dL/du[t+1]
                                              dL/du[t] = dL/du (from the loss) + (1 - alpha) * dL/du[t+1] + g[t] @ W.T
    and dL/dW is one product over the whole window, sum over t of u[t].T @ g[t].

    g: (T, ..., B, n), dL/da from the loss, overwritten by the whole dL/da, which is the gradient of `current`;
    from_u: the same of u, or None. Returns: dL/dW.
    """
    held, WT = min(warmup + 1, len(r)), W.mT
    du, slope = torch.zeros_like(r[0]), torch.empty_like(r[0])  # dL/du[t+1], and times phi'(a[t])
    du_response = du[..., :n]
    steps = [x[held:].unbind() for x in ((g, r) if from_u is None else (g, r, from_u))]
    for g_t, r_t, *from_u_t in reversed(list(zip(*steps, strict=True))):
        g_t.add_(through_phi(du, r_t, slope), alpha=alpha)
        add_product(du, g_t, WT, beta=1 - alpha)
        for more in from_u_t:
            du.add_(more)
        du_response.mul_(1 - forcing)
    # held: what came before does not move the response units' state, and theirs moves only what is seen of them
    last = held - 1
    g[last, ..., :n].add_(through_phi(du_response, r[last, ..., :n], slope[..., :n]), alpha=alpha)
    sent, among = g[:held, ..., :n] @ WT[..., :n, n:], WT[..., n:, n:].contiguous()
    if from_u is not None:
        sent += from_u[:held, ..., n:]
    g_input, r_input, ds, slope = (x[..., n:].contiguous() for x in (g[:held], r[:held], du, slope))
    for g_t, r_t, sent_t in reversed(list(zip(g_input, r_input, sent, strict=True))):
        g_t.add_(through_phi(ds, r_t, slope), alpha=alpha)
        add_product(ds, g_t, among, beta=1 - alpha).add_(sent_t)
    g[:held, ..., n:] = g_input
    flat = [x.movedim(0, -3).flatten(-3, -2) for x in (u, g)]  # (..., T * B, n)
    return flat[0].mT @ flat[1]


def through_phi(gradient, r, out):
    """gradient * phi'(a), where phi'(a) = 1 - r^2 for r > 0, else 0."""
    torch.ops.aten.tanh_backward.grad_input(gradient, r, grad_input=out)
    return torch.ops.aten.threshold_backward.grad_input(out, r, 0, grad_input=out)


def add_product(x, u, W, beta=1.0):
    """x = beta * x + u @ W, in place and in one pass, with or without a leading replica axis."""
    return (x.baddbmm_ if x.ndim == 3 else x.addmm_)(u, W, beta=beta)


class Unroll(torch.autograd.Function):
    """`unroll` for losses written with autograd; fitting.py calls the two functions themselves."""

    @staticmethod
    def forward(ctx, W, current, u_response, warmup, forcing, alpha):
        a = current.clone()
        r, u = unroll(W, a, u_response, warmup, forcing, alpha, Buffers())
        ctx.save_for_backward(W, r, u)
        ctx.rest = u_response.shape[-1], warmup, forcing, alpha
        return a, u

    @staticmethod
    def backward(ctx, from_a, from_u):
        g = from_a.clone()
        return unroll_backward(g, from_u, *ctx.saved_tensors, *ctx.rest), g, None, None, None, None
