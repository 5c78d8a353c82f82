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
from nsi.estimation import censored, sparse
from nsi.estimation.kinetics import ALPHAS, NEAR_ONE, parabola, surely_better
from nsi.estimation.regression import MAX_AUTOCORRELATION, STRUCTURE_LAGS
from nsi.estimation.signals import settled, state_of
from nsi.network import PUBLISHED_ALPHA, Network
from nsi.response import Response

CHOICE_TRIALS, CHOICE_NEURONS, CHOICE_SAMPLES = 50, 8, 20_000  # that response and alpha are chosen on
SATURATED = 0.9999  # scaled rate of a tanh from which on the current is only known to be above
SCALES = np.linspace(0.4, 1.0, 7)  # of the rates' 99.9th percentile, at which a tanh is tried first
SHAPES = 2.0, 4.0, 8.0  # of a softplus, over the same percentile
STRAIGHT = 0.8  # smallest over largest slope, above which a response is as good as linear
ALPHA_SPACINGS = 0.05, 0.02
SHARED = 0.05  # r.m.s. correlation of residuals of different neurons, beyond chance, from which on something is missing
WEAKEST = 1e-4  # of the mean information, that is added so that directions that nothing is known of do no harm
COUNT_GROUPS = 3  # that positive counts of connections are divided into, by size


class Moments(NamedTuple):
    """Likelihood of the weights given the recorded currents."""

    J: np.ndarray  # (n, n, n), information about each neuron's weights, inputs and threshold being unknown
    weights: np.ndarray  # (n or more, n), the likeliest
    se: np.ndarray  # (n, n)
    variance: np.ndarray  # (n,), of the noise, NaN for neurons of which nothing is known
    fits: bool  # whether residuals are noise
    fit: censored.CensoredFit | None
    centre: np.ndarray | None  # means of the regressors


class NoGeometry:
    """In the place of a ring or a torus: all pairs of neurons are alike."""

    dimensions, said = 0, "none"

    def mean_profile(self, W, places, mask):
        """The mean weight over the pairs of a mask, for every pair. W, mask: (n, n). Returns: (n, n)."""
        return np.full(W.shape, W[mask].mean() if mask.any() else 0.0)


def build_samples(rec, alpha, response, first, neurons=slice(None), every=1):
    """The regression of some neurons' currents. first: step at which it begins in each trial.

    Returns: censored.Samples, whose regressors are u, v less their means and 1; the means (q,)."""
    valid, later = rec.valid[:, first:], slice(first, None)
    rates = np.float32(response.scale) * rec.rates
    parts = [state_of(rates, alpha)[:, later][valid], rec.velocity[:, later][valid]]
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
        total = lambda response: self.evaluate(alpha, response).sum()  # noqa: E731
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
        total = lambda r: self.evaluate(alpha, r).sum()  # noqa: E731
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
        total = lambda a: self.evaluate(a, chosen).sum()  # noqa: E731
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
    return Moments(censored.marginal(fit.information, n), weights, se, fit.variance, fits, fit, centre)


def fit_sessions(rec, alpha, response, possible):
    """Fit each set of neurons that were recorded together alone, as if there were no others, and add what all say of a
    weight by information: J = sum of J_s, J w = sum of J_s w_s. Returns: `Moments`; weights of pairs that were never
    recorded together have infinite standard errors."""
    n, recorded = rec.rates.shape[-1], np.isfinite(rec.rates).all(1)
    patterns, own = np.unique(recorded, axis=0, return_inverse=True)
    fits = []
    J, Jw, variance, count = np.zeros((n, n, n)), np.zeros((n, n)), np.zeros(n), np.zeros(n)
    for k, pattern in enumerate(patterns):
        at, some = np.flatnonzero(pattern), rec.trials(np.flatnonzero(own.ravel() == k))
        stimulus = None if some.stimulus is None else some.stimulus[..., at]
        part = fit_whole(replace(some, rates=some.rates[..., at], stimulus=stimulus), alpha, response,
                         np.ones((len(at), len(at)), bool))  # fmt: skip
        fits.append(part.fits)
        for here, j in enumerate(at):
            if np.isfinite(part.variance[here]):
                J[j][np.ix_(at, at)] += part.J[here]
                Jw[at, j] += part.J[here] @ part.weights[: len(at), here]
                variance[j] += part.variance[here] * len(some.rates)
                count[j] += len(some.rates)
    together = np.einsum("jii->ij", J) > 0
    weights, se = np.zeros((n, n)), np.full((n, n), np.inf)
    for j in range(n):
        on = np.flatnonzero(possible[:, j] & together[:, j])
        inverse = np.linalg.pinv(J[j][np.ix_(on, on)], rcond=1e-8, hermitian=True)
        weights[on, j], se[on, j] = inverse @ Jw[on, j], np.sqrt(np.maximum(np.diag(inverse), 0))
    se[~possible] = 0.0
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = np.where(count > 0, variance / count, np.nan)
    return Moments(J, weights, se, variance, all(fits), None, None)


def estimate_fields(rec, alpha=None, mask=None, seed=0):
    """Estimate a circuit without geometry. rec: Recording, whose rates are NaN in trials that a neuron was not recorded
    in; alpha: dt / tau where it is known; mask: `groups_of`; seed: of the sampler.

    Returns: what an estimator.Estimate is made of, as a dict."""
    n, known = rec.rates.shape[-1], alpha or (rec.dt / rec.tau if rec.tau else None)
    groups, partial = groups_of(mask, n), not np.isfinite(rec.rates).all()
    response, alpha, alpha_se, verdict = Choice(_one_session(rec) if partial else rec).choose(known)
    moments = (fit_sessions if partial else fit_whole)(rec, alpha, response, groups > 0)
    weights, W_se = moments.weights, moments.se
    fitted = np.isfinite(moments.variance)
    W_se[:, ~fitted] = np.inf
    W, probability, share = np.zeros((n, n)), np.zeros((n, n)), np.nan
    if fitted.any():
        J, usable = moments.J[fitted], np.where(np.isfinite(W_se), groups, 0)[:, fitted]
        J = J + WEAKEST * np.einsum("jii->j", J)[:, None, None] / n * np.eye(n)
        posterior = sparse.sample_posterior(weights[:n, fitted], J, usable, seed)
        W[:, fitted], probability[:, fitted], share = posterior.W, posterior.probability, posterior.share
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
    n, fit = len(W), moments.fit
    rest = fit.weights[n:] - np.stack([np.linalg.solve(J[n:, n:], J[n:, :n] @ (W[:, j] - fit.weights[:n, j]))
                                       for j, J in enumerate(fit.information)], 1)  # fmt: skip
    every = np.concatenate([W, rest])
    W_in = every[n:-1] if not rec.decoded else np.zeros((rec.velocity.shape[-1], n))
    return Network(W, W_in, every[-1] - moments.centre[:-1] @ every[:-1], alpha, n)
