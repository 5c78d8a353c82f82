"""The estimate from recordings in which neurons, or single samples, are missing, of a circuit with a geometry.

Missing rates are imputed, in turn with the weights:

    start      E[r missing | r recorded], whose covariance depends on the distance alone (nsi/geometry/factors.py)
    weights    the estimate's regression (estimator.py), whose targets are recorded samples alone
    rates      p_j = phi(X[t] w_j + stimulus_j[t]), run forward through each trial, recorded neurons clamped
               r_j = p_j + E[error missing | r - p of recorded neurons], its covariance that of the errors so far

until W settles; in the first rounds weights depend on the distance alone. An imputed state lacks the noise of its
neuron, which nothing before could predict: its error is nearly uncorrelated with the regressors (as in Berkson 1950,
doi 10.1080/01621459.1950.10483349). So it does not bias weights but adds to the residuals, from which their standard
errors, clustered by trials, follow. Hidden neurons may be excited or inhibited by recorded ones; imputed rates agree
with the copies that they were predicted by, so that both signs are tried, and the one is kept that leaves less.
"""

from copy import copy
from typing import NamedTuple

import numpy as np

from nsi.estimation.copies import Setting, starts
from nsi.estimation.estimator import estimate_clean, find_places, refine_alpha
from nsi.estimation.fitting import Fit, Pilot
from nsi.estimation.intervals import MAX_RATE, Simulated
from nsi.estimation.kinetics import MECHANISMS, choose_kinetics
from nsi.estimation.prior import Scales
from nsi.estimation.signals import Copies, state_of
from nsi.geometry.factors import Factors, interpolate
from nsi.sums import correlation

PROFILE_ROUNDS = 3  # of weights that depend on the distance alone, with which the rounds begin
START_ROUNDS = 2  # for each sign of the copies' gain
ROUNDS, SIMULATED_ROUNDS = 8, 3  # at most, of the recording, and of one simulated from its estimate
SETTLED = 0.999  # correlation of the last two estimates of W, above which they have converged
CONVERGED = 0.98  # the same, below which no interval is given


class Start(NamedTuple):
    """Copies that a pilot starts from, in the place of an earlier Pilot."""

    copies: Copies
    has_products: bool = False


def estimate(rec, alpha, geometry, calibrated=True, seed=0, orders=False):
    """Estimate from a recording of which rates are missing. rec: Recording with `measured` and a first guess at the
    others, as of geometry.fill_missing. Other arguments and Returns: as observations.estimate; weights of pairs that
    were never recorded together have infinite standard errors."""
    alpha_given = alpha or (rec.dt / rec.tau if rec.tau else None)
    imputed, agreement = impute(rec, alpha_given, geometry)
    found = estimate_clean(imputed, alpha, geometry, calibrated, seed, orders, impute_simulated)
    if not agreement > CONVERGED:
        found.withdraw_intervals("cannot tell")
        found.identifiable, found.resolved = (np.zeros_like(a) for a in (found.identifiable, found.resolved))
    return found


def impute(rec, alpha, geometry):
    """The recording with missing rates imputed, and the correlation of the last two estimates of W. alpha: dt / tau
    where it is known, or None. Returns: Recording, float."""
    places = find_places(rec, geometry)
    rec = interpolate(rec, geometry, places)
    choose = lambda: choose_kinetics(rec, alpha)
    kinetics = choose()._replace(mechanism=MECHANISMS[0])
    for _ in range(PROFILE_ROUNDS):
        rec, *_ = improve(rec, kinetics, geometry, places, profile=True)
    kinetics = choose()._replace(mechanism=MECHANISMS[0])
    tried = []
    u = state_of(np.float32(kinetics.response.scale) * rec.rates, kinetics.alpha)
    setting = Setting(kinetics.alpha, geometry, places, None if rec.driven is None else ~rec.driven)
    for near in map(Start, starts(u, rec.velocity, setting, setting.senders)):
        tried.append(settle(rec, kinetics, geometry, places, near, START_ROUNDS))
    rec, near, *_ = min(tried, key=lambda one: one[2])
    kinetics = choose()
    if alpha is None:
        kinetics = refine_alpha(rec, kinetics, geometry, places)
    rec, _, _, agreement = settle(rec, kinetics, geometry, places, near, ROUNDS)
    return rec, agreement


def settle(rec, kinetics, geometry, places, near, rounds):
    """Weights and rates in turn, until W settles. near: Start, a Pilot, or None. Returns: Recording, last Pilot, the
    median variance of its residuals, the correlation of the last two estimates of W."""
    before, agreement, variance = None, 0.0, np.inf
    for _ in range(rounds):
        rec, near, W, variance = improve(rec, kinetics, geometry, places, near)
        if W is None:
            break
        agreement = 0.0 if before is None else correlation(before, W)
        before = W
        if agreement > SETTLED:
            break
    return rec, near, variance, agreement


def improve(rec, kinetics, geometry, places, near=None, profile=False):
    """One round: the weights given the rates, and the missing rates that they predict. profile: whether weights depend
    on the distance alone. Returns: Recording, Pilot, W (None where no neuron has enough samples, and the rates stay),
    median variance of the residuals."""
    fit = Fit(rec, Pilot(rec, kinetics, geometry, places, near))
    alike = Scales({}, {}, {block.group: 0.0 for block in fit.blocks})
    plain, best = fit.estimates(alike, rounds=0) if profile else fit.estimates()
    if not np.isfinite(plain.variance).any():
        return rec, fit.pilot, None, np.inf
    return predict(rec, fit, best.weights), fit.pilot, best.weights[: len(places)], float(np.nanmedian(plain.variance))


def predict(rec, fit, weights):
    """The missing rates as the weights predict them, corrected by what recorded neurons' rates at the same step differ
    from theirs; recorded ones as they are. Returns: Recording."""
    first, chosen, late = fit.first, fit.kinetics.response, rec.valid[:, fit.first :]
    recorded = np.float32(chosen.scale) * rec.rates
    x = np.concatenate([samples.x @ weights.astype(np.float32) for samples in fit.pieces])
    x = x.reshape(recorded[:, first:].shape)
    x += 0.0 if rec.stimulus is None else rec.stimulus[:, first:]
    left = (recorded[:, first:] - chosen.phi(x))[late]
    errors = Factors.by_distance(left, rec.measured[:, first:][late], fit.geometry, fit.places)
    highest = MAX_RATE * recorded[rec.measured].max()

    def clamp(t, r):
        known = rec.measured[:, t]
        corrected = r + errors.expect(np.where(known, recorded[:, t] - r, np.nan))
        return np.where(known, recorded[:, t], np.clip(np.nan_to_num(corrected), 0, highest)).astype(np.float32)

    of = copy(fit)
    of.rec = rec
    return Simulated(of, weights, 0.0, clamp=clamp).recording


def impute_simulated(rec, fit, weights):
    """Impute a recording that was simulated from a fit, as the fit's own was. Returns: Recording."""
    rec = predict(rec, fit, weights)
    return settle(rec, fit.kinetics, fit.geometry, fit.places, fit.pilot, SIMULATED_ROUNDS)[0]
