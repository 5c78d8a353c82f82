"""Fit the numbers that describe hidden neurons which copy the recorded activity: gain, width, threshold, drive and its
saturation, and how they excite each other.

Given these the copies' signals are known, and all weights onto recorded neurons follow by least squares; so they alone
are fitted, by Gauss-Newton steps on the residual after that regression (variable projection: Golub and Pereyra
1973, doi 10.1137/0710036; with Kaufman's approximation of the derivative), from a start for either sign of the gain.
"""

from contextlib import suppress
from copy import copy
from typing import NamedTuple

import numpy as np
from scipy.linalg import cholesky, eigh, solve_triangular

from nsi import response
from nsi.estimation.signals import Copies, describe_states, excite, leading_directions, settled, state_of

FIRST_SIZE = 10, 20  # trials and neurons of the first fits, from every start
LAST_SIZE = 30, 28  # of the last fit
MAX_STEPS = 1500  # of a trial that are used
STEP_STRIDE = 2  # steps of a trial, of which one is used
ITERATIONS, EXCITED_ITERATIONS = 10, 14  # of Gauss-Newton, at most; the second where copies excite each other
FIRST_ITERATIONS = 4  # of the first fit from each start
HALVINGS = 3  # of one of its steps, at most
DIRECTIONS = 16  # of the recorded states in which the copies' signals are regressed on
MAX_COPIES = 256  # evenly chosen ones, that stand for all
COPY_STRIDE = 2  # places around the attractor, on the first of which a copy is centred, where that explains more
NUMBERS = range(7)  # log gain, log width, threshold, log drive, saturation * variance, excitation, log reach
USUAL, SATURATION, EXCITATION = (0, 1, 2, 3), (4,), (5, 6)  # of these: always fitted, and by evidence
MIN_EVIDENCE = 10.0  # log likelihood gained, from which on the drive is taken to level off, copies to excite each other
FIRST_REACH = 2.0  # widths
MAX_STEP = 0.7  # of each number, in one iteration
LEAST_CURVATURE = 0.1  # of a direction, relative to that with the weights' noise
CONVERGED = 5e-6  # relative improvement of the residual below which the fit has converged
DERIVATIVE_STEP = (
    0.02  # of numerical derivatives: of the width, relative; of the saturation, over the velocity's variance
)
EXCITED_STEP = 1e-3  # of all derivatives where copies excite each other


class Currents(NamedTuple):
    """What copies are fitted to, and what they receive."""

    values: np.ndarray  # (trials, steps, n), less the stimulus
    used: np.ndarray  # (trials, steps, n) bool
    u: np.ndarray  # (trials, steps, n)
    v: np.ndarray  # (trials, steps, D)
    noise: np.ndarray | None = None  # (trials, steps, k), further regressors


class Setting(NamedTuple):
    """What is known of copies."""

    alpha: float
    geometry: object  # of nsi.geometry
    places: np.ndarray  # (n, D) rad
    senders: np.ndarray | None = None  # as Copies.senders, and the neurons on which copies may be centred

    def order(self, some):
        """Some neurons, neighbours following each other. some: (n,) bool, or None for all. Returns: indices."""
        order = self.geometry.order(self.places)
        return order if some is None else order[some[order]]

    def centres(self, stride):
        """Copies.centres on each `stride`-th sender around the attractor."""
        return np.isin(np.arange(len(self.places)), self.order(self.senders)[::stride])


class Known(NamedTuple):
    """One neuron's samples, and its regression on [u, 1, noise] alone."""

    at: np.ndarray  # (samples,) rows of the signals
    basis: np.ndarray  # (samples, q), orthonormal columns that span [u, 1, noise]
    left: np.ndarray  # (samples,) of the current, after the regression


class Inputs:
    """What copies receive, and the directions in which their signals are wanted."""

    def __init__(self, u, v, setting, centres, directions, stride=1):
        """u: (trials, steps, n); v: (trials, steps, D); setting: Setting; centres: as Copies.centres; directions:
        (n, k); stride: steps, of which one is used."""
        self.u, self.v, self.setting, (self.alpha, self.geometry, self.places, _) = u, v, setting, setting
        self.directions, self.stride = directions, stride
        self.variance = max(float(v.var()), 1e-18)
        self.first = settled(self.alpha, u.shape[1])
        self.chosen = self.choose(centres)

    def choose(self, centres):
        """At most MAX_COPIES of some places, evenly. Returns: indices."""
        order = self.setting.order(centres)
        most = min(len(order), MAX_COPIES)
        return np.sort(order[np.arange(most) * len(order) // max(1, most)])

    def kernel(self, copies):
        """Weights from recorded neurons to the chosen copies. Returns: (n, chosen)."""
        return copies.kernel(self.geometry, self.places)[:, self.chosen]

    def coupling(self, copies):
        """Weights among the chosen copies of a sheet. Returns: (chosen, chosen), None where there are none."""
        return copies._replace(centres=None).coupling(self.geometry, self.places[self.chosen])

    def late(self, a):
        """The samples of a signal (trials, steps, k) after the first steps. Returns: (samples, k)."""
        a = a[:, self.first :: self.stride]
        return a.reshape(a.shape[0] * a.shape[1], a.shape[2])

    def filter(self, parts):
        """The samples of some signals (trials, steps, k) behind a synapse. Returns: (samples, all k)."""
        return self.late(state_of(np.concatenate(parts, -1), self.alpha))


class Problem(Inputs):
    """Some neurons' currents, the samples that show them, and their sums with the other regressors, [u, 1, noise]."""

    def __init__(self, currents, setting, centres, size):
        """currents: Currents; setting: Setting; centres: as Copies.centres; size: trials and neurons, at most."""
        trials, neurons = size
        some = slice(None, None, max(1, len(currents.u) // trials)), slice(MAX_STEPS)
        values, used, u, v, noise = (None if a is None else a[some] for a in currents)
        everywhere = np.ones(u.shape[:2], bool)
        directions = leading_directions(u, everywhere, DIRECTIONS)
        super().__init__(u, v, setting, centres, directions, STEP_STRIDE)
        direct = describe_states(u, everywhere)
        known = [direct, np.ones_like(direct[..., :1])] + ([] if noise is None else [noise])
        plain = np.concatenate([self.late(a) for a in known], -1)
        used, values = self.late(used), self.late(values)
        enough = np.flatnonzero(used.sum(0) >= 4 * (plain.shape[-1] + 3 * DIRECTIONS))
        self.data = []
        for j in enough[:: max(1, len(enough) // neurons)]:
            at = np.flatnonzero(used[:, j])
            x, y = plain[at].astype(np.float64), values[at, j].astype(np.float64)
            G = x.T @ x
            G[np.diag_indices(len(G))] += 1e-9 * np.trace(G) / len(G)
            L = cholesky(G, lower=True, overwrite_a=True, check_finite=False)
            basis = solve_triangular(L, x.T, lower=True, check_finite=False).T
            self.data.append(Known(at, basis, y - basis @ (basis.T @ y)))

    def point_with(self, copies, centres):
        """The Point of the same copies on other centres."""
        other = copy(self)
        other.chosen = self.choose(centres)
        return Point(other, copies._replace(centres=centres))


class Sheets:
    """Some copies' signals, and their derivatives by the numbers that describe them."""

    def __init__(self, inputs, copies):
        """inputs: Inputs; copies: Copies."""
        self.inputs, self.copies, V = inputs, copies, inputs.directions[inputs.chosen]
        kernel, components = inputs.kernel(copies), range(inputs.v.shape[-1])
        self.sheets = [(d, np.float32(sign * copies.drive)) for d in components for sign in (1, -1)]
        self.driving = copies.saturated(inputs.v)
        self.received = np.empty((*inputs.u.shape[:2], len(V)), np.float32)
        self.rates = np.empty((len(self.sheets), *self.received.shape), np.float32)
        projected = np.empty((len(self.sheets), *inputs.u.shape[:2], V.shape[1]), np.float32)
        coupling = inputs.coupling(copies)
        # a trial at a time stays in the processor's cache; where copies excite each other all take each step together
        size = 1 if coupling is None else len(inputs.u)
        for some in (slice(k, k + size) for k in range(0, len(inputs.u), size)):
            received = np.matmul(inputs.u[some], kernel, out=self.received[some])
            for (d, signed), rates, sent in zip(self.sheets, self.rates, projected, strict=True):
                current = received + (signed * self.driving[some, :, d : d + 1] - np.float32(copies.threshold))
                rates[some] = response.phi(current) if coupling is None else excite(current, coupling, inputs.alpha)
                np.matmul(rates[some], V, out=sent[some])
        self.values = inputs.filter(projected)

    def slopes(self, which):
        """Derivatives of the signals by some NUMBERS. which: ascending. Returns: list of (samples, columns)."""
        if self.copies.excitation:
            each = (Sheets(self.inputs, self.moved([EXCITED_STEP], [k])) for k in which)
            return [(after.values - self.values) / np.float32(EXCITED_STEP) for after in each]
        inputs, copies, V = self.inputs, self.copies, self.inputs.directions[self.inputs.chosen]
        coupling = None
        if EXCITATION[0] in which:
            coupling = inputs.coupling(copies._replace(excitation=1.0, reach=FIRST_REACH * copies.width))
        wider = inputs.kernel(copies._replace(width=copies.width * (1 + DERIVATIVE_STEP)))
        further = copies._replace(saturation=copies.saturation + DERIVATIVE_STEP / inputs.variance)
        bend = (further.saturated(inputs.v) - self.driving) / np.float32(DERIVATIVE_STEP)
        by_gain, by_width, plain, excited = np.empty((4, len(self.sheets), *inputs.u.shape[:2], V.shape[1]), np.float32)
        V_width = V / np.float32(DERIVATIVE_STEP)
        for k, u in enumerate(inputs.u):
            received = self.received[k]
            change = u @ wider - received
            for s, rates in enumerate(self.rates):
                slope = response.slope(rates[k])
                np.matmul(slope, V, out=plain[s, k])
                np.matmul(slope * received, V, out=by_gain[s, k])
                np.matmul(slope * change, V_width, out=by_width[s, k])
                if coupling is not None:
                    state = state_of(rates[k : k + 1], inputs.alpha)[0]
                    np.matmul(slope * (state @ coupling), V, out=excited[s, k])
        by = lambda a: [signed * a[..., d : d + 1] * part for (d, signed), part in zip(self.sheets, plain, strict=True)]
        parts = by_gain, by_width, -plain, by(self.driving), by(bend), excited, np.zeros_like(plain)
        return [inputs.filter(parts[k]) for k in which]

    def moved(self, step, which):
        """The copies after a step of some NUMBERS."""
        copies, full = self.copies, np.zeros(len(NUMBERS))
        full[list(which)] = step
        gain, width, threshold, drive, saturation, excitation, reach = full.tolist()
        return copies._replace(
            gain=copies.gain * np.exp(gain), width=copies.width * np.exp(width), threshold=copies.threshold + threshold,
            drive=copies.drive * np.exp(drive), reach=copies.reach * np.exp(reach),
            saturation=max(0.0, copies.saturation + saturation / self.inputs.variance),
            excitation=max(0.0, copies.excitation + excitation),
        )  # fmt: skip


class Point:
    """Some copies' signals, the regression of the currents on them, and the Gauss-Newton step from there."""

    def __init__(self, problem, copies):
        """problem: Problem; copies: Copies."""
        self.problem, self.sheets = problem, Sheets(problem, copies)
        self.copies, self.values = copies, self.sheets.values.astype(np.float64)
        self.solutions = [self._solve(known) for known in problem.data]
        self.residual = float(sum(left for *_, left in self.solutions))

    def _solve(self, known):
        """A neuron's regression on [u, 1, noise] and the copies' signals z, by the sums alone. Returns: the map from
        the basis of [u, 1, noise] to z; the weights of z; the inverse of z's sums after [u, 1, noise]; the sum of
        squares left."""
        z = self.values[known.at]
        across = known.basis.T @ z
        S = z.T @ z - across.T @ across
        S[np.diag_indices(len(S))] += 1e-6 * np.trace(S) / len(S) + 1e-12
        reduced = np.linalg.inv(S)
        right = z.T @ known.left
        weights = reduced @ right
        return across, weights, reduced, known.left @ known.left - right @ weights

    def normal_equations(self, which=USUAL):
        """Those of the Gauss-Newton step of some NUMBERS. The weights that multiply the signals' derivatives are
        estimates, and their noise adds to the first matrix, but not to the residual's expected curvature.

        Returns: (count, count); (count,); (count, count), what the weights' noise adds."""
        count = len(which)
        normal, noise, right = np.zeros((count, count)), np.zeros((count, count)), np.zeros(count)
        all_weights = np.stack([weights for _, weights, *_ in self.solutions]).astype(np.float32)
        slopes, left = self.sheets.slopes(which), np.zeros((len(all_weights), len(self.values)), np.float32)
        for row, known, (across, weights, *_) in zip(left, self.problem.data, self.solutions, strict=True):
            row[known.at] = known.left - self.values[known.at] @ weights + known.basis @ (across @ weights)
        moved = np.stack([all_weights @ slope.T for slope in slopes], -1)  # (neurons, samples, count)
        by_slope = np.stack([left @ slope for slope in slopes], 1)  # (neurons, count, columns)
        each = zip(self.problem.data, moved, by_slope, self.solutions, strict=True)
        for known, moved, by_slope, (across, weights, reduced, _) in each:
            T = moved[known.at].astype(np.float64)
            direct = known.basis.T @ T
            zT_left = self.values[known.at].T @ T - across.T @ direct
            normal += T.T @ T - direct.T @ direct - zT_left.T @ (reduced @ zT_left)
            noise += by_slope @ reduced @ by_slope.T
            right += T.T @ known.left - zT_left.T @ weights
        return normal, right, noise


def solve_step(normal, right, noise=None):
    """The Gauss-Newton step, and the fall of the residual that it promises. noise: what to take from `normal`, of which
    at least LEAST_CURVATURE is left in every direction."""
    normal = normal.copy()
    normal[np.diag_indices(len(right))] *= 1.01
    normal[np.diag_indices(len(right))] += 1e-9 * np.trace(normal) + 1e-30
    step = np.linalg.solve(normal, right)
    if noise is not None:
        with suppress(ValueError):  # without a positive definite matrix the step is the plain one
            shares, directions = eigh(normal - noise, normal)
            step = directions @ (directions.T @ right / np.maximum(shares, LEAST_CURVATURE))
    return step.clip(-MAX_STEP, MAX_STEP), right @ step


def numbers_of(copies):
    """The NUMBERS that describe some copies."""
    return USUAL + (SATURATION if copies.saturation else ()) + (EXCITATION if copies.excitation else ())


def starts(u, v, setting, centres):
    """Initial copies: ones that the recorded activity excites, and ones that it inhibits and that fire without it.
    u: (trials, steps, n); v: (trials, steps, D); setting: Setting; centres: as Copies.centres."""
    high = float(np.quantile(u, 0.98))
    spread = max(float(v.std()), 1e-9)
    distance = setting.geometry.distance(setting.places[:, None], setting.places)
    near = float(np.median(np.sort(distance + 1e9 * np.eye(len(distance)), 1)[:, 0]))
    for sign in (1.0, -1.0):
        yield Copies(sign, 2 * near, sign * high / 2, high / 6 / spread, centres, senders=setting.senders)


def fit_copies(currents, setting, near=None, coupled=False):
    """The copies that leave the least of the currents: from either start on a few trials and neurons, then on more.

    currents: Currents; without `noise`, what hidden neurons' own noise does, the copies would stand in for it; setting:
    Setting; near: Copies close to the best ones, where they are known; coupled: whether they may excite each other.
    Returns: Copies, or None where too few neurons have samples or the velocity is 0 throughout.
    """
    if not currents.v.any() or (setting.senders is not None and not setting.senders.any()):
        return None
    if near is not None:
        last = Problem(currents, setting, near.centres, LAST_SIZE)
        return descend(Point(last, near), numbers_of(near)).copies if last.data else None
    centres = setting.senders
    first = Problem(currents, setting, centres, FIRST_SIZE)
    if len(first.data) < 2:
        return None
    last = Problem(currents, setting, centres, LAST_SIZE)
    each = [Point(first, start) for start in starts(first.u, first.v, setting, centres)]

    def best(which):
        points = (Point(last, descend(start, which, FIRST_ITERATIONS).copies) for start in each)
        return min((descend(point, which) for point in points), key=residual_of)

    found = usual = best(USUAL)
    samples = sum(len(known.at) for known in last.data)
    needed = 2 * MIN_EVIDENCE / samples
    normal, right, _ = found.normal_equations(NUMBERS[:6])

    def promise(number):
        which = [*USUAL, number]
        step, fall = solve_step(normal[np.ix_(which, which)], right[which])
        return step[-1], fall > needed * found.residual

    (_, saturates), (excitation, excited) = promise(SATURATION[0]), promise(EXCITATION[0])
    if saturates:
        which = USUAL + SATURATION
        saturated = min((descend(start, which) for start in (found, best(which))), key=residual_of)
        found = saturated if np.log(found.residual / saturated.residual) > needed else found
    if coupled and excited and excitation > 0:
        start = Point(last, usual.copies._replace(reach=FIRST_REACH * usual.copies.width))
        exciting = descend(start, USUAL + EXCITATION, EXCITED_ITERATIONS)
        found = exciting if np.log(found.residual / exciting.residual) > needed else found
    fewer = descend(last.point_with(found.copies, setting.centres(COPY_STRIDE)), numbers_of(found.copies))
    return (fewer if np.log(found.residual / fewer.residual) > needed else found).copies


def residual_of(point):
    """Sum of squares that is left of the currents."""
    return point.residual


def descend(point, which=USUAL, iterations=ITERATIONS):
    """Gauss-Newton steps of some NUMBERS, halved until the residual falls. Returns: Point."""
    for _ in range(iterations):
        normal, right, noise = point.normal_equations(which)
        for correction in (noise, None):  # far from the best copies misfit is taken for noise, and the step too long
            after = shorten_step(point, solve_step(normal, right, correction)[0], which)
            if after is not None:
                break
        else:
            break
        gained, point = 1 - after.residual / point.residual, after
        if gained < CONVERGED:
            break
    return point


def shorten_step(point, step, which):
    """Halve a step until the residual falls. Returns: Point after it, or None where it does not fall."""
    for halving in range(HALVINGS):
        after = Point(point.problem, point.sheets.moved(0.5**halving * step, which))
        if after.residual < point.residual:
            return after
    return None
