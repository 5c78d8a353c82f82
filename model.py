"""The input-separated recurrent network.

    a[t]   = u[t] @ W + b + v[t] @ W_in + stimulus[t]           input current
    r[t]   = phi(a[t])                                          firing rate, phi(x) = max(0, tanh(x))
    u[t+1] = u[t] + alpha * (r[t] - u[t])                       synaptic state, alpha = dt / tau

Recorded units come first and stand for the recorded neurons, one each; hidden ones follow. By default recorded units
are response units and hidden ones input units: the velocity v reaches the input units alone, so that it can move the
response units only through W[input, response] (input separation). Without input units (the control) it enters the
response units themselves. W[i, j] is the weight from unit i to unit j. nsi/hidden/units.py has other kinds of units.

    loss = mean(log cosh(max(a, 0)) - a * r) + penalty * mean((u[hidden] @ W[hidden, recorded])^2)

a is the current of the recorded units and r the rate recorded there. The first term is the matching loss of phi: its
gradient with respect to a is phi(a) - r, which, unlike that of a squared error, does not vanish where the network
predicts silence. The penalty favours recorded-to-recorded weights where paths through hidden units explain the data
equally well.

In the first `warmup` steps of a window, which do not count in the loss, the recorded units are clamped to their
recorded state, so that the hidden units reach theirs. Then the network runs with partial (generalized) teacher forcing:
at each step the recorded units' state moves the fraction `forcing` of the way to the recorded one (Williams and Zipser
1989, doi 10.1162/neco.1989.1.2.270; Doya 1992). A free-running network is penalized for unpredictable noise, which
biases W; a clamped one never learns to keep its bump in place. So the forcing fades to 0 over the updates, and the
penalty, which makes the bump lag, with it.

This file is the plain version, which autograd can follow; a fit runs the same equations through
nsi/training/bptt.py, and tests hold the two equal.
"""

import torch
from torch import nn

from nsi.hidden import constraints, units
from nsi.network import Network
from nsi.training import losses


class RNN(nn.Module):
    """The network above; its parameters carry a leading replica axis, R independent networks."""

    def __init__(self, n_response, n_input, n_velocity=1, alpha=0.2, init_scale=0.03, generators=(None,), kinds=None):
        """n_response, n_input, n_velocity: numbers of response units, input units and velocity components D;
        alpha: dt / tau; init_scale: size of the initial W relative to Glorot and Bengio (2010), W_in being at theirs:
        weights that the data do not constrain stay at their initial values, so W is initialized near 0; generators:
        one for each replica, of the initial weights; kinds: units.Units, in the place of the two numbers.
        """
        super().__init__()
        self.units = kinds = kinds or units.make_units(n_response, inputs=n_input)
        n, replicas, driven = len(kinds.driven), len(generators), torch.as_tensor(kinds.driven)
        self.n_response, self.alpha = kinds.n, alpha
        self.register_buffer("driven", driven.float(), persistent=False)  # where v may enter
        self.register_buffer("low", torch.as_tensor(kinds.low), persistent=False)
        self.register_buffer("high", torch.as_tensor(kinds.high), persistent=False)
        free = None if kinds.free.all() else torch.as_tensor(kinds.free).float()
        self.register_buffer("free", free, persistent=False)  # 1 where there may be a connection
        self.W = nn.Parameter(torch.empty(replicas, n, n))  # (R, units, units)
        self.W_in = nn.Parameter(torch.zeros(replicas, n_velocity, n))  # (R, D, units)
        self.b = nn.Parameter(torch.zeros(replicas, n))  # (R, units)
        for W, W_in, g in zip(self.W.data, self.W_in.data, generators, strict=True):
            nn.init.xavier_uniform_(W, gain=init_scale, generator=g)
            W_in[:, driven] = nn.init.xavier_uniform_(torch.empty(n_velocity, int(driven.sum())), generator=g)
        constraints.initialize(self)

    @property
    def weights(self):
        """W, W_in and b."""
        return self.W, self.W_in, self.b

    def step(self, u, v, stimulus=None):
        """One time step.

        u: (R, B, units) state; v: (R, B, D) velocity; stimulus: (R, B, n_response) or None.
        Returns: a, r and the next u, each (R, B, units).
        """
        a = u @ self.W + self.b.unsqueeze(-2) + v @ self.W_in
        if stimulus is not None:
            a = a + nn.functional.pad(stimulus, (0, a.shape[-1] - self.n_response))
        r = losses.rate(a)
        return a, r, u + self.alpha * (r - u)

    def forward(self, v, u_recorded, warmup=10, forcing=0.0, stimulus=None):
        """Run over time from input units at zero, as above.

        v: (T, R, B, D); u_recorded: (T, R, B, n_response) recorded state; stimulus: the same, or None.
        Returns: a and u, each (T, R, B, units).
        """
        n, currents, states = self.n_response, [], []
        u = torch.zeros(*v.shape[1:-1], self.b.shape[-1])
        for t in range(len(v)):
            pull = 1.0 if t <= warmup else forcing
            u = torch.cat([u[..., :n] + pull * (u_recorded[t] - u[..., :n]), u[..., n:]], -1)
            states.append(u)
            a, _, u = self.step(u, v[t], None if stimulus is None else stimulus[t])
            currents.append(a)
        return torch.stack(currents), torch.stack(states)

    def loss(self, batch, warmup=10, forcing=0.0, penalty=0.0, kind="matching"):
        """The loss above, of each replica; `kind` "mse" has the squared error of the rates for its first term.

        batch: v, u_recorded, r and stimulus, r (T, R, B, n_response) the recorded rates, the others as for `forward`.
        Returns: (R,).
        """
        n, (v, u_recorded, r, stimulus) = self.n_response, batch
        a, u = self.forward(v, u_recorded, warmup, forcing, stimulus)
        each = losses.LOSSES[kind](a[warmup:, ..., :n], r[warmup:])
        drive = u[warmup:, ..., n:] @ self.W[:, n:, :n]
        return (each + penalty * drive.square()).mean((0, -2, -1))

    def networks(self):
        """The replicas as arrays on the CPU. Returns: list of Network."""
        arrays = zip(*(p.detach().cpu().numpy().copy() for p in self.weights), strict=True)
        return [Network(W, W_in, b, self.alpha, self.n_response) for W, W_in, b in arrays]
