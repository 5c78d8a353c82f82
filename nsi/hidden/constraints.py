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


@torch.no_grad()
def project(model):
    """Project the weights back onto the constraints, in place, after an update."""
    W, W_in, b = (p.data for p in model.weights)
    units = model.units
    if units.types and units.hidden_inputs.any():
        hidden = torch.as_tensor(units.hidden_inputs)
        recorded = torch.as_tensor(units.driven) & ~hidden  # these, if any, set what the others share
        recorded = recorded if recorded.any() else hidden
        b[:, hidden] = b[:, recorded].mean(-1, keepdim=True)
        size = W_in[..., hidden].norm(dim=-2, keepdim=True)  # (R, 1, input units)
        shared = W_in[..., recorded].norm(dim=-2, keepdim=True).mean(-1, keepdim=True)
        W_in[..., hidden] *= shared / size.clamp(min=1e-12)
        total = W[..., hidden].sum(-2, keepdim=True)
        shared = W[..., recorded].sum(-2, keepdim=True).mean(-1, keepdim=True)
        W[..., hidden] += (shared - total) / max(1, units.free[:, units.hidden_inputs].sum(0).max())
    if units.bounded:
        W.clamp_(model.low, model.high)
