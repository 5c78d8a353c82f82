"""Fit the numbers that describe hidden neurons which copy the recorded activity: gain, width, threshold, drive and its
saturation.

Given these the copies' signals are known, and all weights onto recorded neurons follow by least squares; so they alone
are fitted, by Gauss-Newton steps on the residual after that regression (variable projection: Golub and Pereyra
1973, doi 10.1137/0710036; with Kaufman's approximation of the derivative), from a start for either sign of the gain.
"""

import numpy as np

from nsi import response
from nsi.estimation.signals import Copies, leading_directions, settled, state_of

FIRST_SIZE = 10, 20  # trials and neurons of the first fits, from every start
LAST_SIZE = 30, 28  # of the last fit
MAX_STEPS = 1500  # of a trial that are used
ITERATIONS = 7  # of Gauss-Newton, at most
HALVINGS = 3  # of one of its steps, at most
STEP_STRIDE = 2  # steps of a trial, of which one is used
DIRECTIONS = 16  # of the recorded states in which the copies' signals are regressed on
SATURATION_EVIDENCE = 10.0  # log likelihood gained, from which on the drive is taken to level off
CONVERGED = 2e-5  # relative improvement of the residual below which the fit has converged
DERIVATIVE_STEP = (
    0.02  # of numerical derivatives: of the width, relative; of the saturation, over the velocity's variance
)


class Problem:
    """Some neurons' currents, the samples that show them, and their sums with the other regressors, [u, 1, noise]."""

    def __init__(self, u, v, currents, used, alpha, geometry, places, size, noise=None):
        """u, currents (less the stimulus): (trials, steps, n); v: (trials, steps, D); used: (trials, steps, n) bool;
        size: trials and neurons to use, at most; noise: (trials, steps, k), further regressors."""
        trials, neurons = size
        some = slice(None, None, max(1, len(u) // trials))
        self.u, self.v = u[some, :MAX_STEPS], v[some, :MAX_STEPS]
        currents, used = currents[some, :MAX_STEPS], used[some, :MAX_STEPS]
        self.alpha, self.geometry, self.places = alpha, geometry, places
        self.variance = max(float(v.var()), 1e-18)
        self.first = settled(alpha, self.u.shape[1])
        later = slice(self.first, None, STEP_STRIDE)
        self.directions = leading_directions(self.u, np.ones(self.u.shape[:2], bool), DIRECTIONS)
        known = [self.u, np.ones_like(self.u[..., :1])] + ([] if noise is None else [noise[some, :MAX_STEPS]])
        plain = np.concatenate([a[:, later] for a in known], -1)
        used, currents, plain = (a.reshape(-1, a.shape[-1]) for a in (used[:, later], currents[:, later], plain))
        enough = np.flatnonzero(used.sum(0) >= 4 * (plain.shape[-1] + 3 * DIRECTIONS))
        self.data = []
        for j in enough[:: max(1, len(enough) // neurons)]:
            at = np.flatnonzero(used[:, j])
            x, y = plain[at].astype(np.float64), currents[at, j].astype(np.float64)
            G = x.T @ x
            G[np.diag_indices(len(G))] += 1e-9 * np.trace(G) / len(G)
            inverse = np.linalg.inv(G)
            self.data.append((at, x, y, inverse, inverse @ (x.T @ y)))

    def signals(self, copies, derivatives=4):
        """The copies' signals, and their derivatives by the first so many of gain, width, threshold, drive and
        saturation, filtered. Returns: signals (samples, columns), and a list of derivatives of the same shape.
        """
        kernel = copies.kernel(self.geometry, self.places)
        wider = copies._replace(width=copies.width * (1 + DERIVATIVE_STEP)).kernel(self.geometry, self.places)
        received, change = self.u @ kernel, self.u @ (wider - kernel) / np.float32(DERIVATIVE_STEP)
        values, slopes = [], [[] for _ in range(derivatives)]
        further = copies._replace(saturation=copies.saturation + DERIVATIVE_STEP / self.variance)
        driving = copies.saturated(self.v)
        bend = (further.saturated(self.v) - driving) / np.float32(DERIVATIVE_STEP)
        for d in range(self.v.shape[-1]):
            v, bent = driving[..., d : d + 1], bend[..., d : d + 1]
            for sign in (1, -1):
                signed = np.float32(sign * copies.drive)
                driven = signed * v
                r = response.phi(received + driven - np.float32(copies.threshold))
                if copies.centres is not None:
                    r = r * copies.centres
                slope = response.slope(r)
                values.append(self._filter(r))
                if not derivatives:
                    continue
                inner = received / np.float32(copies.gain), change, -1, driven, signed * bent
                for k in range(derivatives):
                    slopes[k].append(self._filter(slope * inner[k]))
        return np.concatenate(values, -1), [np.concatenate(s, -1) for s in slopes if s]

    def _filter(self, a):
        late = state_of((a @ self.directions).astype(np.float32), self.alpha)[:, self.first :: STEP_STRIDE]
        return late.reshape(-1, late.shape[-1]).astype(np.float64)

    def residual(self, copies):
        """Sum of squares that is left with these copies."""
        values, _ = self.signals(copies, 0)
        return sum(solution[-1] for solution in self._solutions(values))

    def step(self, copies, count=4):
        """The Gauss-Newton step of the first `count` of (log gain, log width, threshold, log drive, saturation times
        the velocity's variance), and the fall of the residual that it promises."""
        values, slopes = self.signals(copies, count)
        normal, right = np.zeros((count, count)), np.zeros(count)
        for (at, x, y, inverse, plain), z, across, weights, reduced, _ in self._solutions(values):
            T = np.stack([s[at] @ weights for s in slopes], -1)  # (samples, count)
            xT, zT = x.T @ T, z.T @ T
            zT_left = zT - across.T @ xT
            direct = inverse @ xT
            normal += T.T @ T - xT.T @ direct - zT_left.T @ (reduced @ zT_left)
            e = y - x @ (plain - across @ weights) - z @ weights
            right += T.T @ e
        scale = np.append(copies.gain, np.ones(count - 1))  # by the gain's logarithm; the width's is one already
        normal, right = normal * scale[:, None] * scale, right * scale
        normal[np.diag_indices(count)] *= 1.01
        normal[np.diag_indices(count)] += 1e-9 * np.trace(normal) + 1e-30
        step = np.linalg.solve(normal, right)
        return step.clip(-0.7, 0.7), right @ step

    def _solutions(self, values):
        """Each neuron's regression on [u, 1] and the copies' signals z, by the sums alone. Yields: its data; z; the map
        from [u, 1] to z; the weights of z; the inverse of z's sums after [u, 1]; the sum of squares that is left."""
        for problem_data in self.data:
            at, x, y, inverse, plain = problem_data
            z = values[at]
            xz = x.T @ z
            across = inverse @ xz
            S = z.T @ z - xz.T @ across
            S[np.diag_indices(len(S))] += 1e-6 * np.trace(S) / len(S) + 1e-12
            reduced = np.linalg.inv(S)
            right = z.T @ y - xz.T @ plain
            weights = reduced @ right
            left = y @ y - (x.T @ y) @ plain - right @ weights
            yield problem_data, z, across, weights, reduced, float(left)


def starts(u, v, geometry, places, centres=None):
    """Initial copies: ones that the recorded activity excites, and ones that it inhibits and that fire without it."""
    high = float(np.quantile(u, 0.98))
    spread = max(float(v.std()), 1e-9)
    distance = geometry.distance(places[:, None], places)
    near = float(np.median(np.sort(distance + 1e9 * np.eye(len(distance)), 1)[:, 0]))
    for sign in (1.0, -1.0):
        yield Copies(sign, 2 * near, sign * high / 2, high / 6 / spread, centres)


def fit_copies(u, v, currents, used, alpha, geometry, places, noise, centres=None, near=None):
    """The copies that leave the least of the currents: from either start on a few trials and neurons, then on more.

    Arguments as `Problem`; without `noise`, what hidden neurons' own noise does, the copies would stand in for it.
    near: Copies close to the best ones, where they are known. Returns: Copies, or None where too few neurons have
    samples or the velocity is 0 throughout.
    """
    if not v.any() or (centres is not None and not centres.any()):
        return None
    problem = lambda size: Problem(u, v, currents, used, alpha, geometry, places, size, noise)  # noqa: E731
    first = problem(FIRST_SIZE)
    if len(first.data) < 2:
        return None
    last = problem(LAST_SIZE)
    if near is not None:
        return descend(last, near, 5 if near.saturation else 4)[0]
    each = list(starts(first.u, first.v, geometry, places, centres))
    best = lambda count: min((descend(first, start, count)[0] for start in each), key=last.residual)  # noqa: E731
    copies, value = descend(last, best(4))
    samples = sum(len(y) for _, _, y, *_ in last.data)
    if samples * last.step(copies, 5)[1] < 2 * SATURATION_EVIDENCE * value:
        return copies
    saturated, less = min((descend(last, one, 5) for one in (copies, best(5))), key=lambda pair: pair[1])
    return saturated if samples * np.log(value / less) > 2 * SATURATION_EVIDENCE else copies


def descend(problem, copies, count=4):
    """Gauss-Newton steps of the first `count` numbers, halved until the residual falls. Returns: Copies, residual."""
    value = problem.residual(copies)
    for _ in range(ITERATIONS):
        step, _ = problem.step(copies, count)
        for halving in range(HALVINGS):
            moved = moved_by(copies, 0.5**halving * step, problem.variance)
            after = problem.residual(moved)
            if after < value:
                break
        else:
            break
        gained, value, copies = 1 - after / value, after, moved
        if gained < CONVERGED:
            break
    return copies, value


def moved_by(copies, step, variance):
    """Copies after a step of `Problem.step`. variance: of the velocity."""
    gain, width, threshold, drive, saturation = np.append(step, 0.0)[:5]
    return Copies(float(copies.gain * np.exp(gain)), float(copies.width * np.exp(width)),
                  float(copies.threshold + threshold), float(copies.drive * np.exp(drive)), copies.centres,
                  max(0.0, float(copies.saturation + saturation / variance)))  # fmt: skip
