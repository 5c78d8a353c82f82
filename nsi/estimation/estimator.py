"""Estimate the connections that made a recording, step by step (the package says which)."""

from dataclasses import dataclass

import numpy as np

from nsi import recordings
from nsi.estimation import exchangeable, regression
from nsi.estimation.fitting import Fit, Pilot, compare_residuals, shorten
from nsi.estimation.gate import gate_test
from nsi.estimation.intervals import calibrate, find_hidden_noise
from nsi.estimation.kinetics import choose_kinetics, parabola
from nsi.estimation.orders import extend, read_orders, simulated_errors
from nsi.estimation.refinement import refine
from nsi.network import Network

ALPHA_TRIALS = 20  # that alpha is refined on, at most
COARSE_ALPHAS = 0.1, 0.2, 0.35, 0.6, 1.0
ALPHA_SPACINGS = 0.05, 0.02
ALPHA_STEPS = 6


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
    verdicts: dict  # gate, mechanism, response, geometry, description: in words, or "cannot tell"
    gate_p: float  # p value of the gate's test
    prior: dict  # size, smoothness and deviation of each group's profile, and deviations relative to it
    calibration: dict  # what a recording simulated from the estimate needed (intervals.py), {} if none was made
    network: Network | None  # recorded neurons and copies, as a network to run; None where it cannot be one
    probability: np.ndarray | None = None  # (N, N), that there is a connection; None where geometry sets the prior
    measurement_noise: float = 0.0  # s.d. of noise of the rates that does not enter currents, 0 without
    decay: float = 0.0  # s, of the indicator, where the file does not give it and the rates determine it; else 0
    decay_se: float = 0.0  # s
    turning_lag: float = 0.0  # s, by which the activity turns later than a synapse explains, 0 where it does not
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

    def withdraw_pairs(self, pairs):
        """Claim no interval of some pairs, in place. pairs: (N, N) bool."""
        for name in ("W_se", "total_se", "gate_se"):
            setattr(self, name, np.where(pairs, np.inf, getattr(self, name)))

    def calibrate(self, calibration):
        """Widen the intervals by the factors of `intervals.calibrate`, in place."""
        self.calibration = calibration
        for name, factor in calibration["factors"].items():
            factor = factor or 1.0  # 0 where the simulated recording has nothing to be wrong about
            setattr(self, f"{name}_se", factor * getattr(self, f"{name}_se"))


def identifiable(W, se):
    """Weights whose 95 % interval has a half-width below the r.m.s. weight. (N, N) bool"""
    return regression.NORMAL * se < np.sqrt(np.mean(W**2))


def resolved(W, se, known, geometry, places):
    """Weights of which the data say how they differ from the mean at their distance: those whose standard error is
    below half the s.d. of single weights about their profile, which is what the scatter of the unbiased estimate W has
    over its standard errors. known: (N, N) bool, identifiable; places: (N, D) rad. Returns: (N, N) bool."""
    known = known & ~np.eye(len(W), dtype=bool)
    apart = (W - geometry.mean_profile(W, places, known))[known]
    spread = np.mean(apart**2) - np.mean(se[known] ** 2) if known.any() else 0.0
    return known & (se < np.sqrt(max(spread, 0.0)) / 2)


def estimate_clean(rec, alpha, geometry, calibrated=True, seed=0, orders=False, impute=None):
    """The estimate of a recording without measurement noise, of a circuit with a geometry. impute: where rates of `rec`
    were imputed, called with a recording simulated from the estimate, its Fit and weights, to impute the same rates.
    Other arguments and Returns: as observations.estimate."""
    rec, places = shorten(rec), find_places(rec, geometry)
    alpha_given = alpha or (rec.dt / rec.tau if rec.tau else None)
    kinetics = choose_kinetics(rec, alpha_given)
    if alpha_given is None:
        kinetics = refine_alpha(rec, kinetics, geometry, places)
    fit = Fit(rec, refine(Pilot(rec, kinetics, geometry, places, coupled=True).rescaled()))
    if orders:
        extend(fit)
    plain, best = fit.estimates()
    structure = fit.residual_structure(plain.weights)
    known = np.isfinite(plain.variance).any()
    found, order_errors = assemble(fit, plain, best, alpha_given is not None), None
    if orders:
        vars(found).update(read_orders(fit.extended, best))
        order_errors = lambda simulated, again: simulated_errors(fit, simulated, again, best)
    found.verdicts["gate"], found.gate_p = gate_test(rec, fit.kinetics.alpha, fit.kinetics.response, seed)
    if calibrated and known:
        hidden_noise = find_hidden_noise(fit, best, found.noise, seed) if impute is None else None
        fit.release()

        def refit(simulated):
            simulated = simulated if impute is None else impute(simulated, fit, best.weights)
            again = Fit(simulated, refit_pilot(simulated, fit))
            if orders:
                extend(again)
            return again

        found.calibrate(calibrate(fit, refit, best, plain.variance, seed, order_errors, hidden_noise))
    repeats = all(np.isfinite(factor) for factor in found.calibration.get("factors", {}).values())
    # what hidden neurons that are not driven do, copies and their terms do not describe
    if rec.driven is not None or not known:
        found.withdraw_intervals("cannot tell")
    elif not (structure < regression.MAX_AUTOCORRELATION and repeats):
        found.withdraw_intervals("does not fit")  # misspecification biases weights by an unknown amount
    elif fit.copies is not None and fit.copies.excitation and rec.stimulus is None:
        found.withdraw_intervals("cannot tell")  # how noise lasts among hidden neurons that excite each other
    else:
        found.verdicts["description"] = "fits"
    if rec.measured is not None:
        found.withdraw_pairs(recordings.never_together(rec))
    found.identifiable, found.resolved = read_certainty(found.W, found.W_unbiased, found.W_se, geometry, places)
    return found


def refit_pilot(simulated, fit):
    """The pilot of a recording that was simulated from a fit, its copies found as the fit's were. Returns: Pilot."""
    setting = simulated, fit.kinetics, fit.geometry, fit.places, fit.pilot
    if fit.pilot.scales is not None:  # refined
        pilot = refine(Pilot(*setting, refit=False), steps=1)
        if pilot.scales is not None:
            return pilot
    return Pilot(*setting)


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


def refine_alpha(rec, kinetics, geometry, places):
    """The alpha under which the rates are likeliest, all blocks included: the best of a few, then uphill from it in
    smaller and smaller steps. For each of the few the copies are fitted from their starts, then from those of the best
    alpha so far. Returns: Kinetics."""
    rec = rec.trials(slice(None, None, max(1, len(rec.rates) // ALPHA_TRIALS)))
    by_alpha, pilots = {}, {}

    def evaluate(alphas, near=None):
        for a in (round(min(a, 1.0), 4) for a in alphas):
            if a > 0.01 and a not in by_alpha:
                pilot = Pilot(rec, kinetics._replace(alpha=a), geometry, places, near)
                by_alpha[a], pilots[a], pilot.samples = pilot.residuals(), pilot, None
        likelihoods = compare_residuals(by_alpha)
        return max(likelihoods, key=lambda a: likelihoods[a].sum())

    alpha = evaluate([kinetics.alpha, *COARSE_ALPHAS])
    for spacing in ALPHA_SPACINGS:
        for _ in range(ALPHA_STEPS):
            before, alpha = alpha, evaluate([alpha - spacing, alpha + spacing], pilots[alpha])
            if before == alpha:
                break
    alpha, se = parabola(compare_residuals(by_alpha), alpha, ALPHA_SPACINGS[-1])
    return kinetics._replace(alpha=alpha, alpha_se=se)


def assemble(fit, plain, best, alpha_known):
    """The Estimate of a fit, not calibrated. plain: regression.LeastSquares; best: prior.Posterior."""
    read = lambda weights: [L @ weights for L in fit.maps]
    unbiased, shrunk, kinetics = read(plain.weights), read(best.weights), fit.kinetics
    known = np.isfinite(plain.variance)
    noise = float(np.sqrt(np.median(plain.variance[known]))) if known.any() else np.nan
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
    of = lambda name: [(b.component, weights[b.columns]) for b in fit.blocks if b.name == name]
    D, W, b = fit.rec.velocity.shape[-1], of("direct")[0][1], weights[-1]
    W_in = of("driven")[0][1] if of("driven") else np.zeros((D, n))
    if fit.kinetics.mechanism != "hidden neurons":
        unit = np.eye(D, dtype=int)
        terms = [((*unit[d],), V @ w) for (d, _), w in of("gate")]
        terms += [((*(unit[d] + unit[e]),), V[:, : len(w)] @ w) for (d, e), w in of("products")]
        return Network(W, W_in, b, fit.kinetics.alpha, n, None, tuple(terms))
    kernel = None if fit.copies is None else fit.copies.kernel(fit.geometry, fit.places)
    coupling = None if fit.copies is None else fit.copies.coupling(fit.geometry, fit.places)
    sheets = of("copies")
    size = n * (1 + len(sheets))
    whole, drive, thresholds = np.zeros((size, size)), np.zeros((D, size)), np.zeros(size)
    whole[:n, :n], drive[:, :n], thresholds[:n] = W, W_in, b
    for k, ((d, sign), w) in enumerate(sheets, 1):
        part = slice(k * n, (k + 1) * n)
        whole[:n, part], whole[part, :n] = kernel, V @ w
        if fit.copies.centres is not None:
            whole[part, :n] *= fit.copies.centres[:, None]
        whole[part, part] = 0.0 if coupling is None else coupling
        drive[d, part], thresholds[part] = sign * fit.copies.drive, -fit.copies.threshold
    saturation = fit.copies.saturation**-0.5 if sheets and fit.copies.saturation else None
    return Network(whole, drive, thresholds, fit.kinetics.alpha, n, saturation=saturation)
