"""Model selection for a recording: its response function and their scale, its time constant, its mechanism.

Each candidate is a regression of phi^-1(scale * r) on its signals of the recording, and its likelihood is
one of the *rates*: the Gaussian one of the currents, with the Jacobian of phi^-1. Candidates: the response functions of
nsi/response.py, scales of the rates on a fine grid, alpha = dt / tau where the recording does not give it, and whether
velocity acts through hidden neurons' synapses, F(v u), or by multiplication at once, v u.
"""

from typing import NamedTuple

import numpy as np

from nsi import response
from nsi.estimation.signals import (
    describe_states,
    hidden_signals,
    leading_directions,
    multiplied_signals,
    settled,
    state_of,
)

MAX_TRIALS = 40
MAX_NEURONS = 8
MAX_SAMPLES = 12_000  # of all trials
RATE_RANGE = 0.2, 0.97  # of the highest rate (its 99.9th percentile), between which samples are taken
ALPHAS = 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.6, 0.8, 1.0
MIN_SCALE_SPACING = 1e-3  # relative spacing of the last scales tried
NEAR_ONE = 0.03  # a first guess so near to 1 counts as 1
SCALES = np.linspace(0.5, 0.998, 9)  # of the rates, times the highest
MIN_LEAD_SE = 3.0  # standard errors over trials by which one candidate must be better than another to be chosen over it


class Kinetics(NamedTuple):
    """Properties of the circuit, chosen by the likelihood of the recording."""

    response: response.Response
    alpha: float
    alpha_se: float
    mechanism: str  # "hidden neurons" or "multiplied connections", the likelier
    verdicts: dict  # response, mechanism: in words, "cannot tell" where the likelihoods are too close


class Likelihood:
    """Log likelihoods of a recording's rates, by trial, under candidates."""

    def __init__(self, rec, alphas=ALPHAS):
        """alphas: that may be evaluated; all of them are judged on the steps after the slowest has settled."""
        trials = slice(None, None, max(1, -(-len(rec.rates) // MAX_TRIALS)))
        rec = rec.trials(trials)
        self.rec, self.first = rec, settled(min(alphas), rec.rates.shape[1])
        self.every = max(1, round(rec.valid.sum() / MAX_SAMPLES))
        self.top = float(np.quantile(rec.rates[rec.valid], 0.999))
        measured = np.s_[:] if rec.measured is None else rec.measured
        self.highest = float(rec.rates[measured].max())
        self.by_candidate = {}

    def candidates(self):
        """Response functions and scales to try."""
        highest = self.highest
        scales = [1.0] if highest <= 1 else []  # single precision rounds the highest rates to 1
        for scale in [*scales, *(s / self.top for s in SCALES)]:
            if scale * highest < 1.05:
                yield response.Response("tanh", float(scale))
        yield response.Response("linear")
        yield response.Response("softplus", 1.0, 4 / self.top)
        yield response.Response("power", 1.0, 2.0)
        yield response.Response("power", 1.0, 0.5)

    def evaluate(self, alpha, mechanism, responses):
        """Log likelihood of each trial, kept in `by_candidate` under (alpha, mechanism, response)."""
        missing = [chosen for chosen in responses if (alpha, mechanism, chosen) not in self.by_candidate]
        if missing:
            totals = self._all(alpha, mechanism, missing)
            self.by_candidate.update({(alpha, mechanism, k): total for k, total in zip(missing, totals, strict=True)})

    def signals(self, alpha, mechanism):
        """The regressors of one description, thinned."""
        key = alpha, mechanism
        if getattr(self, "_key", None) != key:
            rec = self.rec
            u = state_of(rec.rates, alpha)
            directions = leading_directions(u, rec.valid)
            build = hidden_signals if mechanism == "hidden neurons" else multiplied_signals
            signals = build(u, rec.velocity, alpha, directions, driven=rec.driven is not None)
            direct = describe_states(u, rec.valid)[:, signals.first :]
            x = np.concatenate([direct, signals.x[..., u.shape[-1] :]], -1)
            self._key, self._signals = key, signals._replace(x=x)
            self._factors = {}
        return self._signals

    def used(self):
        """Samples (trials, steps, n) bool that all candidates share: active ones whose rate a step before was neither
        low nor near the highest. Chosen by the rate itself, noise would be cut off, as by another response."""
        late, before = (slice(first, last, self.every) for first, last in ((self.first, None), (self.first - 1, -1)))
        rates = self.rec.rates[:, before]
        used = (rates > RATE_RANGE[0] * self.top) & (rates < RATE_RANGE[1] * self.top)
        used &= (self.rec.rates[:, late] > 0) & self.rec.valid[:, late, None]
        return used if self.rec.measured is None else used & self.rec.measured[:, self.first :: self.every]

    def _all(self, alpha, mechanism, responses):
        signals = self.signals(alpha, mechanism)
        first, every = self.first, self.every
        x, used, r = signals.x[:, first - signals.first :: every], self.used(), self.rec.rates[:, first::every]
        known = None if self.rec.stimulus is None else self.rec.stimulus[:, first::every]
        trials, q = len(x), x.shape[-1]
        enough = np.flatnonzero(used.sum((0, 1)) >= 2 * q)
        total = np.zeros((len(responses), trials))
        chosen_neurons = enough[:: max(1, len(enough) // MAX_NEURONS)]
        self.samples = int(used[..., chosen_neurons].sum())  # of each candidate
        for j in chosen_neurons:
            at = used[..., j]
            trial, rates = np.nonzero(at)[0], r[..., j][at].astype(np.float64)
            if j not in self._factors:
                X = x[at].astype(np.float64)
                G = X.T @ X
                G[np.diag_indices(q)] += 1e-8 * np.trace(G) / q
                self._factors[j] = X, np.linalg.inv(G)
            X, inverse = self._factors[j]
            y = np.stack([chosen.current(chosen.scale * rates) for chosen in responses], -1)
            if known is not None:
                y -= known[..., j][at][:, None]
            left = y - X @ (inverse @ (X.T @ y))
            variance = np.maximum((left**2).mean(0), 1e-14)
            each = -0.5 * left**2 / variance - 0.5 * np.log(variance)
            for k, chosen in enumerate(responses):
                total[k] += np.bincount(trial, each[:, k] + chosen.log_jacobian(chosen.scale * rates), trials)
        return total

    def best(self, **fixed):
        """The likeliest candidate whose alpha, mechanism or response name is as given, and its trials' likelihoods."""
        agree = lambda a, m, r: all({"alpha": a, "mechanism": m, "response": r.name}[k] == v for k, v in fixed.items())
        some = {k: v for k, v in self.by_candidate.items() if agree(*k)}
        key = max(some, key=lambda k: some[k].sum())
        return key, some[key]


def surely_better(a, b):
    """Whether log likelihoods by trial a are larger than b by MIN_LEAD_SE standard errors."""
    difference = a - b
    if len(difference) < 3:
        return False
    return difference.mean() > MIN_LEAD_SE * difference.std(ddof=1) / np.sqrt(len(difference))


MECHANISMS = "hidden neurons", "multiplied connections"


def choose_kinetics(rec, alpha=None):
    """Choose response function, scale, alpha and mechanism. alpha: dt / tau where it is known, else one of ALPHAS is
    chosen (`refine_alpha` goes on from there). Returns: Kinetics."""
    alphas = ALPHAS if alpha is None else (alpha,)
    likelihood = Likelihood(rec, alphas)
    candidates = list(likelihood.candidates())
    for a in alphas:
        for mechanism in MECHANISMS:
            likelihood.evaluate(a, mechanism, candidates)
            _finest_scale(likelihood, a, mechanism)
    (a, mechanism, chosen), trials = likelihood.best()
    if chosen.name == "tanh" and _one_will_do(likelihood, a, mechanism, trials):
        chosen = chosen._replace(scale=1.0)
    others = {name: likelihood.best(response=name)[1] for name in {key.name for _, _, key in likelihood.by_candidate}}
    rivals = [name for name, other in others.items() if name != chosen.name and not surely_better(trials, other)]
    other = next(m for m in MECHANISMS if m != mechanism)
    clear = surely_better(trials, likelihood.best(mechanism=other)[1])
    verdicts = {
        "response": "cannot tell" if rivals else str(chosen),
        "mechanism": mechanism if clear else "cannot tell",
    }
    return Kinetics(chosen, a, 0.0 if alpha else np.nan, mechanism, verdicts)


def _finest_scale(likelihood, alpha, mechanism):
    """Evaluate finer and finer scales about the best one so far, where there is any: an outlier leaves none."""
    if not any(key[2].name == "tanh" for key in likelihood.by_candidate):
        return
    (_, _, chosen), _ = likelihood.best(alpha=alpha, mechanism=mechanism, response="tanh")
    width, best, highest = (SCALES[1] - SCALES[0]) / likelihood.top, chosen.scale, likelihood.highest
    tried = lambda scale: chosen._replace(scale=float(scale))
    while width > MIN_SCALE_SPACING * best:
        width /= 2
        near = [s for s in (best - width, best + width) if s * highest < 1.05]
        likelihood.evaluate(alpha, mechanism, [tried(s) for s in near])
        best = max([best, *near], key=lambda s: likelihood.by_candidate[alpha, mechanism, tried(s)].sum())


def _one_will_do(likelihood, alpha, mechanism, trials):
    """Whether a scale of 1 is not surely worse than the likeliest, or near to it."""
    one = (alpha, mechanism, response.TANH)
    (_, _, chosen), _ = likelihood.best(alpha=alpha, mechanism=mechanism, response="tanh")
    near = abs(chosen.scale - 1) < NEAR_ONE
    return one in likelihood.by_candidate and (near or not surely_better(trials, likelihood.by_candidate[one]))


def parabola(by_alpha, alpha, spacing):
    """The alpha at the top of the parabola through log likelihoods by trial, and its standard error: the sandwich over
    trials, and the spacing. by_alpha: {alpha: (trials,)}. Returns: alpha, standard error."""
    low, high = (min(by_alpha, key=lambda a: abs(a - alpha - step)) for step in (-spacing, spacing))
    if low == alpha or high == alpha:  # at a bound
        inner = by_alpha[low if high == alpha else high] - by_alpha[alpha]
        return alpha, spacing * min(1.0, 1 / max(np.sqrt(2 * -inner.sum()), 1e-9))
    slope = (by_alpha[high] - by_alpha[low]) / (high - low)
    curvature = -(by_alpha[high] - 2 * by_alpha[alpha] + by_alpha[low]).sum() / spacing**2
    if curvature <= 0:
        return alpha, spacing
    moved = float(np.clip(alpha + slope.sum() / curvature, low, high))
    sampling = np.sqrt(len(slope)) * slope.std() / curvature
    return moved, float(np.hypot(sampling, spacing))  # what the signals get wrong moves the top by more than sampling
