"""The regression of one recording: from its kinetics to the weights on all known signals.

A pilot, the same regression on some of the trials, finds what the whole needs: the copies, whether products of the
velocity matter, the scale of the rates, and the weights by which samples are chosen and innovations predicted. Given
these each trial stands for itself, so that sums are taken a few trials at a time and memory does not grow with them.
"""

import os
from dataclasses import replace
from functools import cached_property

import numpy as np
from scipy.linalg import cho_solve
from scipy.optimize import minimize_scalar

from nsi.errors import BadInput
from nsi.estimation import regression
from nsi.estimation.copies import Currents, Setting, fit_copies
from nsi.estimation.kinetics import NEAR_ONE, surely_better
from nsi.estimation.prior import ROUNDS, Evidence, Model
from nsi.estimation.signals import (
    LEADING,
    MAX_DIRECT,
    Block,
    hidden_signals,
    leading_directions,
    leading_eigenvectors,
    multiplied_signals,
    second_moment,
    settled,
    state_of,
)
from nsi.response import slope as slope_of

NOISE_SD_ABOVE = 5.0  # predicted currents must be so many s.d. of the noise above the threshold for a sample to count
PILOT_TRIALS, PILOT_SAMPLES = 30, 30_000  # of a pilot, at least where the recording has so many
FIRST_STRIDE = 2  # steps, of which the first fit takes one
FIRST_RATES = 0.15, 0.96  # scaled rates that the first fit takes
SCALE_NEURONS = 8  # that the scale is chosen on
PILOT_NEURONS = 24  # of which it is measured what innovations predict, and whether gates are identifiable
SCALE_STRIDE = 3  # steps, of which one is used for it
SAME_SCALE = 1e-3  # relative difference of scales below which no further pilot is needed
RESCALINGS = 2  # further pilots with another scale, at most
MAX_STEPS = 2000  # of a trial; longer ones are cut
PIECE_SAMPLES = 16_000  # of which signals are made at a time
CACHE_BYTES = 1.2e8  # of signals that are kept rather than made anew
SUMS_BYTES, MIN_NEURONS = 3e8, 32  # of X' X: of as many neurons the scales of the prior are found
GROUP_BYTES, MIN_GROUP = 1e8, 8  # of X' X, of more neurons: so many at a time
PROFILE_BYTES = 8 * 61  # of the terms of profiles, for each pair of neurons
PROJECTION_SAMPLES = 30_000
PROJECTION_RIDGE = 1e-2  # of the leading eigenvalue: directions that states hardly span get no path and no gate


def check_memory(rec):
    """Refuse a recording whose estimate needs more memory than this machine has, before it is begun. Raises:
    BadInput."""
    samples, neurons = rec.valid.sum(), rec.rates.shape[-1]
    needed, installed = needed_bytes(samples, neurons), installed_bytes()
    if needed > installed:
        raise BadInput(
            f"rates has {neurons} neurons and {samples} samples, whose estimate needs about {needed / 1e9:.1f} GB of "
            f"memory, and this machine has {installed / 1e9:.1f}; expected fewer neurons, or a machine with more"
        )


def installed_bytes():
    """Memory of this machine; infinite where the system does not say, as Windows."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return np.inf


def needed_bytes(samples, neurons):
    """Memory that an estimate needs, roughly: the recording and the imports, a pilot's signals and what is predicted of
    them, sums of products, and the terms of profiles."""
    q, pilot = neurons + 100, min(samples, PILOT_SAMPLES)
    sums = min(neurons * 8 * q**2, max(SUMS_BYTES, MIN_NEURONS * 8 * q**2)) + 3 * max(GROUP_BYTES, MIN_GROUP * 8 * q**2)
    return 2e8 + 8 * samples * neurons + pilot * (40 * neurons + 12 * q) + sums + PROFILE_BYTES * neurons**2


def shorten(rec):
    """The same recording with trials of more than MAX_STEPS steps cut into shorter ones of equal length."""
    trials, steps = rec.rates.shape[:2]
    count = -(-steps // MAX_STEPS)
    if count == 1:
        return rec
    size = -(-steps // count)

    def cut(name, a):
        if a is None or name == "animal":
            return a if a is None else np.repeat(a, count, 0)
        if name == "lengths":
            return (a[:, None] - np.arange(count) * size).clip(0, size).ravel()
        padded = np.pad(a, [(0, 0), (0, count * size - steps)] + [(0, 0)] * (a.ndim - 2))
        return padded.reshape(trials * count, size, *a.shape[2:])

    lengths = np.full(trials, steps) if rec.lengths is None else rec.lengths
    parts = {name: cut(name, a) for name, a in (rec.arrays() | {"lengths": lengths}).items()}
    some = parts["lengths"] > size // 4
    return replace(rec, **{name: a if a is None else a[some] for name, a in parts.items()})


def prepare(rec, kinetics):
    """Scaled rates, state, currents and stimulus of a recording under its kinetics.

    Returns: rates, u, currents, known, usable, each (trials, steps, n)."""
    chosen = kinetics.response
    rates = rec.rates if chosen.scale == 1 else np.float32(chosen.scale) * rec.rates
    known = np.zeros_like(rates) if rec.stimulus is None else rec.stimulus
    varies = ((rates != rates[0, 0]) & rec.valid[..., None]).any((0, 1))  # one that does not shows nothing
    usable = chosen.usable(rates) & rec.valid[..., None] & varies
    if rec.measured is not None:
        usable &= rec.measured
    return rates, state_of(rates, kinetics.alpha), chosen.current(rates).astype(np.float32), known, usable


class Pilot:
    """What some trials say of a recording's description."""

    scales = None  # of the prior, near the likeliest

    def __init__(self, rec, kinetics, geometry, places, original=None, refit=True, coupled=False):
        """rec: Recording; kinetics: kinetics.Kinetics; geometry: of nsi.geometry; places: (N, D) rad; original: another
        Pilot, as of what `rec` was simulated from: it takes that one's blocks; refit: whether its own copies are
        fitted, from that one's, or it takes these too; coupled: whether copies may excite each other."""
        trials, steps = rec.rates.shape[:2]
        count = min(trials, max(PILOT_TRIALS, -(-PILOT_SAMPLES // steps)))
        self.rec = rec = rec.trials(np.linspace(0, trials - 1, count).round().astype(int))
        self.kinetics, self.geometry, self.places = kinetics, geometry, places
        rates, u, currents, known, usable = prepare(rec, kinetics)
        self.first = first = settled(kinetics.alpha, steps)
        count = original.directions.shape[1] if isinstance(original, Pilot) else LEADING
        self.directions, self.copies, self.has_products = leading_directions(u, rec.valid, count), None, False
        if not refit:
            self.copies, self.has_products = original.copies, original.has_products
        late, v = [a[:, first:] for a in (currents, known, usable)], rec.velocity
        if not self.has_hidden and not isinstance(original, Pilot):
            self._choose_directions(u, late, rates[:, first:])
        if self.has_hidden and refit and self._is_like(original):
            signals, self.samples = original.choose_samples(original.describe(u, v), late)
        else:
            signals, self.samples = self._learn(self.describe(u, v), late, rates[:, first:])
        if self.has_hidden and refit:
            noise, used = np.zeros((*u.shape[:2], len(self.directions.T)), np.float32), np.zeros_like(usable)
            noise[:, first:] = signals.x[..., signals.blocks[-1].columns]
            used[:, first:] = self.samples.used.reshape(used[:, first:].shape)
            setting = Setting(kinetics.alpha, geometry, places, None if rec.driven is None else ~rec.driven)
            near = None if original is None else original.copies
            self.copies = fit_copies(Currents(currents - known, used, u, v, noise), setting, near, coupled)
            if original is None:
                self.has_products, signals, start = self._needs_products(u, late, rates[:, first:])
            else:
                self.has_products, start = original.has_products, None
                signals = self.describe(u, v)
            signals, self.samples = self._learn(signals, late, rates[:, first:], start)
        self.blocks, self.q = signals.blocks, signals.x.shape[-1]
        self.order = regression.neighbours(self.samples.used)

    def _is_like(self, original):
        """Whether another Pilot's weights choose samples of this recording as well."""
        same = lambda of: (of.kinetics.alpha, of.kinetics.mechanism, of.kinetics.response)
        return isinstance(original, Pilot) and self.rec.measured is None and same(self) == same(original)

    @property
    def has_hidden(self):
        """Whether the velocity acts through hidden neurons."""
        return self.kinetics.mechanism == "hidden neurons"

    def model(self):
        """The prior of its blocks. Returns: prior.Model."""
        return build_model(self.blocks, self.geometry, self.places, self.rec.driven)

    def describe(self, u, v, products=None):
        """All signals but the innovations. u: (trials, steps, n); v: (trials, steps, D). Returns: signals.Signals."""
        alpha, driven = self.kinetics.alpha, self.rec.driven is not None
        if not self.has_hidden:
            return multiplied_signals(u, v, alpha, self.directions, driven)
        products = self.has_products if products is None else products
        rates = self.copies.rates(u, v, self.geometry, self.places, alpha) if self.copies else ()
        return hidden_signals(u, v, alpha, self.directions, rates, driven, products)

    def _learn(self, signals, late, rates, start=None):
        """Find the weights by which samples are chosen, first on samples by their rate, and those that predict
        innovations. start: `_first_weights`'s, where they are known. Returns: as `choose_samples`."""
        self._selection_weights, self._noise = start or self._first_weights(signals, late, rates)
        signals, samples = self._select(signals, late)
        if not self.has_hidden:
            return signals, samples
        x, used, y = (a[::FIRST_STRIDE] for a in samples[:3])
        self._innovation_weights, _ = self._ordinary(regression.Samples(x, used, y, samples.starts // FIRST_STRIDE))
        return self._replace_innovations(signals, samples)

    def _first_weights(self, signals, late, rates):
        """Weights by samples that are chosen by their rate, and the noise's s.d."""
        thin = lambda a: a[:, ::FIRST_STRIDE]
        return self._ordinary(regression.select(*map(thin, (signals.x, *late, rates)), *FIRST_RATES))

    def _ordinary(self, samples):
        """regression.ordinary, the direct weights of many neurons in leading directions of the states."""
        n = samples.used.shape[1]
        if n <= MAX_DIRECT:
            return regression.ordinary(samples)
        x, V = samples.x, leading_eigenvectors(second_moment(samples.x[:, :n]), MAX_DIRECT)
        weights, noise = regression.ordinary(samples._replace(x=np.concatenate([x[:, :n] @ V, x[:, n:]], 1)))
        return np.concatenate([V @ weights[:MAX_DIRECT], weights[MAX_DIRECT:]]), noise

    def choose_samples(self, signals, late):
        """Samples by the current that the weights predict, and F(e) V, what hidden neurons' own noise does, as one more
        block: e are the innovations, the residuals of the regression that has this block. late: currents, known and
        usable, (trials, steps, n). Returns: Signals with it, Samples."""
        signals, samples = self._select(signals, late)
        return self._replace_innovations(signals, samples) if self.has_hidden else (signals, samples)

    def _select(self, signals, late):
        """The same, e being the residuals of the regression that does not have this block yet."""
        samples, e = self._residuals(signals, late, self._selection_weights)
        if self.has_hidden:
            signals = signals.with_block("noise", self._filter(e.reshape(late[0].shape)), self.directions)
        return signals, samples._replace(x=signals.x.reshape(len(samples.x), -1))

    def _replace_innovations(self, signals, samples):
        """Signals and samples whose e, in place, are the innovations."""
        e = samples.residuals(self._innovation_weights).reshape(*signals.x.shape[:2], -1)
        signals.x[..., signals.blocks[-1].columns] = self._filter(e)
        return signals, samples

    def _filter(self, e):
        return state_of(e, self.kinetics.alpha) @ self.directions

    def _residuals(self, signals, late, weights):
        """Samples by the current that some weights predict, and what these leave of it. Returns: Samples, (samples, n)
        float32."""
        currents, known, usable = late
        predicted = signals.x @ weights.astype(np.float32)
        bounds = NOISE_SD_ABOVE * self._noise, self.kinetics.response.highest
        samples = regression.select(signals.x, currents, known, usable, predicted + known, *bounds)
        left = np.subtract(samples.y, predicted.reshape(samples.y.shape), out=predicted.reshape(samples.y.shape))
        return samples, np.where(samples.used, left, np.float32(0.0))

    def _needs_products(self, u, late, rates):
        """Whether hidden neurons' response to products of the velocity's components surely explains more. Returns:
        bool, the signals, and `_first_weights` of them."""
        fits, each, shape = {}, {}, (*late[0].shape[:2], -1)
        odd = slice(1, None, FIRST_STRIDE)  # steps that the weights are not from
        for products in (False, True):
            signals = self.describe(u, self.rec.velocity, products)
            start = self._first_weights(signals, late, rates)
            samples, e = self._residuals(signals, late, start[0])
            fits[products] = e.reshape(shape)[:, odd], samples.used.reshape(shape)[:, odd], 0
            each[products] = signals, start
        likelihoods = compare_residuals(fits)
        needed = surely_better(likelihoods[True], likelihoods[False])
        return needed, *each[needed]

    def _choose_directions(self, u, late, rates):
        """Take all directions of the states, in the place of the leading ones, where most weights that the velocity
        multiplies are identifiable in all of them, as with pulses: no assumption is made then of those left out."""
        leading = self.directions
        self.directions = V = leading_directions(u, self.rec.valid, min(u.shape[-1], MAX_DIRECT))
        signals = self.describe(u, self.rec.velocity)
        weights, self._noise = self._first_weights(signals, late, rates)
        samples, _ = self._residuals(signals, late, weights)
        order = regression.neighbours(samples.used)
        sums = regression.moments([samples], order[:: max(1, len(order) // PILOT_NEURONS)])
        weights, variance, factors = regression.solve(sums)
        gates = [block.columns for block in signals.blocks if block.name == "gate"]
        square, gate = np.zeros((2, len(factors), len(gates), len(V)))
        for k, (j, factor) in enumerate(factors.items()):
            root = regression.invert_root(factor[0])
            for d, columns in enumerate(gates):
                square[k, d] = variance[j] * np.square(V @ root[:, columns].T).sum(1)
                gate[k, d] = V @ weights[columns, j]
        if not factors or not regression.NORMAL**2 * np.median(square) < np.mean(gate**2 - square):
            self.directions = leading

    def residuals(self):
        """Residuals and which samples are used, from the first step of each trial, and the step from which on they are.
        Returns: (trials, steps, n) float32 and bool, int."""
        weights, _ = regression.ordinary(self.samples, self.order, regression.RIDGE)
        shape = len(self.rec.rates), -1, weights.shape[1]
        used = self.samples.used & weights.any(0)
        return (self.samples.residuals(weights) * used).reshape(shape), used.reshape(shape), self.first

    def measure_innovations(self):
        """The share of the residual's variance that innovations predict, less what as many random signals would."""
        block, shares = self.blocks[-1], []
        samples = self.samples.only(self.order[:: max(1, len(self.order) // PILOT_NEURONS)])
        weights, _ = regression.ordinary(samples)
        for j in np.flatnonzero(weights.any(0)):
            used = np.flatnonzero(samples.used[:, j])
            x, w = samples.x[used], weights[:, j].astype(np.float32)
            variance = np.square(samples.y[used, j] - x @ w).sum() / (len(used) - self.q)
            predicted = np.square(x[:, block.columns] @ w[block.columns]).mean()
            shares.append(predicted / variance - block.size / len(used))
        return float(np.mean(shares)) if shares else 0.0

    def rescaled(self):
        """The pilot with the scale of the rates that maximises their likelihood. Returns: Pilot."""
        pilot = self
        for _ in range(RESCALINGS):
            scale, chosen = pilot.likeliest_scale(), pilot.kinetics.response
            if abs(scale / chosen.scale - 1) < SAME_SCALE:
                break
            kinetics = pilot.kinetics._replace(response=chosen._replace(scale=scale))
            pilot = Pilot(self.rec, kinetics, self.geometry, self.places, coupled=True)
        return pilot

    def likeliest_scale(self):
        """The scale of the rates that maximises their likelihood under all blocks, on these samples: 1, or the present
        one, unless another is surely better. Only the rectified tanh has one."""
        chosen, samples = self.kinetics.response, self.samples
        known = np.flatnonzero(samples.used.sum(0) >= regression.SAMPLES_PER_REGRESSOR * self.q)
        if chosen.name != "tanh" or not len(known):
            return chosen.scale
        first, trials = self.first, len(self.rec.rates)
        flat = lambda a: a[:, first:].reshape(len(samples.x), -1)
        rates, stimulus = flat(self.rec.rates), None if self.rec.stimulus is None else flat(self.rec.stimulus)
        data, highest = [], 0.0
        for j in known[:: max(1, len(known) // SCALE_NEURONS)]:
            at = np.flatnonzero(samples.used[:, j])[::SCALE_STRIDE]
            x, r = samples.x[at].astype(np.float64), rates[at, j].astype(np.float64)
            added = 0.0 if stimulus is None else stimulus[at, j]
            data.append((at // (len(rates) // trials), x, r, added, regression.factorise(x.T @ x)))
            highest = max(highest, r.max(initial=0.0))

        def likelihood(scale):
            total, response = np.zeros(trials), chosen._replace(scale=scale)
            for trial, x, r, added, factor in data:
                y = response.current(scale * r) - added
                left = y - x @ cho_solve(factor, x.T @ y)
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


class Fit:
    """One recording's regression: signals, samples and sums, from which both estimates follow."""

    further = ()  # blocks put after the others: name, function of (u, v), directions
    CACHES = "pieces", "sums", "_projection"  # that can be made anew
    extended = None  # the Fit with further blocks, whose sums contain these

    def __init__(self, rec, pilot):
        """rec: Recording; pilot: Pilot of it."""
        self.rec, self.pilot = rec, pilot
        self.kinetics, self.geometry, self.places = pilot.kinetics, pilot.geometry, pilot.places
        self.directions, self.copies, self.first = pilot.directions, pilot.copies, pilot.first
        self.blocks, self.q, self.order = pilot.blocks, pilot.q, pilot.order
        self.maps = self._maps()

    def choose_neurons(self, most):
        """All neurons, or as many evenly chosen ones, neighbours following each other. Returns: indices."""
        return self.order[np.linspace(0, len(self.order) - 1, min(len(self.order), most)).round().astype(int)]

    @property
    def some_neurons(self):
        """Neurons whose sums fit into SUMS_BYTES."""
        return self.choose_neurons(max(MIN_NEURONS, self._fitting(SUMS_BYTES)))

    def _fitting(self, size):
        return int(size / (8 * self.q**2))

    @property
    def groups(self):
        """Neurons whose sums are taken at a time. Returns: list of indices."""
        n = len(self.order)
        if len(self.some_neurons) == n:
            return [self.order]
        return np.array_split(self.order, -(-n // max(MIN_GROUP, self._fitting(GROUP_BYTES))))

    def add_blocks(self, further):
        """The same regression with further blocks before the constant. further: list of name, function that gives
        (trials, steps, k) of u and v, directions (n, k). Returns: Fit, without maps."""
        other = object.__new__(type(self))
        vars(other).update({k: v for k, v in vars(self).items() if k not in self.CACHES})
        other.further, end = tuple(further), self.q - 1
        for name, _, directions in further:
            columns = slice(end, end + directions.shape[1])
            other.blocks, end = (*other.blocks, Block(name, columns, directions, name)), columns.stop
        other.q, self.extended = end + 1, other
        return other

    @cached_property
    def pieces(self):
        """The samples, trials by trials. An iterable of regression.Samples."""
        trials, steps = len(self.rec.rates), self.rec.rates.shape[1] - self.first
        each = -(-trials // regression.MAX_CLUSTERS)  # trials of a cluster
        size = max(each, PIECE_SAMPLES // max(1, steps) // each * each)
        cuts = -(-regression.MIN_CLUSTERS // trials)
        groups = [slice(k, min(k + size, trials)) for k in range(0, trials, size)]
        pieces = Pieces(lambda some: self._samples(some, each, cuts), groups)
        return list(pieces) if 4 * trials * steps * self.q < CACHE_BYTES or len(self.groups) > 1 else pieces

    def _samples(self, some, per_cluster, cuts):
        rec = self.rec.trials(some)
        _, u, currents, known, usable = prepare(rec, self.kinetics)
        late = [a[:, self.first :] for a in (currents, known, usable)]
        signals, samples = self.pilot.choose_samples(self.pilot.describe(u, rec.velocity), late)
        for name, moved, directions in self.further:
            signals = signals.with_block(name, moved(u, rec.velocity)[:, self.first :], directions)
        trials, steps = signals.x.shape[:2]
        starts = regression.cluster_starts(trials, steps, per_cluster, cuts)
        return samples._replace(x=signals.x.reshape(-1, signals.x.shape[-1]), starts=starts)

    @cached_property
    def sums(self):
        """regression.Moments of all neurons, or of those that the scales of the prior are found from."""
        if self.extended is not None and len(self.extended.some_neurons) == len(self.some_neurons):
            larger = self.extended.sums
            if len(larger.xx) == np.count_nonzero(larger.counts >= regression.SAMPLES_PER_REGRESSOR * self.q):
                return larger.only(np.append(np.arange(self.q - 1), self.extended.q - 1))
        return regression.moments(self.pieces, self.some_neurons, self._min_samples)

    def unbiased(self, neurons=None):
        """regression.LeastSquares of all blocks. neurons: of which it is wanted (default: all)."""
        found = regression.LeastSquares.unknown(self.q, len(self.order), self.maps)
        if neurons is None or self.extended is not None:
            for _ in self._fill(found):
                pass
            return found
        make = lambda samples: samples.only(neurons)
        pieces = list(map(make, self.pieces)) if isinstance(self.pieces, list) else Pieces(make, self.pieces)
        some = regression.least_squares(pieces, regression.moments(pieces, least=self._min_samples), self.maps)
        found.weights[:, neurons], found.variance[neurons] = some.weights, some.variance
        for mine, theirs in zip(found.se, some.se, strict=True):
            mine[:, neurons] = theirs
        return found

    def _fill(self, found):
        """Fill in the unbiased estimate, one of `groups` after the other. found: regression.LeastSquares. Yields:
        regression.Moments of a group, once it is done."""
        each = [self.sums]
        if len(self.groups) > 1:
            each = regression.moments_by_groups(self.pieces, self.groups, self.sums, self._min_samples)
        for sums in each:
            found.fill(regression.least_squares(self.pieces, sums, self.maps), list(sums.xx))
            yield sums

    @property
    def _min_samples(self):
        """Samples that a neuron needs: where rates are missing it has the others' profile, however few are left."""
        return None if self.rec.measured is None else 1

    @property
    def scales(self):
        """Scales of the prior near the likeliest, or None."""
        return self.pilot.scales

    def estimates(self, start=None, temperature=1.0, rounds=None):
        """Both estimates: regression.LeastSquares and prior.Posterior. start: prior.Scales from which the likeliest are
        looked for, in so many rounds; temperature: by which the residuals' variance is multiplied for the second."""
        start = self.scales if start is None else start
        rounds = (ROUNDS if start is None else 1) if rounds is None else rounds
        found = regression.LeastSquares.unknown(self.q, len(self.order), self.maps)
        variance = regression.solve(self.sums)[1]
        usual = np.median(variance[np.isfinite(variance)]) if np.isfinite(variance).any() else 1.0
        tempered = lambda variance: temperature * np.where(np.isfinite(variance), variance, usual)
        evidence = Evidence(self._model(), self.sums, tempered(variance))
        parts = ((sums, tempered(found.variance)) for sums in self._fill(found))
        return found, evidence.posterior(start, rounds, parts=parts)

    def _model(self):
        return build_model(self.blocks, self.geometry, self.places, self.rec.driven)

    def release(self):
        """Forget all samples and sums, the pilot's and the extended fit's too."""
        for fit in (self, self.extended):
            for name in self.CACHES if fit is not None else ():
                vars(fit).pop(name, None)
        self.pilot.samples = None

    def residual_structure(self, weights):
        """Mean autocorrelation of residuals regression.STRUCTURE_LAGS steps apart: noise through a synapse has mostly
        been predicted then, and what the signals cannot describe is still there. weights: (q, n), NaN where unknown."""
        known = np.isfinite(weights).all(0)
        lags = [lag for lag in regression.STRUCTURE_LAGS if lag < self.rec.rates.shape[1] - self.first - 1]
        products, pairs, square, count = np.zeros(len(lags)), np.zeros(len(lags)), 0.0, 0
        if not known.any() or not lags:
            return np.inf
        for samples in self.pieces:
            shape = -1, self.rec.rates.shape[1] - self.first, known.sum()
            e = samples.residuals(weights[:, known], known).reshape(shape)
            used = samples.used[:, known].reshape(shape)
            square, count = square + np.einsum("ktn,ktn->", e, e, dtype=np.float64), count + used.sum()
            for k, lag in enumerate(lags):
                products[k] += np.einsum("ktn,ktn->", e[:, lag:], e[:, :-lag], dtype=np.float64)
                pairs[k] += np.count_nonzero(used[:, lag:] & used[:, :-lag])
        return float(np.mean(products / np.maximum(1, pairs)) / max(square / max(1, count), 1e-30))

    @cached_property
    def _projection(self):
        """Signals at `projected_samples`, and their states' second moments with a ridge."""
        shown, rows, start = projected_samples(self.rec.valid, self.first)[:, self.first :].ravel(), [], 0
        for samples in self.pieces:
            rows.append(samples.x[shown[start : start + len(samples.x)]])
            start += len(samples.x)
        x = np.concatenate(rows)
        return x, second_moment_with_ridge(x[:, : len(self.order)])

    def project(self, y):
        """The linear map that best takes the recorded state to y, directions that the states hardly span left at 0.
        y: (samples, k), at `projected_samples`. Returns: (n, k)."""
        x, cov = self._projection
        return np.linalg.solve(cov, second_moment(x[:, : len(cov)], y))

    def _maps(self):
        """Linear maps from weights (q, n) to W, total and each gate, (n, q) each."""
        (x, cov), project = self._projection, self.project
        n = len(cov)
        direct = np.zeros((n, self.q))
        direct[:, :n] = np.eye(n)
        total, gates = direct.copy(), np.zeros((self.rec.velocity.shape[-1], n, self.q))
        slopes = {}
        if self.copies is not None:
            v = self.rec.velocity[projected_samples(self.rec.valid, self.first)]
            states = [x[:, block.columns] @ block.directions.T for block in self.blocks if block.name == "copies"]
            for component, r in self.copies.rates(x[:, :n], v, self.geometry, self.places, states=states):
                slopes[component] = project(slope_of(r) @ self.directions)
        for block in self.blocks:
            if block.name in ("copies", "path"):
                total[:, block.columns] = project(x[:, block.columns])
            if block.name == "copies":
                d, sign = block.component
                gates[d][:, block.columns] = sign * self.copies.drive * slopes[block.component]
            if block.name == "gate":
                gates[block.component[0]][:, block.columns] = block.directions
        return [direct, total, *gates]


def build_model(blocks, geometry, places, driven):
    """The prior of some blocks. driven: (n,) bool, neurons that the velocity drives, or None. Returns: prior.Model."""
    terms, frequency = geometry.terms(places)
    if driven is None:
        return Model(blocks, terms, frequency)
    terms[:, driven], terms[:, :, driven] = 0.0, 0.0  # weights to and from driven neurons have no profile
    free = np.ones((sum(block.size for block in blocks) + 1, len(driven)), bool)
    for block in blocks:
        if block.name == "driven":  # the velocity enters only driven neurons
            free[block.columns] = driven
    return Model(blocks, terms, frequency, free)


def projected_samples(valid, first):
    """Evenly thinned samples, about PROJECTION_SAMPLES, from step `first` on. valid: (trials, steps) bool. Returns: the
    same."""
    late = valid.copy()
    late[:, :first] = False
    at = np.flatnonzero(late)
    chosen = np.zeros(late.size, bool)
    chosen[at[:: max(1, len(at) // PROJECTION_SAMPLES)]] = True
    return chosen.reshape(late.shape)


def second_moment_with_ridge(states):
    """states.T @ states / samples, and PROJECTION_RIDGE of its leading eigenvalue on the diagonal."""
    cov = second_moment(states)
    cov[np.diag_indices(len(cov))] += PROJECTION_RIDGE * np.linalg.eigvalsh(cov)[-1]
    return cov


class Pieces:
    """An iterable whose items are made anew each time."""

    def __init__(self, make, keys):
        self.make, self.keys = make, keys

    def __iter__(self):
        return map(self.make, self.keys)


def compare_residuals(fits):
    """Log likelihoods by trial of several fits, on the samples that all of them use, but for what they share.

    fits: {key: `Pilot.residuals`}. Returns: {key: (trials,)}."""
    first = max(start for _, _, start in fits.values())
    used = np.logical_and.reduce([u[:, first - start :] for _, u, start in fits.values()])
    counts, result = np.maximum(used.sum((0, 1)), 1), {}
    for key, (e, _, start) in fits.items():
        square = np.where(used, e[:, first - start :], 0.0).astype(np.float64) ** 2
        variance = np.maximum(square.sum((0, 1)) / counts, 1e-14)
        result[key] = -0.5 * ((square / variance).sum((1, 2)) + (used.sum(1) * np.log(variance)).sum(1))
    return result
