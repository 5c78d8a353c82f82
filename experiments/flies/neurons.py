"""Hidden neurons: input units compared with the P-EN1 neurons, which no fit reads."""

import numpy as np

from experiments.flies.prediction import CLAMPED_STEPS, vector
from nsi.network import predict_hidden, synaptic_state

TURNING = 1.0  # rad/s, above which a fly turns


def input_units(net, rec):
    """Run the input units, E-PG clamped. Returns: their states and the drive they send to the wedges."""
    states = synaptic_state(predict_hidden(net, rec), net.alpha)
    return states, states @ net.W[net.n :, : net.n]


def leads(bump, rec):
    """How far another bump is ahead of E-PG's when a fly turns. bump: (trials, steps) complex.

    Returns: {"left" and "right": degrees, for each fly}, circular means weighted by the bumps' sizes.
    """
    relative = bump * vector(rec.rates).conj()
    turns = {"right": rec.velocity[..., 0] > TURNING, "left": rec.velocity[..., 0] < -TURNING}
    mean = lambda turn, k: np.sum(relative[turn & rec.valid & (rec.animal == k)[:, None]])
    degrees = lambda turn: [float(np.rad2deg(np.angle(mean(turn, k)))) for k in np.unique(rec.animal)]
    return {side: degrees(turn) for side, turn in turns.items()}


def share(x, y, rec):
    """Share of the variance of y that one linear map from x explains, fitted on every second trial, for each fly.

    x: (trials, steps, any); y: (trials, steps, any). Returns: (flies,) on the other trials.
    """
    half = np.arange(len(x)) % 2 == 0
    return [mapped(x, y, rec, half, ~half & (rec.animal == k)) for k in np.unique(rec.animal)]


def mapped(x, y, rec, fitted, tested):
    """The same for trials of one's own choice. fitted, tested: (trials,) bool. Returns: the share."""
    x = np.concatenate([x, np.ones((*x.shape[:2], 1))], -1).astype(float)
    settled = rec.valid & (np.arange(x.shape[1]) >= CLAMPED_STEPS)
    f, t = settled & fitted[:, None], settled & tested[:, None]
    G, target = x[f].T @ x[f], x[f].T @ y[f]
    weights = np.linalg.solve(G + 1e-6 * np.trace(G) / len(G) * np.eye(len(G)), target)
    return float(1 - np.sum((y[t] - x[t] @ weights) ** 2) / np.sum((y[t] - y[t].mean(0)) ** 2))


def unseen(rec, pen, fits, shuffled):
    """Compare the input units with the P-EN1 neurons. fits, shuffled: of the recording, and with the
    velocity of other trials."""
    drive = np.mean([input_units(f, rec)[1] for f in fits], 0)
    epg, v = (synaptic_state(a, fits[0].alpha) for a in (rec.rates, rec.velocity))
    rows = {
        "E-PG and velocity": [np.concatenate([epg, v], -1)],
        "E-PG, velocity and their product": [np.concatenate([epg, v, epg * v], -1)],
        "input units": [input_units(f, rec)[0] for f in fits],
        "input units, shuffled velocity": [input_units(f, rec)[0] for f in shuffled],
    }
    return {
        "lead": {"P-EN1": leads(vector(pen), rec), "input units": leads(vector(drive), rec)},
        "share": {name: np.mean([share(x, pen, rec) for x in each], 0).tolist() for name, each in rows.items()},
    }
