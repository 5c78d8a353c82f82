"""The estimate from observations with noise of their own: rates with measurement noise, or counts of spikes.

The recording is smoothed (smoothing.py), and the states u are those of the smoothed rates: their error is what the
smoothing left out, hence uncorrelated with them (Berkson 1950), so that it does not bias a regression on them. The
observations y, not the smoothed rates, are what is explained. With m and V the mean and variance of an observation,
linearised at the smoothed current x,

    y = m(phi(x)) + m' phi'(x) (X w - x) + noise,      weight (m' phi')^2 / V

so that each neuron's regression is a weighted one of x + (y - m) / (m' phi'). States and weights are estimated in turn,
at most ALTERNATIONS times: the weights predict currents, whose rates make the next states.
"""

import os
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from nsi import geometry as shapes
from nsi import recordings, response
from nsi.errors import BadInput
from nsi.estimation import estimator, missing, regression
from nsi.estimation.copies import Currents, Setting, fit_copies
from nsi.estimation.estimator import ALPHA_TRIALS, COARSE_ALPHAS, assemble, find_places, read_certainty
from nsi.estimation.fitting import (
    Fit,
    check_memory,
    compare_residuals,
    projected_samples,
    second_moment_with_ridge,
)
from nsi.estimation.gate import gate_test
from nsi.estimation.indicator import deconvolve, find_decay
from nsi.estimation.intervals import Simulated, calibrate
from nsi.estimation.kinetics import MECHANISMS, Kinetics, parabola, surely_better
from nsi.estimation.signals import LEADING, hidden_signals, leading_directions, multiplied_signals, settled, state_of
from nsi.estimation.smoothing import (
    Noise,
    Smoothed,
    UntunedError,
    blur,
    drives,
    guess_phase,
    smooth,
    smoothed_rate,
    track,
)
from nsi.network import PUBLISHED_ALPHA
from nsi.recordings.turning import first_component, measure_turning
from nsi.sums import correlation

MIN_NOISE, MIN_SILENT = 0.04, 0.1  # s.d. relative to the highest rates; that of silent neurons relative to it
CLIPPED_ZEROS = 0.2  # share of exact zeros from which on noise was cut off at 0
WHITE_DIFFERENCES = -0.6  # largest autocorrelation at lag 1 of these differences, -2/3 for white noise
WHITE = 0.1  # largest autocorrelation at lag 1 of what is measurement noise
LOWEST_CURRENT, HIGHEST_CURRENT = 0.06, 1.8  # of samples; above the second the copies are not fitted
HIGHEST_SILENT = -0.05  # smoothed current below which a neuron surely is silent
ALTERNATIONS, COPY_ROUNDS = 8, (0, 2)  # of weights given the states, and in which copies are fitted
TEMPERATURES = 64.0, 16.0, 4.0  # of the likelihood in the first of them, so that fine profiles come last
SETTLED = 0.998  # correlation of the last two estimates, above which they have converged
CONVERGED = 0.98  # the same, below which no estimate is given
MAX_SAMPLES, MAX_HOT_SAMPLES = 60_000, 20_000  # means over blocks of steps, of all trials; at the higher temperatures
FLUORESCENCE_BLOCK, MIN_BLOCKS = 0.1, 2000  # s, of steps whose noise cancels; means that are left, at least
PHASE_BINS = {1: 40, 2: 10}  # of each phase, by their number
MAX_UNEVENNESS = 0.15  # s.d. of neurons' numbers of spikes over their mean: one scale of the counts is taken for all
PEAK_RATE = 0.97  # that the mean counts at the top of the tuning curve are taken for: near saturation
TRIAL_PROCESS_NOISE = 0.02  # s.d. of the currents in a first simulation, from whose diffusion it is scaled
TURNS = 0.5  # share of the turns' variance that the velocity explains, from which on their lag counts
# products here are small: beside other work more threads take many times as long, waiting for each other
THREADS = None if {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"} & os.environ.keys() else 1
MISFIT = 1.25  # mean square of weighted residuals above which the description does not fit


class Observations(NamedTuple):
    """A recording, what was observed of its rates, and the smoothed rates."""

    rec: recordings.Recording
    values: np.ndarray  # (trials, steps, n)
    smoothed: Smoothed
    noise: Noise

    def trials(self, some):
        """The same of some trials. some: slice or index array."""
        s = self.smoothed
        s = s._replace(current=s.current[some], rates=s.rates[some], phase=s.phase[some])
        return self._replace(rec=self.rec.trials(some), values=self.values[some], smoothed=s)


class Observed(Fit):
    """One noisy recording's regression. `rec` has the smoothed rates."""

    scales = None  # no pilot finds any

    def __init__(self, observations, kinetics, geometry, places, copies="fit", samples=None):
        """observations: Observations; copies: Copies, None for none, or "fit"; samples: means over blocks to
        use, of all trials (default: MAX_SAMPLES); the rest as `Fit`."""
        rec, observed, smoothed, noise = observations
        alpha, v = kinetics.alpha, rec.velocity
        self.rec, self.kinetics = replace(rec, rates=smoothed.rates), kinetics
        self.geometry, self.places = geometry, places
        u, x = state_of(smoothed.rates, alpha), smoothed.current
        first = settled(alpha, u.shape[1])
        usable = (x > LOWEST_CURRENT) & rec.valid[..., None]
        usable[:, :first] = False
        self.directions, self.copies = leading_directions(u, rec.valid, LEADING), None
        if kinetics.mechanism == "hidden neurons":
            used = usable & (x < HIGHEST_CURRENT)
            if copies == "fit":
                copies = fit_copies(Currents(x, used, u, v), Setting(alpha, geometry, places))
            self.copies, rates = copies, copies.rates(u, v, geometry, places, alpha) if copies else ()
            signals = hidden_signals(u, v, alpha, self.directions, rates)
        else:
            signals = multiplied_signals(u, v, alpha, self.directions)
        self.blocks, self.q, self.first, self.predictors = signals.blocks, signals.x.shape[-1], first, signals.x
        steps = int(rec.valid.sum())
        block = max(1, round(steps / (samples or MAX_SAMPLES)))
        if noise.g:
            block = max(block, min(round(FLUORESCENCE_BLOCK / rec.dt), steps // MIN_BLOCKS))
        block = min(block, max(1, (u.shape[1] - first) // 2))  # of short trials at least one is left
        self.start, end = -(-first // block), u.shape[1] // block  # blocks
        late, trials = slice(self.start * block, end * block), len(u)
        in_blocks = lambda a: a.reshape(trials, -1, block, a.shape[-1])
        flat = lambda a: np.ascontiguousarray(a.reshape(-1, a.shape[-1]), np.float32)
        x, r, y, usable = (in_blocks(a[:, late]) for a in (x, smoothed.rates, observed, usable))
        slope = np.maximum(response.slope(r) * noise.slope(r), np.float32(1e-6))
        used, target = usable.all(2), x + (y - noise.mean(r)) / slope
        variance = mean_noise(np.sqrt(noise.variance(r)) / slope / np.float32(np.hypot(1, noise.g)), noise.g)
        weight = flat(np.where(used, 1 / variance, 0.0))
        target = flat(np.where(used, target.mean(2), 0.0))
        predictors = flat(in_blocks(signals.x[:, late.start - first : late.stop - first]).mean(2))
        starts = regression.cluster_starts(trials, end - self.start, cuts=max(1, -(-regression.MIN_CLUSTERS // trials)))
        used = weight > 0
        self.pieces = [regression.Samples(predictors, used, target, starts, weight)]
        self.order = np.arange(used.shape[1])
        self.maps = self._maps()

    @cached_property
    def _projection(self):
        x = self.predictors[projected_samples(self.rec.valid, self.first)[:, self.first :]]
        return x, second_moment_with_ridge(x[:, : len(self.order)])

    def predict_states(self, weights, smoothed):
        """The currents and rates that the estimate predicts from the states so far, in the place of the smoothed ones.
        Silent neurons keep theirs: their currents do not show. weights: (q, n). Returns: Smoothed."""
        x, first = smoothed.current.copy(), self.first
        predicted = self.predictors @ weights.astype(np.float32)
        x[:, first:] = np.where(x[:, first:] > HIGHEST_SILENT, predicted, x[:, first:])
        rates = smoothed_rate(x).astype(np.float32)
        rates[~self.rec.valid] = 0
        return smoothed._replace(current=x, rates=rates)

    def residuals(self):
        """Weighted residuals under the unbiased weights, as `Pilot.residuals`."""
        (samples,) = self.pieces
        weights = np.nan_to_num(regression.solve(self.sums)[0])
        shape, used = (len(self.rec.rates), -1, weights.shape[1]), samples.used & weights.any(0)
        e = samples.residuals(weights) * np.sqrt(samples.weight) * used
        return e.reshape(shape), used.reshape(shape), self.start


def mean_noise(s, g):
    """Variance of the mean over t of s_t (e_t - g e_t-1), e white. s: (..., t, n) float32. Returns: (..., n)."""
    variance = s[..., -1, :] ** 2 + (g * s[..., 0, :]) ** 2
    variance += ((s[..., :-1, :] - np.float32(g) * s[..., 1:, :]) ** 2).sum(-2)
    return variance / s.shape[-2] ** 2


def find_noise(rec):
    """The measurement noise of a recording, or None where there is none to speak of.

    A sample less the mean of its two neighbours has 1.5 times the noise's variance, in silent neurons (of which exact
    rates are 0) as in the most active ones (whose rates are saturated). Returns: Noise or None."""
    if rec.spikes is not None:
        return Noise("poisson", scale=0.0)
    y = rec.rates
    if y.shape[1] < 3:
        return None
    thin = slice(None, None, max(1, int(rec.valid.sum()) // 20_000))  # trials
    y, valid = y[thin], np.broadcast_to(rec.valid[thin][..., None], y[thin].shape)
    valid = valid if rec.measured is None else valid & rec.measured[thin]
    around = (y[:, :-2] + y[:, 2:]) / 2
    apart = y[:, 1:-1] - around
    valid = valid[:, :-2] & valid[:, 1:-1] & valid[:, 2:]
    if not valid.any():
        return None
    low, high, top = *np.quantile(around[valid], [0.3, 0.95]), np.quantile(y, 0.99)
    at = valid & (around >= high)
    active = 1.4826 * np.median(np.abs(apart[at])) / np.sqrt(1.5)
    silent = np.median(np.abs(apart[valid & (around <= low)])) / np.sqrt(1.5)
    if active < MIN_NOISE * top or silent < MIN_SILENT * active:
        return None
    both, square = valid[:, 1:] & valid[:, :-1], np.square(apart[valid]).mean()
    if (apart[:, 1:] * apart[:, :-1])[both].mean() > WHITE_DIFFERENCES * square:
        return None
    clipped = y.min() == 0 and np.mean(y == 0) > CLIPPED_ZEROS
    return Noise("clipped" if clipped else "gaussian", sd=float(active))


def count_tuning(rec, geometry, places, phase=None):
    """Mean counts of a step at the top of the tuning curve that all neurons share, and the s.d. over neurons of their
    numbers of spikes relative to what this curve expects. phase: (trials, steps, D) rad of the bump; by default a first
    guess for each neuron by all others: its own spikes would pull it to its place, and the top would be too high."""
    counts, many = rec.spikes[rec.valid], PHASE_BINS[geometry.dimensions]
    waves = np.exp(1j * places @ geometry.PLANE @ geometry.ALL.T).astype(np.complex64)
    z, bins = blur(rec.spikes @ waves, rec.dt), np.empty(counts.shape, int)
    by_others = lambda j: geometry.phase(z - blur(rec.spikes[..., [j]], rec.dt) * waves[j])
    for j, place in enumerate(places):
        apart = (by_others(j) if phase is None else phase)[rec.valid] - place
        index = (apart % (2 * np.pi) * (many / (2 * np.pi))).astype(int) % many
        bins[:, j] = index @ many ** np.arange(len(place))
    size = many ** places.shape[1]
    total = np.bincount(bins.ravel(), counts.ravel(), size)
    curve = total / np.maximum(np.bincount(bins.ravel(), minlength=size), 1)
    relative = counts.sum(0, dtype=np.float64) / np.maximum(curve[bins].sum(0), 1e-9)
    return float(curve.max()), float(relative.std())


class Smoother:
    """Smooths a recording, and recordings simulated from its estimate, in the same way."""

    def __init__(self, rec, alpha, geometry, places, noise):
        self.rec, self.alpha, self.geometry, self.places = rec, alpha, geometry, places
        self.noise, self.unevenness = noise, 0.0
        if rec.spikes is not None:
            self.noise = noise._replace(scale=count_tuning(rec, geometry, places)[0] / PEAK_RATE)
            self.observed = rec.spikes / np.float32(self.noise.scale)
            self.smoothed = self(self.observed)
            self.unevenness = count_tuning(rec, geometry, places, self.smoothed.phase)[1]
            return
        self.observed = rec.rates
        self.smoothed = self(self.observed)
        self.noise = noise._replace(sd=self._left(self.observed))

    def __call__(self, observed):
        return smooth(observed, self.rec, self.geometry, self.places, self.alpha, self.noise)

    def _left(self, observed):
        """S.d. of what smoothing leaves of samples that noise did not cut off."""
        left, rates = (a[self.rec.valid] for a in (observed - self.smoothed.rates, self.smoothed.rates))
        return float(np.std(left[rates > 3 * self.noise.sd] if self.noise.kind == "clipped" else left))

    def autocorrelation(self):
        """Of what smoothing leaves, at lag 1: that of measurement noise is 0."""
        e = np.where(self.rec.valid[..., None], self.observed - self.noise.mean(self.smoothed.rates), 0.0)
        return float((e[:, 1:] * e[:, :-1]).sum() / max((e**2).sum(), 1e-30))

    def observations(self):
        """Observations of the recording itself."""
        return Observations(self.rec, self.observed, self.smoothed, self.noise)

    def alternate(self, observations, kinetics, geometry, copies="fit"):
        """States and weights in turn: weights given the smoothed states, states as the weights predict them from the
        states before, until W settles. Copies, which take the most time, are fitted in COPY_ROUNDS, unless given.
        Returns: Observed, regression.LeastSquares, prior.Posterior, of the last states, and how far the last two
        estimates agree."""
        before, first_copies = None, copies
        for k in range(ALTERNATIONS):
            copies = "fit" if k in COPY_ROUNDS and first_copies == "fit" else copies
            hot = k < len(TEMPERATURES)
            samples = MAX_HOT_SAMPLES if hot else MAX_SAMPLES
            fit = Observed(observations, kinetics, geometry, self.places, copies, samples)
            plain, best = fit.estimates(temperature=TEMPERATURES[k] if hot else 1.0)
            copies, found = fit.copies, [L @ best.weights for L in fit.maps]
            agreement = 0.0 if before is None else agree(before, found)
            if agreement > SETTLED and not hot:
                break
            predicted = fit.predict_states(best.weights, observations.smoothed)
            observations, before = observations._replace(smoothed=predicted), found
        return fit, plain, best, agreement


def agree(before, after):
    """The lowest correlation of two estimates of W, of the total or of the gate, of those that are not 0; NaN where
    all are. before, after: list of (n, n)."""
    each = [correlation(a, b) for a, b in zip(before, after, strict=True)]
    return min((r for r in each if np.isfinite(r)), default=np.nan)


def choose(smoother, alpha_given, geometry):
    """Mechanism, and alpha where it is not given, by the likelihood of the observations on some trials, without
    copies. Returns: Kinetics."""
    some = slice(None, None, max(1, len(smoother.rec.rates) // ALPHA_TRIALS))
    kinetics = Kinetics(response.TANH, alpha_given or PUBLISHED_ALPHA, 0.0, MECHANISMS[0], {"response": "cannot tell"})
    fits, columns = {}, {}
    for a in COARSE_ALPHAS if alpha_given is None else (alpha_given,):
        for mechanism in MECHANISMS:
            candidate = kinetics._replace(alpha=a, mechanism=mechanism)
            fit = Observed(smoother.observations().trials(some), candidate, geometry, smoother.places, None)
            fits[a, mechanism], columns[a, mechanism] = fit.residuals(), fit.q * len(fit.order)
    likelihoods = compare_residuals(fits)
    for key, each in likelihoods.items():  # a useless column raises the log likelihood by a half
        each -= (columns[key] - min(columns.values())) / 2 / len(each)
    on_others = lambda key: likelihoods[key].sum() - columns[key] / 2  # and lowers that of other trials by as much
    a, mechanism = max(likelihoods, key=on_others)
    other = max((key for key in likelihoods if key[1] != mechanism), key=on_others)
    clear = surely_better(likelihoods[a, mechanism], likelihoods[other])
    se = 0.0
    if alpha_given is None:
        a, se = parabola({k: v for (k, m), v in likelihoods.items() if m == mechanism}, a, a / 2)
    verdicts = kinetics.verdicts | {"mechanism": mechanism if clear else "cannot tell"}
    return kinetics._replace(alpha=a, alpha_se=se, mechanism=mechanism, verdicts=verdicts)


@threadpool_limits.wrap(limits=THREADS)
def estimate(rec, alpha=None, geometry=None, calibrated=True, seed=0, mask=None, orders=False):
    """Estimate the connections that made a recording. Measurement noise with a stimulus, or where neurons are driven
    or missing, is not described: then nothing is claimed.

    rec: Recording; alpha: dt / tau (default: the recording's, else estimated); geometry: of nsi.geometry (default:
    found from the activity); calibrated: widen intervals by what a recording simulated from the estimate needs, which
    takes as long as the estimate; seed: of that simulation and of the gate's test; mask: (N, N) bool, which connections
    are possible, or how many anatomy counts, used where no geometry is found (exchangeable.py); orders: read the orders
    of effective connectivity as well. Returns: estimator.Estimate.

    Raises: BadInput where there is a mask, and a geometry.
    """
    as_recorded, rec = rec, shapes.fill_missing(deconvolved(rec))
    if geometry is None and shapes.lacks_geometry(rec):
        return estimator.estimate_exchangeable(as_recorded, alpha, mask, seed)
    check_memory(rec)
    if mask is not None:
        raise BadInput(
            "mask is given, and the activity has a ring's or a torus' geometry; expected none: leave mask out"
        )
    geometry = shapes.of(rec) if geometry is None else geometry
    alpha_given, decay = alpha or (rec.dt / rec.tau if rec.tau else None), None
    lag = 0.0 if rec.decay else measure_lag(rec, geometry)
    late = lag > _synapse(alpha_given or 1.0, rec) and geometry.dimensions == 1
    if late and rec.spikes is None and rec.measured is None:
        decay = find_decay(rec, find_places(rec, geometry))
    if decay is not None:
        rec = deconvolved(replace(rec, decay=decay.value))
    found = estimate_rates(rec, alpha, geometry, calibrated, seed, orders)
    if decay is not None:
        found.decay, found.decay_se = decay
    elif lag > _synapse(found.alpha, rec):
        found.turning_lag = lag
        _withdraw(found)
    return found


def deconvolved(rec):
    """The rates of a recording of fluorescence; or the recording as it is. Returns: Recording."""
    return replace(rec, rates=deconvolve(rec.rates, np.exp(-rec.dt / rec.decay))) if rec.decay else rec


def _synapse(alpha, rec):
    """The delay of a synapse and a step, s: later than by that, activity turns in no mechanism of the estimate."""
    return (1 / alpha + 1) * rec.dt


def measure_lag(rec, geometry):
    """By how much the activity turns later than the velocity, s; 0 where the velocity hardly turns it."""
    if rec.driven is not None:
        return 0.0
    some = rec.trials(slice(None, None, max(1, len(rec.rates) // ALPHA_TRIALS)))
    turning = first_component(measure_turning(replace(some, heading=None), geometry, find_places(rec, geometry)))
    return turning["lag"] if turning["r"] is not None and turning["r"] ** 2 > TURNS else 0.0


def estimate_rates(rec, alpha, geometry, calibrated=True, seed=0, orders=False):
    """The estimate of rates, deconvolved where they were fluorescence, in a circuit with a geometry. Arguments and
    Returns: as `estimate`."""
    noise, known = find_noise(rec), (rec.stimulus, rec.driven, rec.measured)
    clean = estimator.estimate_clean if rec.measured is None else missing.estimate
    if noise is not None and any(a is not None for a in known):
        return withdraw_for_noise(clean(rec, alpha, geometry, False, seed), rec, noise)
    found = None
    if noise is not None:
        g = np.exp(-rec.dt / rec.decay) if rec.decay else 0.0
        alpha_given = alpha or (rec.dt / rec.tau if rec.tau else None)
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                found = estimate_observed(rec, noise._replace(g=g), alpha_given, geometry, calibrated, seed)
        except UntunedError:
            return withdraw_for_noise(clean(rec, alpha, geometry, False, seed), rec, noise)
    return clean(rec, alpha, geometry, calibrated, seed, orders) if found is None else found


def withdraw_for_noise(found, rec, noise):
    """Withdraw the intervals of an estimate that does not describe the noise, in place. noise: Noise. Returns:
    Estimate."""
    high = None if noise.sd else rec.spikes[rec.rates >= np.quantile(rec.rates[rec.valid], 0.95)].mean()
    found.measurement_noise = noise.sd or float(np.sqrt(PEAK_RATE / high))
    _withdraw(found)
    return found


def _withdraw(found):
    """Claim nothing of single weights, in place."""
    found.withdraw_intervals("cannot tell")
    found.identifiable, found.resolved = (np.zeros_like(a) for a in (found.identifiable, found.resolved))


def estimate_observed(rec, noise, alpha_given, geometry, calibrated=True, seed=0):
    """Estimate from noisy observations. noise: Noise, a first guess; alpha_given: or None; the rest as `estimate`.
    Returns: Estimate, or None where what smoothing leaves is no measurement noise."""
    places = find_places(rec, geometry)
    smoother = Smoother(rec, alpha_given or PUBLISHED_ALPHA, geometry, places, noise)
    if smoother.autocorrelation() > WHITE:
        return None
    kinetics = choose(smoother, alpha_given, geometry)
    fit, plain, best, agreement = smoother.alternate(smoother.observations(), kinetics, geometry)
    found = assemble(fit, plain, best, alpha_given is not None)
    found.measurement_noise = float(smoother.noise.measured_sd)
    cleaned = replace(rec, rates=smoother.smoothed.rates)
    found.verdicts["gate"], found.gate_p = gate_test(cleaned, kinetics.alpha, kinetics.response, seed)
    dispersion = float(np.nanmedian(plain.variance)) if np.isfinite(plain.variance).any() else np.inf
    if calibrated and np.isfinite(plain.variance).any():
        found.calibrate(_calibrate(fit, smoother, best, seed))
    fits = dispersion < MISFIT and all(np.isfinite(f) for f in found.calibration.get("factors", {}).values())
    comparable = smoother.unevenness <= MAX_UNEVENNESS and (alpha_given is not None or not smoother.noise.g)
    if not fits:
        found.withdraw_intervals("does not fit")
    elif not (comparable and agreement > CONVERGED):  # NaN where nothing is estimated
        found.withdraw_intervals("cannot tell")
    else:
        found.verdicts["description"] = "fits"
    found.identifiable, found.resolved = read_certainty(found.W, found.W_unbiased, found.W_se, geometry, places)
    return found


def _calibrate(fit, smoother, best, seed):
    """`intervals.calibrate` with recordings that are observed and smoothed as this one was."""
    n, rng = len(fit.places), np.random.default_rng(seed + 1)

    def refit(simulated):
        observed = smoother.noise.draw(np.clip(simulated.rates, 0, None), rng)
        again = smoother.observations()._replace(values=observed, smoothed=smoother(observed))
        return smoother.alternate(again, fit.kinetics, fit.geometry, fit.copies)[0]

    variance = np.full(n, process_noise(fit, best, smoother, seed) ** 2)
    calibration = calibrate(fit, refit, best, variance, seed)
    # the simulated recording knows of no misfit of the smoothing: it only ever widens intervals
    return calibration | {"factors": {k: max(1.0, f) for k, f in calibration["factors"].items()}}


def process_noise(fit, best, smoother, seed):
    """S.d. of the currents' noise under which a bump simulated from the fit diffuses as the recorded one does."""
    some = slice(None, None, max(1, len(smoother.rec.rates) // ALPHA_TRIALS))
    rec = fit.rec
    fit.rec = rec.trials(some)
    with np.errstate(all="ignore"):
        rates = Simulated(fit, best.weights, TRIAL_PROCESS_NOISE, seed).recording.rates
    fit.rec = rec
    if not np.isfinite(rates).all():
        return TRIAL_PROCESS_NOISE
    part = smoother.rec.trials(some)
    geometry, places = smoother.geometry, smoother.places @ smoother.geometry.PLANE
    phase = guess_phase(rates @ np.exp(1j * places @ geometry.ALL.T), geometry)
    exact, error = lambda theta, t: phase[:, t] - theta, 1e-6 * np.eye(phase.shape[-1])
    error = np.broadcast_to(error, (*part.valid.shape, *error.shape))
    diffusion = track(phase, exact, error, drives(part.velocity, smoother.alpha), part)[1]
    return TRIAL_PROCESS_NOISE * float(np.clip(np.sqrt(smoother.smoothed.diffusion / diffusion), 0.1, 3.0))
