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
        if len(models) == 1:
            return models[0]
        whole = RNN(1, 0, alpha=models[0].alpha)
        whole.n_response = models[0].n_response
        for name, _ in list(whole.named_parameters()):
            setattr(whole, name, nn.Parameter(torch.stack([getattr(m, name).detach() for m in models])))
        return whole


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


def unroll(W, current, u_response, warmup, forcing, alpha, buffers):
    """The loop over time (see RNN.forward). Returns: currents a, rates r and states u, each (T, ..., B, n)."""
    a, r, u = (buffers.like(name, current) for name in "aru")
    n = u_response.shape[-1]
    u[0, ..., :n], u[0, ..., n:] = u_response[0], 0
    for t in range(len(a)):
        torch.matmul(u[t], W, out=a[t]).add_(current[t])
        torch.tanh(a[t], out=r[t]).clamp_(min=0)
        if t + 1 < len(a):
            torch.lerp(u[t], r[t], alpha, out=u[t + 1])
            if pull := 1.0 if t < warmup else forcing:
                u[t + 1, ..., :n].lerp_(u_response[t + 1], pull)
    return a, r, u


def unroll_backward(g, from_u, W, r, u, n, warmup, forcing, alpha):
    """The gradient of a loss through `unroll`, by hand: a third of the time that recording every step takes.

    With g[t] = dL/da[t], running backwards:  g[t]     = dL/da (from the loss) + alpha * phi'(a[t]) * dL/du[t+1]
                                              dL/du[t] = dL/du (from the loss) + (1 - alpha) * dL/du[t+1] + g[t] @ W.T
    and dL/dW is one product over the whole window, sum over t of u[t].T @ g[t].

    g: (T, ..., B, n), dL/da from the loss, overwritten by the whole dL/da, which is the gradient of `current`;
    from_u: the same of u, or None. Returns: dL/dW.
    """
    du, slope = torch.zeros_like(r[0]), torch.empty_like(r[0])
    for t in reversed(range(len(r))):
        # phi'(a) = (1 - r^2) where r > 0, else 0; du is still that of step t + 1
        torch.ops.aten.tanh_backward.grad_input(du, r[t], grad_input=slope)
        torch.ops.aten.threshold_backward.grad_input(slope, r[t], 0, grad_input=slope)
        g[t].add_(slope, alpha=alpha)
        du.mul_(1 - alpha).add_(g[t] @ W.mT)
        if from_u is not None:
            du.add_(from_u[t])
        if pull := 1.0 if t <= warmup else forcing:
            du[..., :n] *= 1 - pull
    flat = [x.movedim(0, -3).flatten(-3, -2) for x in (u, g)]  # (..., T * B, n)
    return flat[0].mT @ flat[1]


class Unroll(torch.autograd.Function):
    """`unroll` for losses written with autograd; train.py calls the two functions themselves."""

    @staticmethod
    def forward(ctx, W, current, u_response, warmup, forcing, alpha):
        a, r, u = unroll(W, current, u_response, warmup, forcing, alpha, Buffers())
        ctx.save_for_backward(W, r, u)
        ctx.rest = u_response.shape[-1], warmup, forcing, alpha
        return a, u

    @staticmethod
    def backward(ctx, from_a, from_u):
        g = from_a.clone()
        return unroll_backward(g, from_u, *ctx.saved_tensors, *ctx.rest), g, None, None, None, None
