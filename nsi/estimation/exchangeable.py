"""The estimate of a circuit without geometry: neurons of any order, each current linear in all states and inputs.

    phi^-1(r_j) - stimulus_j = u W_j + v W_in,j + b_j + e_j,      u = F(r),      e_j ~ N(0, s_j^2), new at every step

The recorded input v, of any number of components, drives neurons directly. Silent steps are currents below the
threshold (censored.py); the weights' prior knows that most connections do not exist (sparse.py). docs/method.md has it
in short.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar

from nsi.errors import BadInput
from nsi.estimation import censored, sparse, unrecorded
from nsi.estimation.kinetics import ALPHAS, NEAR_ONE, parabola, surely_better
from nsi.estimation.regression import MAX_AUTOCORRELATION, STRUCTURE_LAGS
from nsi.estimation.signals import settled, state_of
from nsi.network import PUBLISHED_ALPHA, Network
from nsi.response import Response
from nsi.sums import correlation

CHOICE_TRIALS, CHOICE_NEURONS, CHOICE_SAMPLES = 50, 8, 20_000  # that response and alpha are chosen on
SATURATED = 0.9999  # scaled rate of a tanh from which on the current is only known to be above
SCALES = np.linspace(0.4, 1.0, 7)  # of the rates' 99.9th percentile, at which a tanh is tried first
SHAPES = 2.0, 4.0, 8.0  # of a softplus, over the same percentile
STRAIGHT = 0.8  # smallest over largest slope, above which a response is as good as linear
ALPHA_SPACINGS = 0.05, 0.02
SHARED = 0.05  # r.m.s. correlation of residuals of different neurons, beyond chance, from which on something is missing
WEAKEST = 1e-4  # of the mean information, that is added so that directions that nothing is known of do no harm
ROUNDS, ROUND_SWEEPS, SETTLED = 6, 100, 0.99  # of sessions, at most; the sampler's in them; correlation of two W's
LEAST_NOISE = 0.3  # of a current's residual variance, that is the neuron's own where other neurons are missing
COUNT_GROUPS = 3  # that positive counts of connections are divided into, by size


class Moments(NamedTuple):
    """Likelihood of the weights given the recorded currents."""

    information: np.ndarray  # (n, q, q), about each neuron's weights, those of inputs and threshold last
    weights: np.ndarray  # (q, n), the likeliest
    se: np.ndarray  # (n, n)
    variance: np.ndarray  # (n,), of the noise, NaN for neurons of which nothing is known
    fits: bool  # whether residuals are noise
    centre: np.ndarray  # (q,), that regressors are relative to

    def inputs(self, W):
        """The likeliest weights of inputs and threshold given those of neurons. W: (n, n). Returns: (q - n, n)."""
        n = len(W)
        return self.weights[n:] - np.stack(
            [np.linalg.pinv(J[n:, n:], hermitian=True) @ J[n:, :n] @ (W[:, j] - self.weights[:n, j])
             for j, J in enumerate(self.information)], 1)  # fmt: skip

    def posterior(self, groups, seed, sweeps=sparse.SWEEPS):
        """Of the weights of neurons that anything is known of. Returns: W and the probability of a connection (n, n),
        0 for others, and the share of connections."""
        n, known = len(groups), np.isfinite(self.variance)
        W, probability = np.zeros((n, n)), np.zeros((n, n))
        if not known.any():
            return W, probability, np.nan
        J = censored.marginal(self.information[known], n)
        J = J + WEAKEST * np.einsum("jii->j", J)[:, None, None] / n * np.eye(n)
        found = sparse.sample_posterior(self.weights[:n, known], J, groups[:, known], seed, sweeps)
        W[:, known], probability[:, known] = found.W, found.probability
        return W, probability, found.share


class NoGeometry:
    """In the place of a ring or a torus: all pairs of neurons are alike."""

    dimensions, said = 0, "none"

    def mean_profile(self, W, places, mask):
        """The mean weight over the pairs of a mask, for every pair. W, mask: (n, n). Returns: (n, n)."""
        return np.full(W.shape, W[mask].mean() if mask.any() else 0.0)


def build_samples(rec, alpha, response, first, neurons=slice(None), every=1, states=None):
    """The regression of some neurons' currents. first: step at which it begins in each trial; states: u of all neurons
    (default: of their rates).

    Returns: censored.Samples, whose regressors are u, v less their means and 1; the means (q,)."""
    valid, later = rec.valid[:, first:], slice(first, None)
    rates = np.float32(response.scale) * rec.rates
    states = state_of(rates, alpha) if states is None else states
    parts = [states[:, later][valid], rec.velocity[:, later][valid]]
    x = np.concatenate(parts[: 1 if rec.decoded else 2], 1)[::every]
    mean = np.append(x.mean(0, dtype=np.float64), 0.0)
    x = np.column_stack([x - mean[:-1].astype(np.float32), np.ones(len(x), np.float32)])
    r = rates[:, later][..., neurons][valid][::every]
    high = (r >= SATURATED) & (response.name == "tanh")
    silent = (r <= 0).astype(np.int8) - high
    y = np.where(r > 0, response.current(np.where(high, np.float32(SATURATED), r)), 0).astype(np.float32)
    if rec.stimulus is not None:
        y -= rec.stimulus[:, later][..., neurons][valid][::every]
    trial = np.repeat(np.arange(len(valid)), valid.sum(1))[::every]
    return censored.Samples(np.ascontiguousarray(x), y, silent, trial), mean


class Choice:
    """Log likelihoods of some neurons' rates, by trial, under response functions and values of alpha."""

    def __init__(self, rec):
        rec = rec.trials(slice(None, None, -(-len(rec.rates) // CHOICE_TRIALS)))
        fires = (rec.rates[rec.valid] > 0).mean(0)
        active = np.flatnonzero(fires >= min(0.3, np.median(fires)))
        self.rec, self.neurons = rec, active[:: -(-len(active) // CHOICE_NEURONS)]
        self.every = max(1, int(rec.valid.sum() // CHOICE_SAMPLES))
        self.first = settled(ALPHAS[0], rec.rates.shape[1])
        self.top = float(np.quantile(rec.rates[rec.valid], 0.999))
        self.highest = float(rec.rates.max())
        self.silent = bool((rec.rates[rec.valid] <= 0).any())
        self.by_candidate = {}

    def evaluate(self, alpha, response):
        """Returns: (trials,)."""
        key = alpha, response
        if key not in self.by_candidate:
            samples, _ = build_samples(self.rec, alpha, response, self.first, self.neurons, self.every)
            each = censored.log_likelihood(samples, censored.maximise_likelihood(samples), len(self.rec.rates))
            r = self.rec.rates[:, self.first :][..., self.neurons][self.rec.valid[:, self.first :]][:: self.every]
            r = np.float64(response.scale) * r
            jacobian = np.where(samples.silent == 0, response.log_jacobian(np.where(r > 0, r, 1.0)), 0.0)
            self.by_candidate[key] = each + np.bincount(samples.trial, jacobian.sum(1), len(each))
        return self.by_candidate[key]

    def families(self, alpha):
        """The likeliest response of each family at one alpha. Returns: dict of names to Response."""
        tried = {"linear": [Response("linear")], "power": [Response("power", 1.0, 2.0), Response("power", 1.0, 0.5)]}
        tried["tanh"] = [Response("tanh", s / self.top) for s in SCALES] + [Response()] * (self.highest < 1)
        if not self.silent:
            tried["softplus"] = [Response("softplus", 1.0, s) for s in (1.0, *(s / self.top for s in SHAPES))]
        total = lambda response: self.evaluate(alpha, response).sum()
        best = {name: max(some, key=total) for name, some in tried.items()}
        for name, field, factor in (("tanh", "scale", 1.25), ("softplus", "shape", 2.0)):
            if name in best:
                best[name] = self._refine(total, best[name], field, factor, alpha)
        return best

    def _refine(self, total, start, field, factor, alpha):
        """The likeliest scale of a tanh or shape of a softplus: 1 where that is near, or not surely worse."""
        value, of = getattr(start, field), lambda log: start._replace(**{field: float(np.exp(log))})
        middle = np.log(value)
        found = minimize_scalar(lambda log: -total(of(log)), bounds=(middle - np.log(factor), middle + np.log(factor)),
                                method="bounded", options={"xatol": 2e-3, "maxiter": 12})  # fmt: skip
        best = max((of(found.x), start), key=total)
        one = start._replace(**{field: 1.0})
        if field == "scale" and self.highest >= 1.05:
            return best
        near = abs(getattr(best, field) - 1) < NEAR_ONE
        return one if near or not surely_better(self.evaluate(alpha, best), self.evaluate(alpha, one)) else best

    def choose(self, alpha=None):
        """Choose response and alpha in turn. alpha: where it is known. Returns: Response, alpha, its standard error,
        the verdict on the response."""
        known, a, chosen = alpha is not None, alpha or PUBLISHED_ALPHA, None
        for _ in range(1 if known else 2):
            best = self.families(a)
            before, chosen = chosen, self._simplest(a, best)
            if not known:
                a = self._best_alpha(chosen, a)
            if before == chosen:
                break
        best = {name: r for name, r in best.items() if name != chosen.name}
        own = self.evaluate(a, chosen)
        rivals = [r for r in best.values() if not surely_better(own, self.evaluate(a, r))]
        if chosen.name == "linear":
            rivals = [r for r in rivals if r == Response() or not self._straight(r)]
        verdict = "cannot tell" if rivals else str(chosen)
        if known:
            return chosen, a, 0.0, verdict
        by_alpha = {b: value for (b, r), value in self.by_candidate.items() if r == chosen}
        return chosen, *parabola(by_alpha, a, ALPHA_SPACINGS[-1]), verdict

    def _simplest(self, alpha, families):
        """The likeliest response, or, where that is not surely better, the likeliest of those without a parameter.
        families: of `families`."""
        total = lambda r: self.evaluate(alpha, r).sum()
        best = max(families.values(), key=total)
        plain = max((r for r in families.values() if r.name != "power" and r.scale == r.shape == 1), key=total)
        return best if surely_better(self.evaluate(alpha, best), self.evaluate(alpha, plain)) else plain

    def _straight(self, response):
        """Whether a response is nearly linear over the recorded rates."""
        rates = self.rec.rates[self.rec.valid][:, self.neurons]
        r = response.scale * np.quantile(rates[rates > 0], [0.05, 0.5, 0.999])
        slopes = response.slope(response.current(r))
        return slopes.min() > STRAIGHT * slopes.max()

    def _best_alpha(self, chosen, start):
        total = lambda a: self.evaluate(a, chosen).sum()
        a = max({*ALPHAS, start}, key=total)
        for spacing in ALPHA_SPACINGS:
            while (
                nearby := max((a, *(round(b, 4) for b in (a - spacing, a + spacing) if 0.01 < b <= 1)), key=total)
            ) != a:
                a = nearby
        return a


def groups_of(mask, n):
    """What anatomy says of each pair, as groups for sparse.py. mask: (n, n) bool, False where there is no connection,
    or numbers of connections, of which 0 need not rule one out. Returns: (n, n) int.

    Raises: BadInput where it has another shape or values."""
    if mask is None:
        return np.ones((n, n), int)
    mask = np.asarray(mask)
    if mask.shape != (n, n):
        raise BadInput(f"mask has shape {mask.shape}; expected ({n}, {n}), from row to column of the recorded neurons")
    if mask.dtype == bool:
        return mask.astype(int)
    if mask.dtype.kind not in "iuf" or not np.isfinite(mask).all() or (mask < 0).any():
        raise BadInput(f"mask has type {mask.dtype.str} and values that are no counts; expected bool, or counts >= 0")
    some = mask > 0
    edges = np.unique(np.quantile(mask[some], np.arange(1, COUNT_GROUPS) / COUNT_GROUPS)) if some.any() else []
    return np.where(some, 2 + np.searchsorted(edges, mask), 1)


def structure(fit, samples):
    """Mean autocorrelation of the residuals at STRUCTURE_LAGS: noise that is new at every step has none."""
    e, trial = fit.residuals, samples.trial
    square, values = max(np.einsum("tn,tn->", e, e, dtype=np.float64) / len(e), 1e-30), []
    for lag in STRUCTURE_LAGS:
        same = np.flatnonzero(trial[lag:] == trial[:-lag])
        if len(same):
            values.append(np.einsum("tn,tn->", e[same + lag], e[same], dtype=np.float64) / len(same) / square)
    return float(np.mean(values)) if values else np.inf


def shared(fit):
    """R.m.s. correlation of the residuals of different neurons, beyond chance: unrecorded inputs cause one."""
    e = fit.residuals[:, np.isfinite(fit.variance)]
    e = e / np.sqrt(np.einsum("tn,tn->n", e, e, dtype=np.float64)).astype(np.float32)
    correlation = (e.T @ e)[~np.eye(e.shape[1], dtype=bool)].astype(np.float64)
    return float(np.sqrt(max(np.mean(correlation**2) - 1 / len(e), 0))) if e.shape[1] > 1 else 0.0


def fit_whole(rec, alpha, response, possible):
    """Fit neurons that were recorded throughout. possible: (n, n) bool. Returns: `Moments`."""
    n, first = rec.rates.shape[-1], settled(alpha, rec.rates.shape[1])
    samples, centre = build_samples(rec, alpha, response, first)
    fit = censored.maximise_likelihood(samples)
    on = np.ones(fit.weights.shape, bool)
    on[:n] = possible
    weights, covariance = censored.restrict(fit, on)
    se = censored.standard_errors(fit, samples, covariance)[:n]
    fits = structure(fit, samples) < MAX_AUTOCORRELATION and shared(fit) < SHARED
    return Moments(fit.information, weights, se, fit.variance, fits, centre)


def fit_sessions(rec, alpha, response, groups, seed=0):
    """Fit sessions of different neurons and their weights in turn: each session on the states of all neurons, those of
    neurons that it lacks predicted by the weights so far (unrecorded.py), at first left out. Information is added,
    J = sum of J_s, J w = sum of J_s w_s. groups: of `groups_of`; seed: of the sampler.

    Returns: `Moments`; weights of pairs that were never recorded together have infinite standard errors."""
    circuit, W = None, np.zeros(groups.shape)
    for _ in range(ROUNDS):
        moments, slope = _add_sessions(rec, alpha, response, groups > 0, circuit)
        before, (W, _, _) = W, moments.posterior(groups, seed, ROUND_SWEEPS)
        if correlation(before, W) > SETTLED or not W.any():
            break
        noise = np.where(np.isfinite(moments.variance), moments.variance, np.nanmedian(moments.variance))
        circuit = unrecorded.Circuit(np.concatenate([W, moments.inputs(W)]), moments.centre, noise, slope)
    return moments


def _add_sessions(rec, alpha, response, possible, circuit):
    """One round of `fit_sessions`. circuit: unrecorded.Circuit, None at first. Returns: `Moments`, slopes (n,)."""
    n, D, first = rec.rates.shape[-1], rec.velocity.shape[-1], settled(alpha, rec.rates.shape[1])
    recorded, q, fits = np.isfinite(rec.rates).all(1), n + D + 1, []
    patterns, own = np.unique(recorded, axis=0, return_inverse=True)
    J, Jw, centre = np.zeros((n, q, q)), np.zeros((q, n)), np.zeros(q)
    variance, slope, count, trials = np.zeros(n), np.zeros(n), np.zeros(n), np.maximum(recorded.sum(0), 1)
    centre[:n] = response.scale * np.where(recorded[..., None].transpose(0, 2, 1), rec.rates, 0).mean(1).sum(0) / trials
    for k, pattern in enumerate(patterns):
        at, some = np.flatnonzero(pattern), rec.trials(np.flatnonzero(own.ravel() == k))
        states, added = unrecorded.predict_states(some, pattern, circuit, alpha, response)
        samples, mean = build_samples(some, alpha, response, first, at, states=states)
        fit = censored.maximise_likelihood(samples)
        fits.append(structure(fit, samples) < MAX_AUTOCORRELATION and shared(fit) < SHARED)
        shift = np.eye(q)  # from weights about the common centre to those about the session's own
        shift[-1] += mean - centre
        known = at[np.isfinite(fit.variance)]
        here = np.searchsorted(at, known)
        information = shift.T @ fit.information[here] @ shift
        J[known] += information
        Jw[:, known] += shift.T @ np.einsum("jab,bj->aj", fit.information[here], fit.weights[:, here])
        noise = np.maximum(fit.variance[here] - added[known], LEAST_NOISE * fit.variance[here])
        variance[known] += noise * len(some.rates)
        rates = np.float32(response.scale) * some.rates[..., at][some.valid]
        slope[at] += (response.slope(response.current(rates)) * (rates > 0)).mean(0) * len(some.rates) / trials[at]
        count[known] += len(some.rates)
    weights, se = np.zeros((q, n)), np.where((recorded[:, :, None] & recorded[:, None]).any(0), 0.0, np.inf)
    for j in range(n):
        on = np.append(np.flatnonzero(possible[:, j]), np.arange(n, q))
        inverse = np.linalg.pinv(J[j][np.ix_(on, on)], rcond=1e-8, hermitian=True)
        weights[on, j] = inverse @ Jw[on, j]
        se[on[: -D - 1], j] += np.sqrt(np.maximum(np.diag(inverse)[: -D - 1], 0))
    se[~possible] = 0.0
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = np.where(count > 0, variance / count, np.nan)
    return Moments(J, weights, se, variance, all(fits), centre), slope


def estimate_fields(rec, alpha=None, mask=None, seed=0):
    """Estimate a circuit without geometry. rec: Recording, whose rates are NaN in trials that a neuron was not recorded
    in; alpha: dt / tau where it is known; mask: `groups_of`; seed: of the sampler.

    Returns: what an estimator.Estimate is made of, as a dict."""
    n, known = rec.rates.shape[-1], alpha or (rec.dt / rec.tau if rec.tau else None)
    groups, partial = groups_of(mask, n), not np.isfinite(rec.rates).all()
    response, alpha, alpha_se, verdict = Choice(_one_session(rec) if partial else rec).choose(known)
    if partial:
        moments = fit_sessions(rec, alpha, response, groups, seed)
    else:
        moments = fit_whole(rec, alpha, response, groups > 0)
    weights, W_se = moments.weights, moments.se
    fitted = np.isfinite(moments.variance)
    W_se[:, ~fitted] = np.inf
    W, probability, share = moments.posterior(groups, seed)
    fits = bool(fitted.any()) and moments.fits
    if not fits:
        W_se = np.full_like(W_se, np.inf)
    unbiased = np.where(fitted, weights[:n], 0.0)
    D, none = rec.velocity.shape[-1], NoGeometry()
    verdicts = {"response": verdict, "mechanism": "direct drive" if fits else "cannot tell", "geometry": none.said,
                "gate": "cannot tell", "description": "fits" if fits else "does not fit"}  # fmt: skip
    arrays = {"": W, "_unbiased": unbiased, "_se": W_se}
    gates = {"": 0.0, "_unbiased": 0.0, "_se": np.inf}
    return {
        **{name + part: a for name in ("W", "total") for part, a in arrays.items()},
        **{f"gate{part}": np.full((D, n, n), value) for part, value in gates.items()},
        "probability": probability,
        "alpha": float(alpha),
        "alpha_se": float(alpha_se),
        "alpha_known": known is not None,
        "scale": response.scale,
        "noise": float(np.sqrt(np.nanmedian(moments.variance))) if fitted.any() else np.nan,
        "verdicts": verdicts,
        "gate_p": 1.0,
        "prior": {"connected": share},
        "calibration": {},
        "network": _network(rec, response, alpha, W, moments) if fitted.all() and not partial else None,
    }


def _one_session(rec):
    """The trials and neurons of the set of neurons that was recorded in most trials together."""
    recorded = np.isfinite(rec.rates).all(1)
    patterns, own, count = np.unique(recorded, axis=0, return_inverse=True, return_counts=True)
    k = int(np.argmax(count * patterns.sum(1)))
    some, at = rec.trials(np.flatnonzero(own.ravel() == k)), np.flatnonzero(patterns[k])
    stimulus = None if some.stimulus is None else some.stimulus[..., at]
    return replace(some, rates=some.rates[..., at], stimulus=stimulus)


def _network(rec, response, alpha, W, moments):
    """The circuit as a network that runs, where it has the networks' own response function. Inputs and thresholds are
    the likeliest given W."""
    if response.name != "tanh" or response.scale != 1:
        return None
    n, every = len(W), np.concatenate([W, moments.inputs(W)])
    W_in = every[n:-1] if not rec.decoded else np.zeros((rec.velocity.shape[-1], n))
    return Network(W, W_in, every[-1] - moments.centre[:-1] @ every[:-1], alpha, n)
