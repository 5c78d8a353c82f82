"""Project a network's weights onto the constraints of its units (units.py)."""

import numpy as np
import torch


def initialize(model):
    """Bring the initial weights of a network within their bounds, in place: those bounded on one side by their sign."""
    W, W_in, units = model.W.data, model.W_in.data, model.units
    if units.bounded:
        W.copy_(torch.where((model.low == 0) & (model.high > 0), W.abs(), W))
        W.copy_(torch.where((model.high == 0) & (model.low < 0), -W.abs(), W))
    inputs = torch.as_tensor(np.flatnonzero(units.hidden_inputs))
    still = torch.as_tensor(~units.driven & (np.arange(len(units.driven)) >= units.n))
    W[..., still] = W[..., still].abs()  # a unit that starts silent may stay so
    if units.types and W_in.shape[1] == 1:  # as many that prefer either direction
        W_in[..., inputs] = W_in[..., inputs].abs() * (1 - 2 * (torch.arange(len(inputs)) % 2))
    if units.copies:
        for senders, copies in units.copied():
            W[:, :, copies] = 0.0
            W[:, senders, copies] = 1.0
    project(model)


def project(model):
    """Project the weights of a network onto the constraints, in place."""
    Projection(model)()


class Projection:
    """The projection of a network's weights onto the constraints of its units, in place, after each update."""

    def __init__(self, model):
        units = self.units = model.units
        self.W, self.W_in, self.b = (p.data for p in model.weights)
        self.bounds = (model.low, model.high) if units.bounded else None
        count = int(units.hidden_inputs.sum())
        self.hidden = slice(len(units.driven) - count, None)  # the hidden input units come last
        recorded = np.flatnonzero(units.driven & ~units.hidden_inputs)  # these, if any, set what the others share
        self.sharing = torch.as_tensor(recorded) if len(recorded) else self.hidden
        self.shares = units.types and count > 0
        self.received = max(1, units.free[:, self.hidden].sum(0).max(initial=0))  # connections of a hidden input unit

    @torch.no_grad()
    def __call__(self):
        """Project the weights as they are now."""
        if self.shares:
            W, W_in, b = (x[..., self.hidden] for x in (self.W, self.W_in, self.b))
            b[:] = self.b[..., self.sharing].mean(-1, keepdim=True)
            size = W_in.norm(dim=-2, keepdim=True)  # (R, 1, input units)
            shared = self.W_in[..., self.sharing].norm(dim=-2, keepdim=True).mean(-1, keepdim=True)
            W_in *= shared / size.clamp(min=1e-12)
            shared = self.W[..., self.sharing].sum(-2, keepdim=True).mean(-1, keepdim=True)
            W += (shared - W.sum(-2, keepdim=True)) / self.received
        if self.bounds:
            self.W.clamp_(*self.bounds)
