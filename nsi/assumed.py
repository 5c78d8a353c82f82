"""Have a network keep to what its units are assumed to be (nsi/units.py)."""

import numpy as np
import torch


def start(model):
    """Bring the first weights of a network within their bounds: those bounded on one side by turning their sign."""
    W, W_in, who = model.W.data, model.W_in.data, model.who
    if who.bounded:
        W.copy_(torch.where((model.low == 0) & (model.high > 0), W.abs(), W))
        W.copy_(torch.where((model.high == 0) & (model.low < 0), -W.abs(), W))
    inputs = torch.as_tensor(np.flatnonzero(who.hidden_inputs))
    still = torch.as_tensor(~who.driven & (np.arange(len(who.driven)) >= who.n))
    W[..., still] = W[..., still].abs()  # a unit that starts silent may stay so
    if who.types and W_in.shape[1] == 1:  # as many that prefer either direction
        W_in[..., inputs] = W_in[..., inputs].abs() * (1 - 2 * (torch.arange(len(inputs)) % 2))
    if who.copies:
        for senders, copies in who.copied():
            W[:, :, copies] = 0.0
            W[:, senders, copies] = 1.0
    constrain(model)


@torch.no_grad()
def constrain(model):
    """Put a network's weights back, in place, to where its assumptions allow them; an update may have led astray."""
    W, W_in, b = (p.data for p in model.weights)
    who = model.who
    if who.types and who.hidden_inputs.any():
        ours = torch.as_tensor(who.hidden_inputs)
        known = torch.as_tensor(who.driven) & ~ours  # recorded cells of the type, if any, set what the others share
        known = known if known.any() else ours
        b[:, ours] = b[:, known].mean(-1, keepdim=True)
        size = W_in[..., ours].norm(dim=-2, keepdim=True)  # (R, 1, input units)
        shared = W_in[..., known].norm(dim=-2, keepdim=True).mean(-1, keepdim=True)
        W_in[..., ours] *= shared / size.clamp(min=1e-12)
        total = W[..., ours].sum(-2, keepdim=True)
        shared = W[..., known].sum(-2, keepdim=True).mean(-1, keepdim=True)
        W[..., ours] += (shared - total) / max(1, who.free[:, who.hidden_inputs].sum(0).max())
    if who.bounded:
        W.clamp_(model.low, model.high)
