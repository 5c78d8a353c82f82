"""The weights onto the recorded neurons, solved for exactly, with a prior that the data choose.

With the recorded neurons held at the record, the input current of an active one is linear in what it receives (see
uncertainty.py), so that its incoming weights are a ridge regression away once the input units' states are known. What
the data do not determine comes from the prior: each weight is taken to lie about the mean weight of all pairs at the
same distance, as far from it as weights do in this recording. That spread, the spread of the weights from input units
and the mean profile itself are the ones under which the recording is most likely (marginal likelihood, pooled over
neurons; MacKay 1992, doi 10.1162/neco.1992.4.3.415). A circuit whose connections are alike all around the ring gets a
spread near 0 and a clean profile, an uneven one keeps its single connections, by the same rule.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from nsi import uncertainty, units
from nsi.connectivity import Held, hold, onto_state
from nsi.network import Network, synaptic_state

SPREADS = 0.003, 0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.45, 0.7, 1.0, 1.5, 2.5  # of W, relative to its r.m.s.
INPUT_SPREADS = 0.03, 0.1, 0.3, 1.0, 3.0  # of the weights from input units, likewise
THRESHOLD_SPREAD = 0.1
ASKED = 15  # neurons that the likelihood is pooled over
ROUNDS = 3  # how often the mean profile is taken anew
FEWEST = 2  # samples per regressor that a neuron needs, else it keeps its weights
UNSEEN = 2e-3  # of the variance of the states' leading direction: what varies less does not determine weights


class Solution(NamedTuple):
    """A network with its weights onto recorded neurons solved for, and what the data said on the way."""

    net: Network
    spread: float  # s.d. of single weights about their mean profile, relative to the r.m.s. weight
    noise: float  # s.d. of the residual current, median over neurons


def solve(net, rec, geometry, every=1, rounds=ROUNDS, who=None, seen=None):
    """Solve for the weights and thresholds of the recorded neurons, the input units' tuning being given.

    net: Network, its input units trained; rec: the training trials; every: use every so-many-th step, for a quick
    answer; rounds: how often the mean profile is taken anew; who: units.Units, whose bounds the weights keep (default:
    none); seen: called with how many neurons have just been solved for, of as many as there are in each of the rounds.
    Weights to and from driven recorded neurons are centred on 0, those among the others on their profile.
    Returns: Solution.
    """
    n, held = net.n, hold(net, rec)
    who = who or units.make(n, inputs=len(net.b) - n)
    still, ends = np.flatnonzero(~who.driven[:n]), np.full((1, n), np.inf)  # thresholds have no bounds
    low, high = np.concatenate([who.low[:, :n], -ends]), np.concatenate([who.high[:, :n], ends])
    if every > 1:
        held = Held(*(a[:, ::every] for a in held))
    about = np.concatenate([net.W[:, :n], net.b[None, :n]]).astype(np.float64)
    data = uncertainty.regress(about, held.x, held)
    score, count = data.scores().numpy(), data.used.sum(0).numpy()
    square, q = data.e.double().square().sum(0).numpy(), len(about)
    known = data.kept(FEWEST * q)
    noise = {j: _noise(G, score[:, j], square[j], count[j]) for j, G in known()}
    if not noise:
        return Solution(net, np.nan, np.nan)
    rms = [max(np.sqrt(np.mean(W**2)), 1e-12) if W.size else 1.0 for W in (about[:n], about[n:-1])]
    # units of one type overlap, and are told apart only together: what they send stays near the trained weights
    inputs = np.array(INPUT_SPREADS[:1] if who.types else INPUT_SPREADS)
    spreads = [np.array(SPREADS) * rms[0], inputs * rms[1]]
    chosen, asked = [spreads[0][6], spreads[1][len(inputs) // 2]], set(list(noise)[:: max(1, len(noise) // ASKED)])
    asked = {j: G for j, G in known() if j in asked}
    alike, places = np.ix_(still, still), geometry.find(rec.rates[rec.valid][:, still])
    everyone = np.ones((len(still), len(still)), bool)
    spread_of = lambda chosen, j: np.where(  # noqa: E731
        low[:, j] < high[:, j], np.repeat([*chosen, THRESHOLD_SPREAD], [n, q - 1 - n, 1]), 0.0
    )

    def profile(weights):
        """The prior's centre: the mean profile of some weights, and the weights from hidden units as they are."""
        centre = about.copy()
        centre[:n] = 0.0
        centre[alike] = geometry.mean_profile(weights[alike], places, everyone)
        return centre.clip(low, high)

    def left(j, G, centre):  # x.T @ (residual about the centre)
        return score[:, j] - G @ (centre[:, j] - about[:, j])

    def evidence(chosen, centre):
        each = 0.0
        for j, G in asked.items():
            its, shift = left(j, G, centre), centre[:, j] - about[:, j]
            rest = square[j] - shift @ (score[:, j] + its)
            each += _evidence(G, its, rest, noise[j], spread_of(chosen, j))
        return each

    def posterior(chosen, centre):
        weights = about.copy()
        for j, G in known():
            its = left(j, G, centre) / noise[j]
            weights[:, j] = _within(G / noise[j], its, spread_of(chosen, j), centre[:, j], low[:, j], high[:, j])
            if seen:
                seen(1)
        return weights

    centre = profile(about)
    for k in range(rounds):
        chosen = _climb(lambda chosen, centre=centre: evidence(chosen, centre), chosen, spreads)
        solved = posterior(chosen, centre)
        if k + 1 < rounds and geometry.LOOSE is None:
            centre = profile(solved)
        elif k + 1 < rounds:
            # a spread near 0 holds every weight to the profile, which then hardly moves. Looking for it under a loose
            # one too raised r_W on a torus from .984 to .999; on a ring near pairs fell from .999 to .92 (one fit each)
            moved = [profile(solved), profile(posterior([geometry.LOOSE * size for size in rms], centre))]
            centre = max([centre, *moved], key=lambda centre, chosen=chosen: evidence(chosen, centre))
    W, b = net.W.copy(), net.b.copy()
    W[:, :n], b[:n] = solved[:-1], solved[-1]
    return Solution(net._replace(W=W, b=b), chosen[0] / rms[0], float(np.sqrt(np.median(list(noise.values())))))


def onto_hidden(net, rec, who=None):
    """A network whose weights from recorded to hidden units are 0 where the recorded states hardly span a direction.

    There nothing that units receive tells them from others, and what training found by chance, or started from, would
    stay in the gate as a product of weights. Pulses span every direction, and where assumptions bind hidden units'
    weights, these are left alone. net: Network; rec: the training trials; who: units.Units. Returns: Network.
    """
    bound = who is not None and (who.bounded or who.copies or who.types)
    if bound or rec.stimulus is not None:
        return net
    n, u, W = net.n, synaptic_state(rec.rates, net.alpha)[rec.valid], net.W.copy()
    W[:n, n:] = onto_state(u, u @ W[:n, n:], UNSEEN)
    return net._replace(W=W)


def _noise(G, score, square, count):
    """Variance of a neuron's residual current, from the regression without a prior."""
    size = np.trace(G) / len(G)
    explained = score @ np.linalg.solve(G + 1e-7 * size * np.eye(len(G)), score)
    return max(1e-12, (square - explained) / max(1, count - len(G)))


def _evidence(G, score, square, noise, spread):
    """Log marginal likelihood of one neuron's currents, but for a constant.

    G, score, square: x.T @ x, x.T @ e and e @ e of the residual e about the prior's centre; spread: prior s.d.
    """
    lower = np.linalg.cholesky(np.eye(len(G)) + spread[:, None] * G * spread / noise)
    z = solve_triangular(lower, spread * score, lower=True)
    return -np.log(np.diag(lower)).sum() - (square / noise - z @ z / noise**2) / 2


def _within(G, score, spread, centre, low, high):
    """One neuron's weights under the prior, those that would leave their bounds put on them one after the other.

    G, score: x.T @ x and x.T @ residual about the centre, over the noise; spread: prior s.d., 0 where there is no
    weight; centre, low, high: of each weight. Returns: the weights.
    """
    weights, spread = centre.copy(), spread.copy()
    while True:
        factor = cho_factor(np.eye(len(G)) + spread[:, None] * G * spread)
        solved = weights + spread * cho_solve(factor, spread * (score - G @ (weights - centre)))
        beyond = (spread > 0) & ((solved < low) | (solved > high))
        if not beyond.any():
            return solved
        weights[beyond], spread[beyond] = solved[beyond].clip(low[beyond], high[beyond]), 0.0


def _climb(value, chosen, grids):
    """The point of a grid that is best along each axis, one after the other until none moves.

    value: called with a point; chosen: where to begin; grids: the places along each axis. Along an axis it is looked
    for upwards from where it was, as far as one of the next two places is better. Returns: list.
    """
    value = cache(value)  # places are come by more than once

    def along(chosen, k):
        grid = list(grids[k])
        at, worth = grid.index(chosen[k]), lambda m: value((*chosen[:k], grid[m], *chosen[k + 1 :]))
        for step in (1, -1):
            ahead = lambda at, step=step: [m for m in (at + step, at + 2 * step) if 0 <= m < len(grid)]  # noqa: E731
            while better := [m for m in ahead(at) if worth(m) > worth(at)]:
                at = max(better, key=worth)
        return [*chosen[:k], grid[at], *chosen[k + 1 :]]

    for _ in range(len(grids) + 1):
        before = list(chosen)
        for k in range(len(grids)):
            chosen = along(list(chosen), k)
        if chosen == before:
            break
    return chosen
