"""Estimate the connections that made a recording, step by step (the package says which)."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import minimize_scalar

from nsi import recordings
from nsi.estimation import exchangeable, regression
from nsi.estimation.copies import fit_copies
from nsi.estimation.gate import gate_test
from nsi.estimation.intervals import NORMAL, calibrate
from nsi.estimation.kinetics import NEAR_ONE, choose_kinetics, parabola, surely_better
from nsi.estimation.orders import extend, read_orders, simulated_errors
from nsi.estimation.prior import Evidence, Model
from nsi.estimation.signals import (
    LEADING,
    hidden_signals,
    leading_directions,
    multiplied_signals,
    second_moment,
    settled,
    state_of,
)
from nsi.network import Network
from nsi.response import slope as slope_of

NOISE_SD_ABOVE = 5.0  # predicted currents must be so many s.d. of the noise above the threshold for a sample to count
FIRST_STRIDE = 4  # steps, of which the first fit takes one
FIRST_RATES = 0.15, 0.96  # scaled rates that the first fit takes
NOISE_ITERATIONS = 2  # of finding the innovations
RESCALINGS = 2  # further fits with another scale, at most
SAME_SCALE = 1e-3  # relative difference of scales below which no further fit is needed
PRODUCT_TRIALS = 30  # on which it is found whether products of the velocity matter
ALPHA_TRIALS = 20  # that alpha is refined on, at most
COARSE_ALPHAS = 0.1, 0.2, 0.35, 0.6, 1.0
ALPHA_SPACINGS = 0.05, 0.02
ALPHA_STEPS = 6
SCALE_NEURONS = 8  # that the scale is chosen on
SCALE_STRIDE = 3  # steps, of which one is used for it
PROJECTION_SAMPLES, PROJECTION_RIDGE = (
    30_000,
    1e-2,
)  # of the leading eigenvalue: directions that the states hardly span get no path and no gate


@dataclass
class Estimate:
    """The estimate of a recording. Weights are (N, N), from row to column; gate is (D, N, N), per unit of velocity.

    Of W, `total` (direct weights and the path through hidden neurons together) and `gate` (what velocity adds to the
    weights) there is the best estimate under that name, and NAME_unbiased and NAME_se, from the data alone: the 95 %
    interval is NAME_unbiased +- 1.96 NAME_se.
    """

    W: np.ndarray
    W_unbiased: np.ndarray
    W_se: np.ndarray
    total: np.ndarray
    total_unbiased: np.ndarray
    total_se: np.ndarray
    gate: np.ndarray
    gate_unbiased: np.ndarray
    gate_se: np.ndarray
    identifiable: np.ndarray  # (N, N) bool, weights whose 95 % interval has a half-width below the r.m.s. weight
    resolved: np.ndarray  # (N, N) bool, weights of which the data say how they differ from the mean at their distance
    alpha: float  # dt / tau
    alpha_se: float  # 0 where alpha was given
    alpha_known: bool
    scale: float  # of the rates, in the response function's own units
    noise: float  # s.d. of the current that the signals leave
    verdicts: dict  # gate, mechanism, response, geometry: in words, "cannot tell" where the data do not
    gate_p: float  # p value of the gate's test
    prior: dict  # size, smoothness and deviation of each group's profile, and deviations relative to it
    calibration: dict  # what a recording simulated from the estimate needed (intervals.py), {} if none was made
    network: Network | None  # recorded neurons and copies, as a network to run; None where it cannot be one
    probability: np.ndarray | None = None  # (N, N), that there is a connection; None where geometry sets the prior
    measurement_noise: float = 0.0  # s.d. of noise of the rates that does not enter currents, 0 without
    # orders.read_orders's, where they were asked for
    orders: np.ndarray | None = None
    orders_unbiased: np.ndarray | None = None
    orders_se: np.ndarray | None = None
    orders_powers: np.ndarray | None = None
    orders_scale: np.ndarray | None = None

    def arrays(self):
        """The arrays of connectivity.npz. Returns: dict."""
        names = [k for k, value in vars(self).items() if isinstance(value, np.ndarray)]
        return {k: getattr(self, k) for k in names} | {k: getattr(self, k) for k in ("alpha", "alpha_se", "scale")}

    def save(self, path):
        """Write connectivity.npz, whole or not at all."""
        recordings.save(path, **self.arrays())

    def withdraw_intervals(self, description):
        """Claim no interval, in place: make standard errors infinite, but alpha's. description: the verdict."""
        self.verdicts["description"] = description
        for name, value in self.arrays().items():
            if name.endswith("_se") and name != "alpha_se":
                setattr(self, name, np.full_like(value, np.inf))

    def calibrate(self, calibration):
        """Widen the intervals by the factors of `intervals.calibrate`, in place."""
        self.calibration = calibration
        for name, factor in calibration["factors"].items():
            factor = factor or 1.0  # 0 where the simulated recording has nothing to be wrong about
            setattr(self, f"{name}_se", factor * getattr(self, f"{name}_se"))


def identifiable(W, se):
    """Weights whose 95 % interval has a half-width below the r.m.s. weight. (N, N) bool"""
    return NORMAL * se < np.sqrt(np.mean(W**2))


def resolved(W, se, known, geometry, places):
    """Weights of which the data say how they differ from the mean at their distance: those whose standard error is
    below half the s.d. of single weights about their profile, which is what the scatter of the unbiased estimate W has
    over its standard errors. known: (N, N) bool, identifiable; places: (N, D) rad. Returns: (N, N) bool."""
    known = known & ~np.eye(len(W), dtype=bool)
    apart = (W - geometry.mean_profile(W, places, known))[known]
    spread = np.mean(apart**2) - np.mean(se[known] ** 2) if known.any() else 0.0
    return known & (se < np.sqrt(max(spread, 0.0)) / 2)


def prepare(rec, alpha, kinetics):
    """Scaled rates, state, currents and stimulus of a recording under its kinetics.

    Returns: u, currents, known, usable, each (trials, steps, n)."""
    chosen = kinetics.response
    rates = rec.rates if chosen.scale == 1 else np.float32(chosen.scale) * rec.rates
    known = np.zeros_like(rates) if rec.stimulus is None else rec.stimulus
    usable = chosen.usable(rates) & rec.valid[..., None]
    return rates, state_of(rates, alpha), chosen.current(rates).astype(np.float32), known, usable


class Fit:
    """One recording's regression: signals, samples and sums, from which both estimates follow."""

    def __init__(self, rec, kinetics, geometry, places, original=None):
        """rec: Recording; kinetics: kinetics.Kinetics; geometry: of nsi.geometry; places: (N, D) rad; original: the Fit
        that `rec` was simulated from, whose blocks it takes, and near whose copies its own are."""
        alpha = kinetics.alpha
        self.rec, self.kinetics, self.geometry, self.places = rec, kinetics, geometry, places
        rates, u, currents, known, usable = prepare(rec, alpha, kinetics)
        self.directions, self.copies, driven = leading_directions(u, rec.valid, LEADING), None, rec.driven is not None
        hidden, v, first = kinetics.mechanism == "hidden neurons", rec.velocity, settled(alpha, u.shape[1])
        late, centres = [a[:, first:] for a in (currents, known, usable, rates)], None if not driven else ~rec.driven
        if not hidden:
            signals = multiplied_signals(u, v, alpha, self.directions, driven)
            self.samples = self._select(signals, *late)[0]
        else:
            build = lambda products=False, trials=slice(None): hidden_signals(  # noqa: E731
                u[trials], v[trials], alpha, self.directions, self.copies, geometry, places, driven, products
            )
            signals = self._with_noise(build(), *late)
            noise, used = np.zeros((*u.shape[:2], len(self.directions.T)), np.float32), np.zeros_like(usable)
            noise[:, first:] = signals.x[..., signals.blocks[-1].columns]
            used[:, first:] = self.samples.used.reshape(used[:, first:].shape)
            near = None if original is None else original.copies
            self.copies = fit_copies(u, v, currents - known, used, alpha, geometry, places, noise, centres, near)
            products = self._needs(build, late) if original is None else original.has_products
            if products or self.copies is not None:
                signals = self._with_noise(build(products), *late)
        self.signals, self.u = signals, u[:, first:]
        self.order = regression.neighbours(self.samples.used)
        self.sums = regression.moments(self.samples, self.order)
        self.maps = self._maps(rec.velocity[:, first:], rec.valid[:, first:])

    @property
    def has_products(self):
        """Whether products of the velocity's components are among the blocks."""
        return any(block.name == "products" for block in self.signals.blocks)

    def _needs(self, build, late):
        """Whether hidden neurons' response to products of the velocity's components surely explains more.

        build: gives the signals without and with them; late: currents, known, usable and rates."""
        some, fits = slice(None, None, max(1, len(self.rec.rates) // PRODUCT_TRIALS)), {}
        for products in (False, True):
            signals, parts = build(products, some), [a[some] for a in late]
            samples, weights = self._select(signals, *parts)
            shape = (*signals.x.shape[:2], samples.used.shape[1])
            e, used = samples.residuals(weights).reshape(shape), samples.used.reshape(shape)
            between = slice(FIRST_STRIDE // 2, None, FIRST_STRIDE)  # steps that the first fit does not use
            fits[products] = e[:, between], used[:, between], 0
        likelihoods = compare_residuals(fits)
        return surely_better(likelihoods[True], likelihoods[False])

    def _select(self, signals, currents, known, usable, rates):
        """Samples by the current that a first fit predicts, on every few steps and samples by their rate. Sets
        self.samples. Returns: Samples, the first fit's weights."""
        thin = lambda a: a[:, ::FIRST_STRIDE]  # noqa: E731
        start = regression.select(*map(thin, (signals.x, currents, known, usable, rates)), *FIRST_RATES)
        weights, noise = _ordinary(start)
        predicted = signals.x @ weights.astype(np.float32) + known
        bounds = NOISE_SD_ABOVE * noise, self.kinetics.response.highest
        return regression.select(signals.x, currents, known, usable, predicted, *bounds), weights

    def _with_noise(self, signals, currents, known, usable, rates):
        """The signals with F(e) V, what hidden neurons' own noise does, as a further block: e are the innovations, the
        residuals of the regression that has this block, found in turn. Sets self.samples. Returns: Signals."""
        samples, weights = self._select(signals, currents, known, usable, rates)
        for left in reversed(range(NOISE_ITERATIONS)):
            e = samples.residuals(weights).reshape(rates.shape)
            extended = signals.with_block("noise", state_of(e, self.kinetics.alpha) @ self.directions, self.directions)
            flat = extended.x.reshape(-1, extended.x.shape[-1])
            samples = samples._replace(x=flat)
            if left:
                thin = slice(None, None, FIRST_STRIDE)
                weights, _ = _ordinary(samples._replace(x=flat[thin], used=samples.used[thin], y=samples.y[thin]))
        self.samples = samples
        return extended

    def _maps(self, velocity, valid):
        """Linear maps from weights (q, n) to W, total and each gate, (n, q) each."""
        n, q, project = self.rec.rates.shape[-1], self.signals.x.shape[-1], self.project
        direct = np.zeros((n, q))
        direct[:, :n] = np.eye(n)
        total, gates = direct.copy(), np.zeros((velocity.shape[-1], n, q))
        slopes = {}
        if self.copies is not None:
            for component, r in self.copies.rates(self.u, velocity, self.geometry, self.places):
                slopes[component] = project(slope_of(r)[valid])
        for block in self.signals.blocks:
            if block.name in ("copies", "path"):
                total[:, block.columns] = project(self.signals.x[..., block.columns][valid])
            if block.name == "copies":
                d, sign = block.component
                gates[d][:, block.columns] = sign * self.copies.drive * slopes[block.component] @ block.directions
            if block.name == "gate":
                gates[block.component[0]][:, block.columns] = block.directions
        return [direct, total, *gates]

    @cached_property
    def _states(self):
        """Recorded states, thinned, how, and their second moments with a ridge."""
        states = self.u[self.rec.valid[:, self.signals.first :]]
        thin = max(1, len(states) // PROJECTION_SAMPLES)
        cov = second_moment(states[::thin])
        cov[np.diag_indices(len(cov))] += PROJECTION_RIDGE * np.linalg.eigvalsh(cov)[-1]
        return states[::thin], thin, cov

    def project(self, y):
        """The linear map that best takes the recorded state to y (samples, k), directions that the states hardly span
        left at 0. Returns: (n, k)."""
        states, thin, cov = self._states
        return np.linalg.solve(cov, second_moment(states, y[::thin]))

    def unbiased(self):
        """regression.LeastSquares of all blocks."""
        return regression.least_squares(self.samples, self.sums, self.maps)

    def best(self, variance, start=None, maps=()):
        """prior.Posterior of all blocks. variance: (n,), of the residual."""
        terms, frequency = self.geometry.terms(self.places)
        if self.rec.driven is not None:  # weights to and from driven neurons have no profile
            terms[:, self.rec.driven], terms[:, :, self.rec.driven] = 0.0, 0.0
        return Evidence(Model(self.signals.blocks, terms, frequency, self._free()), self.sums, variance).posterior(
            start, maps=maps
        )

    def residuals(self):
        """Residuals under the unbiased weights and which samples are used, from the first step of each trial, and the
        step from which on they are. Returns: (trials, steps, n) float32 and bool, int."""
        weights = np.zeros_like(self.sums.xy)
        for j, G in self.sums.xx.items():
            weights[:, j] = np.linalg.solve(G + 1e-9 * np.trace(G) / len(G) * np.eye(len(G)), self.sums.xy[:, j])
        shape = (*self.signals.x.shape[:2], self.samples.used.shape[1])
        used = self.samples.used & np.isin(np.arange(shape[-1]), list(self.sums.xx))
        return self.samples.residuals(weights).reshape(shape), used.reshape(shape), self.signals.first

    def likeliest_scale(self):
        """The scale of the rates that maximises their likelihood under all blocks, on these samples: 1, or the present
        one, unless another is surely better. Only the rectified tanh has one."""
        chosen = self.kinetics.response
        if chosen.name != "tanh" or not self.sums.xx:
            return chosen.scale
        first, trials = self.signals.first, len(self.rec.rates)
        rates = self.rec.rates[:, first:].reshape(-1, self.rec.rates.shape[-1])
        known = None if self.rec.stimulus is None else self.rec.stimulus[:, first:].reshape(rates.shape)
        neurons = list(self.sums.xx)[:: max(1, len(self.sums.xx) // SCALE_NEURONS)]
        data, highest = {}, 0.0
        for j in neurons:
            at = np.flatnonzero(self.samples.used[:, j])[::SCALE_STRIDE]
            x, r = self.samples.x[at].astype(np.float64), rates[at, j].astype(np.float64)
            data[j] = (
                at // (len(rates) // trials),
                x,
                r,
                0.0 if known is None else known[at, j],
                np.linalg.pinv(x.T @ x),
            )
            highest = max(highest, r.max(initial=0.0))

        def likelihood(scale):
            total, response = np.zeros(trials), chosen._replace(scale=scale)
            for trial, x, r, stimulus, inverse in data.values():
                y = response.current(scale * r) - stimulus
                left = y - x @ (inverse @ (x.T @ y))
                variance = max(left @ left / len(left), 1e-14)
                each = -0.5 * left**2 / variance - 0.5 * np.log(variance) + response.log_jacobian(scale * r)
                total += np.bincount(trial, each, trials)
            return total

        most = min(1.1 * chosen.scale, 0.9999 / highest)
        found = minimize_scalar(lambda c: -likelihood(c).sum(), bounds=(0.9 * chosen.scale, most), method="bounded",
                                options={"xatol": 1e-4})  # fmt: skip
        best = likelihood(found.x)
        for usual in (1.0, chosen.scale):
            near = abs(found.x / usual - 1) < NEAR_ONE and usual == 1
            if usual <= most and (near or not surely_better(best, likelihood(usual))):
                return usual
        return float(found.x)

    def _free(self):
        """Weights that may differ from 0: the velocity enters only driven neurons. (q, n) bool or None."""
        driven = self.rec.driven
        if driven is None:
            return None
        free = np.ones((self.signals.x.shape[-1], len(driven)), bool)
        for block in self.signals.blocks:
            if block.name == "driven":
                free[block.columns] = driven
        return free


def _ordinary(samples):
    """Least squares with a small ridge, and the median s.d. of the residual."""
    sums = regression.moments(samples, regression.neighbours(samples.used))
    weights, variance = np.zeros_like(sums.xy), []
    for j, G in sums.xx.items():
        weights[:, j] = np.linalg.solve(G + 1e-7 * np.trace(G) / len(G) * np.eye(len(G)), sums.xy[:, j])
        variance.append((sums.yy[j] - weights[:, j] @ sums.xy[:, j]) / max(1, sums.counts[j] - len(G)))
    return weights, float(np.sqrt(max(np.median(variance), 1e-12))) if variance else np.nan


def estimate_clean(rec, alpha, geometry, calibrated=True, seed=0, orders=False):
    """The estimate of a recording without measurement noise, of a circuit with a geometry. Arguments and Returns: as
    observations.estimate."""
    places = find_places(rec, geometry)
    alpha_given = alpha or (rec.dt / rec.tau if rec.tau else None)
    kinetics = choose_kinetics(rec, alpha_given)
    if alpha_given is None:
        kinetics = refine_alpha(rec, kinetics, geometry, places)
    fit = Fit(rec, kinetics, geometry, places)
    for _ in range(RESCALINGS):
        scale = fit.likeliest_scale()
        if abs(scale / fit.kinetics.response.scale - 1) < SAME_SCALE:
            break
        fit = Fit(rec, kinetics._replace(response=kinetics.response._replace(scale=scale)), geometry, places)
    plain = fit.unbiased()
    best = fit.best(plain.variance)
    found, order_errors = assemble(fit, plain, best, alpha_given is not None), None
    if orders:
        extended = extend(fit)
        vars(found).update(read_orders(extended, best))
        order_errors = lambda simulated, again: simulated_errors(extended, simulated, again, best)  # noqa: E731
    found.verdicts["gate"], found.gate_p = gate_test(rec, fit.kinetics.alpha, fit.kinetics.response, seed)
    if calibrated and fit.sums.xx:
        refit = lambda simulated: Fit(simulated, fit.kinetics, geometry, places, fit)  # noqa: E731
        found.calibrate(calibrate(fit, refit, best, plain.variance, seed, order_errors))
    structure = residual_structure(fit) if fit.sums.xx else np.inf
    repeats = all(np.isfinite(factor) for factor in found.calibration.get("factors", {}).values())
    # what hidden neurons that are not driven do, copies and their terms do not describe
    if rec.driven is not None or not fit.sums.xx:
        found.withdraw_intervals("cannot tell")
    elif structure < regression.MAX_AUTOCORRELATION and repeats:
        found.verdicts["description"] = "fits"
    else:  # misspecification biases weights by an unknown amount
        found.withdraw_intervals("does not fit")
    found.identifiable, found.resolved = read_certainty(found.W, found.W_unbiased, found.W_se, geometry, places)
    return found


def estimate_exchangeable(rec, alpha=None, mask=None, seed=0):
    """The estimate of a circuit without geometry. Arguments as `estimate`. Returns: Estimate."""
    fields, none = exchangeable.estimate_fields(rec, alpha, mask, seed), exchangeable.NoGeometry()
    return Estimate(
        **fields, **dict(zip(("identifiable", "resolved"), read_certainty(
            fields["W"], fields["W_unbiased"], fields["W_se"], none, None), strict=True))
    )  # fmt: skip


def find_places(rec, geometry):
    """The neurons' places, from the activity of those that the velocity does not drive. Returns: (N, D) rad; driven
    neurons, of which no profile is taken, at 0."""
    if rec.driven is None or (~rec.driven).sum() < 3:
        return geometry.find(rec.rates[rec.valid])
    places = np.zeros((len(rec.driven), geometry.dimensions))
    places[~rec.driven] = geometry.find(rec.rates[rec.valid][:, ~rec.driven])
    return places


def residual_structure(fit):
    """Mean autocorrelation of residuals STRUCTURE_LAGS steps apart: noise through a synapse has mostly been predicted
    then, and what the signals cannot describe is still there."""
    e, used, _ = fit.residuals()
    square = float((e.astype(np.float64) ** 2).sum()) / max(1, used.sum())
    values = []
    for lag in (lag for lag in regression.STRUCTURE_LAGS if lag < e.shape[1] - 1):
        both = max(1, np.count_nonzero(used[:, lag:] & used[:, :-lag]))
        values.append(np.einsum("ktn,ktn->", e[:, lag:], e[:, :-lag], dtype=np.float64) / both / max(square, 1e-30))
    return float(np.mean(values)) if values else np.inf


def refine_alpha(rec, kinetics, geometry, places):
    """The alpha under which the rates are likeliest, all blocks included: the best of a few, then uphill from it in
    smaller and smaller steps, the copies being fitted anew for each. Returns: Kinetics."""
    rec = rec.trials(slice(None, None, max(1, len(rec.rates) // ALPHA_TRIALS)))
    by_alpha = {}

    def evaluate(alphas):
        for a in (round(min(a, 1.0), 4) for a in alphas):
            if a > 0.01 and a not in by_alpha:
                by_alpha[a] = Fit(rec, kinetics._replace(alpha=a), geometry, places).residuals()
        likelihoods = compare_residuals(by_alpha)
        return max(likelihoods, key=lambda a: likelihoods[a].sum())

    alpha = evaluate([kinetics.alpha, *COARSE_ALPHAS])
    for spacing in ALPHA_SPACINGS:
        for _ in range(ALPHA_STEPS):
            before, alpha = alpha, evaluate([alpha - spacing, alpha + spacing])
            if before == alpha:
                break
    alpha, se = parabola(compare_residuals(by_alpha), alpha, ALPHA_SPACINGS[-1])
    return kinetics._replace(alpha=alpha, alpha_se=se)


def compare_residuals(fits):
    """Log likelihoods by trial of several fits, on the samples that all of them use, but for what they share.

    fits: {key: `Fit.residuals`}. Returns: {key: (trials,)}."""
    first = max(start for _, _, start in fits.values())
    used = np.logical_and.reduce([u[:, first - start :] for _, u, start in fits.values()])
    counts, result = np.maximum(used.sum((0, 1)), 1), {}
    for key, (e, _, start) in fits.items():
        square = np.where(used, e[:, first - start :], 0.0).astype(np.float64) ** 2
        variance = np.maximum(square.sum((0, 1)) / counts, 1e-14)
        result[key] = -0.5 * ((square / variance).sum((1, 2)) + (used.sum(1) * np.log(variance)).sum(1))
    return result


def assemble(fit, plain, best, alpha_known):
    """The Estimate of a fit, not calibrated. plain: regression.LeastSquares; best: prior.Posterior."""
    read = lambda weights: [L @ weights for L in fit.maps]  # noqa: E731
    unbiased, shrunk, kinetics = read(plain.weights), read(best.weights), fit.kinetics
    noise = float(np.sqrt(np.nanmedian(plain.variance))) if fit.sums.xx else np.nan
    return Estimate(
        shrunk[0], unbiased[0], plain.se[0], shrunk[1], unbiased[1], plain.se[1],
        np.stack(shrunk[2:]), np.stack(unbiased[2:]), np.stack(plain.se[2:]),
        *read_certainty(shrunk[0], unbiased[0], plain.se[0], fit.geometry, fit.places),
        kinetics.alpha, 0.0 if alpha_known else float(kinetics.alpha_se), alpha_known, kinetics.response.scale,
        noise, kinetics.verdicts | {"geometry": fit.geometry.said}, 1.0,
        best.scales._asdict() | {"heterogeneity": best.heterogeneity}, {}, build_network(fit, best.weights),
    )  # fmt: skip


def read_certainty(W, unbiased, se, geometry, places):
    """`identifiable` and `resolved` of some weights."""
    known = identifiable(W, se)
    return known, resolved(unbiased, se, known, geometry, places)


def build_network(fit, weights):
    """Recorded neurons, and copies or multiplied connections, as a network that runs. Returns: Network or None."""
    chosen, n, V = fit.kinetics.response, len(weights[0]), fit.directions
    if chosen.name != "tanh":
        return None
    of = lambda name: [(b.component, weights[b.columns]) for b in fit.signals.blocks if b.name == name]  # noqa: E731
    D, W, b = fit.rec.velocity.shape[-1], of("direct")[0][1], weights[-1]
    W_in = of("driven")[0][1] if of("driven") else np.zeros((D, n))
    if fit.kinetics.mechanism != "hidden neurons":
        unit = np.eye(D, dtype=int)
        terms = [((*unit[d],), V @ w) for (d, _), w in of("gate")]
        terms += [((*(unit[d] + unit[e]),), V @ w) for (d, e), w in of("products")]
        return Network(W, W_in, b, fit.kinetics.alpha, n, None, tuple(terms))
    kernel = None if fit.copies is None else fit.copies.kernel(fit.geometry, fit.places)
    sheets = of("copies")
    size = n * (1 + len(sheets))
    whole, drive, thresholds = np.zeros((size, size)), np.zeros((D, size)), np.zeros(size)
    whole[:n, :n], drive[:, :n], thresholds[:n] = W, W_in, b
    for k, ((d, sign), w) in enumerate(sheets, 1):
        part = slice(k * n, (k + 1) * n)
        whole[:n, part], whole[part, :n] = kernel, V @ w
        drive[d, part], thresholds[part] = sign * fit.copies.drive, -fit.copies.threshold
    saturation = fit.copies.saturation**-0.5 if sheets and fit.copies.saturation else None
    return Network(whole, drive, thresholds, fit.kinetics.alpha, n, saturation=saturation)
