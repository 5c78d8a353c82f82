"""Checks of the rates alone: noise that all neurons share, neurons that change, trials that occur twice.

Each neuron's rate is compared with what it has on average where the activity points, by the segments of
consistency.py.
"""

import itertools
from dataclasses import replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.fft import irfft, next_fast_len, rfft
from scipy.stats import rankdata

from nsi import geometry
from nsi.recordings.arrays import correlate, list_some
from nsi.recordings.consistency import (
    MIN_COMPARED_S,
    by_difference,
    by_ratio,
    find_change,
    find_difference,
    locate_peaks,
)

MAX_SHARED_SD = 0.15  # s.d. of what neurons share, as a share of their peak, beyond which it hides what else they do
MIN_NEURONS = 6  # of which something shared, or two groups, can be found
MIN_GROUP_SHARE = 0.2  # share of the neurons that each of two groups must have for one to be called late
MIN_REPEATED_SHARE = 0.5  # of the delay between two groups, in the half of the recording that they were not split by
MAX_ALIGNMENTS = 5  # how often late neurons are moved earlier, at most
MIN_DRIVEN_R = 0.15  # correlation of a neuron's deviation with the velocity, from which it receives it
MAX_SAMPLES = 30_000  # samples of the activity that are compared: neighbouring steps say nearly the same
MAX_DELAY_VALUES = 4_000_000  # values of the rates that delays are estimated from
NEURONS_AT_ONCE = 8  # whose delays are estimated together
MIN_EXPLAINED = 0.35  # share of the rates' variance that the place explains, from which parts are compared by it


class Activity:
    """The rates, and those that each neuron has on average where the activity points: a function of the decoded place
    alone, so that which places were visited, and how often, makes no difference between parts of a recording."""

    def __init__(self, rec, decoded, alpha):
        """decoded: (trials, steps, D) rad, NaN in silence; alpha: dt / tau."""
        (n, d), self.rec, self.alpha = (rec.rates.shape[-1], decoded.shape[-1]), rec, alpha
        self.known = rec.valid & np.isfinite(decoded).all(-1)
        if rec.stimulus is not None:
            self.known &= ~follows_stimulus(rec.stimulus, round(0.1 / rec.dt))
        count = self.known.sum()
        side = int(np.clip(count / 40, 8, 36) if d == 1 else np.clip(np.sqrt(count / 20), 4, 12))
        place = np.nan_to_num(decoded % (2 * np.pi) / (2 * np.pi) * side).astype(int) % side
        self.bins = place @ side ** np.arange(d)  # (trials, steps)
        self.use = self.known & (np.arange(self.known.shape[1]) % max(1, count // MAX_SAMPLES) == 0)
        bins, rates = self.bins[self.use], rec.rates[self.use]
        high = np.quantile(rates, 0.99, axis=0)
        rates = np.minimum(rates, np.where(high > 0, 3 * high, np.inf))  # outliers are spoken of elsewhere
        count = np.maximum(np.bincount(bins, minlength=side**d), 1)
        tuning = np.stack([np.bincount(bins, x, side**d) for x in rates.T], 1) / count[:, None]
        self.peak = np.maximum(tuning.max(0), 1e-9)
        self.tuning = tuning / self.peak
        self.rates, self.expected = rates / self.peak, self.tuning[bins]  # (samples, n)
        self.left = self.rates - self.expected
        self.explained = 1 - self.left.var(0).sum() / max(self.rates.var(0).sum(), 1e-12)
        rank = rankdata(self.tuning, "ordinal", axis=1)
        away = rank <= max(2, n // 3)  # the neurons furthest from where the activity points
        self.away, self.halves = away[bins], [(away & (rank % 2 == k))[bins] for k in (1, 0)]

    def sum_by_segment(self, segments, values):
        """The sums of values (samples,) or (samples, any) in each segment."""
        label = segments.label[self.use]
        use = label >= 0
        sums = [np.bincount(label[use], x, segments.count) for x in np.atleast_2d(values.T)[:, use]]
        return np.stack(sums, 1) if values.ndim > 1 else sums[0]

    def measure_shared_noise(self):
        """Shared activity of the neurons away from the bump beyond the expected. Returns: s.d., as a share of a
        neuron's peak, and correlation between two halves of these neurons."""
        a, b = ((self.left * half).sum(1) / np.maximum(half.sum(1), 1) for half in self.halves)
        return _measure_shared(a, b)

    def find_reordered(self, segments):
        """Neurons whose correlations with the others are of one kind before some segment, and of another after it.
        Returns: (indices of neurons, index of the first segment after), or None."""
        label, count, n = segments.label[self.use], segments.count, self.rates.shape[1]
        rows, spread, others = np.zeros((count, n, n)), np.full((count, n), np.nan), ~np.eye(n, dtype=bool)
        for k in range(count):
            rates = self.rates[label == k]
            if len(rates) > 10:
                rows[k], spread[k] = np.cov(rates, rowvar=False) * others, rates.std(0)
        active = spread > 0.3 * np.nanmedian(spread, 0)
        rows = (rows - rows.sum(2, keepdims=True) / max(n - 1, 1)) * others
        rows /= np.maximum(np.linalg.norm(rows, axis=2, keepdims=True), 1e-9)
        alike = np.einsum("aij,bij->iab", rows, rows)  # (n, segments, segments)
        alike[~(active.T[:, :, None] & active.T[:, None])] = np.nan
        best, at = (0, None), np.arange(count)
        for k, mixed in itertools.product(range(2, count - 1), (0, 1)):
            if k + mixed > count - 2:
                continue
            before, used = at < k, (at < k) | (at >= k + mixed)  # the change may lie within a segment
            alike_part, both = before[:, None] == before, used & used[:, None]
            same, other = alike_part & both & (at != at[:, None]), ~alike_part & both
            within, across = known_quantile(alike[:, same], 0.2), known_quantile(alike[:, other], 0.8)
            twice = np.minimum(active[used & before].sum(0), active[used & ~before].sum(0)) > 1  # in either part
            changed = np.flatnonzero(twice & (within > 0.7) & (within - across > 0.3))
            if len(changed) > 1 and np.nanmedian(within) > 0.7:
                best = max(best, (np.nansum((within - across)[changed]), (changed, k)), key=lambda one: one[0])
        return best[1]

    def measure_delays(self):
        """Delay of each neuron relative to its expected rate. Returns: (2, n) s, of two halves of the recording,
        NaN where it is unknown."""
        rec, dt = self.rec, self.rec.dt
        steps, n = rec.rates.shape[1:]
        furthest, size = min(round(0.5 / dt), steps // 4), next_fast_len(steps, real=True)
        lags = np.arange(-furthest, furthest + 1)
        part = np.arange(len(rec.rates))[:: max(1, rec.rates.size // MAX_DELAY_VALUES)]
        halves = (part[::2], part[1::2]) if len(part) > 1 else (part, part)
        delays, tuning, mean = [], self.tuning - self.expected.mean(0), self.rates.mean(0)
        transform = lambda x: rfft(x, size, axis=1)
        # the sum over trials and steps t of x[t] y[t + lag], lags from -furthest to furthest, between which x is 0
        lagged = lambda x, y: np.roll(irfft((x.conj() * y).sum(0), size, axis=0), furthest, 0)[: 2 * furthest + 1]
        for half in halves:
            known, bins, score = self.known[half, :, None], self.bins[half], []
            at = np.arange(steps)[:, None]
            middle = known & (at >= furthest) & (at < steps - furthest)
            all_known, all_middle = transform(known), transform(middle)
            for some in np.array_split(np.arange(n), -(-n // NEURONS_AT_ONCE)):
                E = np.where(middle, tuning[:, some][bins], 0.0)
                r = np.where(known, rec.rates[half][..., some] / self.peak[some] - mean[some], 0.0)
                square = lagged(transform(E**2), all_known) * lagged(all_middle, transform(r**2))
                score.append(lagged(transform(E), transform(r)) / np.sqrt(np.maximum(square, 1e-12)))
            delays.append(locate_peaks(np.concatenate(score, 1), lags, 0.5) * dt)
        return np.array(delays)

    def shift_neurons_earlier(self, late, steps):
        """The same recording with some neurons (n,) bool so many steps earlier, decoded anew. Returns: Activity, of
        trials that are as many steps shorter."""
        rec, stop = self.rec, self.rec.rates.shape[1] - steps
        cut = {k: a[:, :stop] for k, a in rec.arrays().items() if a is not None and k not in ("lengths", "animal")}
        cut["rates"] = np.where(late, rec.rates[:, steps:], rec.rates[:, :stop])
        cut["lengths"] = None if rec.lengths is None else rec.lengths - steps
        rec, shape = replace(rec, **cut), geometry.of(rec)
        return Activity(rec, shape.decode(rec.rates, geometry.places_of(rec, shape)), self.alpha)

    def find_late_group(self):
        """`split_by_delay`, refined: the decoded place lags, too, where half of the neurons are late, so that
        these are moved earlier and the activity is decoded anew, as long as the place then explains more."""
        found, explained = split_by_delay(self.measure_delays()), self.explained
        if found is None or found[2] < MIN_REPEATED_SHARE * found[0]:
            return None  # moved earlier, any group would agree with itself
        for _ in range(MAX_ALIGNMENTS):
            steps = round(found[0] / self.rec.dt)
            if steps < 2 or steps > self.rec.valid.sum(1).min() // 4:
                break
            aligned, refined = self.shift_neurons_earlier(found[-1], steps), None
            if aligned.explained > explained:
                refined = split_by_delay(aligned.measure_delays() + np.where(found[-1], steps * self.rec.dt, 0.0))
            if refined is None:
                break
            found, explained = refined, aligned.explained
            if round(found[0] / self.rec.dt) == steps:
                break
        return found


def known_quantile(x, level):
    """The quantile of each row's numbers, NaN of a row without. x: (rows, any). np.nanquantile goes row by row."""
    x = np.sort(x, axis=1)  # NaN comes last
    at = level * np.maximum(np.isfinite(x).sum(1) - 1, 0)
    low = at.astype(int)
    a, b = (np.take_along_axis(x, k[:, None], 1)[:, 0] for k in (low, np.ceil(at).astype(int)))
    return a + (at - low) * (b - a)


def split_by_delay(delays):
    """Neurons in two groups by their delay. delays: (2, n) s, of either half of the recording. Returns: s between the
    groups, the spread within them, the least of it in one half, between groups split by the other, and which neurons
    are late (n,) bool; or None."""
    mean = delays.mean(0)
    split = _split_once(mean)
    if split is None:
        return None
    late, within = split
    known = np.isfinite(mean)
    between = lambda one, late: np.median(one[late & known]) - np.median(one[~late & known])
    each = [(a, _split_once(np.where(known, b, np.nan))[0]) for a, b in (delays, delays[::-1])]
    return between(mean, late), within, min(between(a, late) for a, late in each), late


def _split_once(mean):
    """Two groups by delay. mean: (n,) s, NaN where it is not known. Returns: which are late, spread within; or None."""
    known = np.flatnonzero(np.isfinite(mean))
    if len(known) < MIN_NEURONS:
        return None
    order = known[np.argsort(mean[known])]
    least, late = max(2, len(order) // 10), np.zeros(len(mean), bool)
    x = mean[order] - mean[order].mean()
    count, each, square = np.arange(least, len(x) - least + 1), np.cumsum(x), np.sum(x**2)
    below, above = each[count - 1], each[-1] - each[count - 1]  # sums of either group, for each number of early ones
    squares = square - below**2 / count - above**2 / (len(x) - count)
    late[order[least + np.argmin(squares) :]] = True
    return late, np.sqrt(max(squares.min(), 0.0) / len(order))


def _measure_shared(a, b):
    """The s.d. of what two signals of mean 0 share, and their correlation. a, b: (samples,)."""
    shared = np.mean(a * b)
    return np.sqrt(max(shared, 0)), shared / np.sqrt(max(np.mean(a * a) * np.mean(b * b), 1e-12))


def follows_stimulus(stimulus, steps):
    """Steps with a stimulus, or so many after one. (trials, steps) bool."""
    on = np.cumsum(np.pad(stimulus.any(-1), ((0, 0), (steps + 1, 0))), 1)
    return on[:, steps + 1 :] > on[:, : -steps - 1]


def check_activity(activity, divided):
    """Check the rates in parts of a recording, and in all neurons together. Returns: a sentence or None, and whether it
    makes what the activity's turning says of the velocity unsure."""
    unsure, others = [_check_scaling], [_check_shared_noise]
    if activity.known.sum() * activity.rec.dt > MIN_COMPARED_S and activity.explained > MIN_EXPLAINED:
        unsure += [_check_order, _check_lost, _check_late]
        others = [_check_amplitude, _check_shared_noise, _check_brightness]
    loud = activity.rates.shape[1] >= MIN_NEURONS and activity.measure_shared_noise()[0] > MAX_SHARED_SD
    for kind in (*unsure, *([_check_shared_noise] if loud else []), *others):
        if sentence := kind(activity, divided):
            return sentence, kind in unsure or loud or activity.explained < MIN_EXPLAINED
    return None, False


def _check_scaling(activity, divided):
    """Each neuron scaled in each trial by itself, and silent ones with it."""
    rec = activity.rec
    trials = np.flatnonzero(rec.valid.sum(1) >= 50)
    trials = trials[:: max(1, len(trials) // 50)]
    if len(trials) < 2:
        return None
    rates = [rec.rates[k][rec.valid[k]] for k in trials]
    for level in (0.95, 0.99, 0.995, 0.999, 1.0):
        high = np.stack([np.quantile(r, level, axis=0) for r in rates])
        usual = np.median(high)
        cut_off = np.mean([(r >= 0.999 * usual).mean() for r in rates]) > 2 * (1 - level) + 0.01
        if usual > 0 and not cut_off and np.mean(np.abs(high / usual - 1) < 1e-3) > 0.9:
            break
    else:
        return None
    expected = [activity.tuning[activity.bins[k]][rec.valid[k]] for k in trials]
    follows = np.array([correlate(r, e) > 0.2 for r, e in zip(rates, expected, strict=True)])
    silent = ~(follows & [np.quantile(e, 0.99, axis=0) > 0.7 for e in expected])  # the activity never comes near
    if silent.sum() < max(2, 0.002 * silent.size):
        return None
    return (
        f"rates of each neuron reaches the same {'largest value' if level == 1 else f'{100 * level:g}th percentile'}, "
        f"{usual:.3g}, in every trial, as scaled trial by trial; in {silent.mean():.1%} of trials and neurons the "
        "activity never comes near the neuron, whose noise is then scaled up as if it fired; scale each neuron over "
        "the whole session, e.g. by np.percentile(r, [5, 99], axis=(0, 1))"
    )


def _check_order(activity, divided):
    """Neurons that change places."""
    for segments in divided:
        coarse = segments.coarser(8)
        if not segments.joint and (found := activity.find_reordered(coarse)):
            which, first = found
            if segments.gain > 1.2 and len(which) < 0.5 * activity.rates.shape[1]:
                continue  # in one session pieces differ in what is visited
            return (
                f"rates: {len(which)} of {activity.rates.shape[1]} neurons (neuron {list_some(which)}) fire together "
                f"with other neurons from {coarse.where([first])} on than before, as if their order in rates were "
                "another; give each neuron one place in rates throughout"
            )


def _check_lost(activity, divided):
    """Neurons that are active in a part of the recording only."""
    n, product, square = activity.rates.shape[1], activity.rates * activity.expected, activity.expected**2
    for segments in divided:
        coarse = segments.coarser(12)
        total, weights = activity.sum_by_segment(coarse, product), activity.sum_by_segment(coarse, square)
        weights = np.where(weights > 0.2 * np.median(weights, 0), weights, 0)
        changes = [find_change(t, w, by_ratio(5), 2) for t, w in zip(total.T, weights.T, strict=True)]
        step = activity.known.sum() * activity.rec.dt / len(activity.rates)
        sums = zip(changes, total.T, step * weights.T, strict=True)
        lost = [k for k, (part, *of_neuron) in enumerate(sums) if part and _is_parted(*of_neuron, part.which)]
        if lost and len(lost) < 0.8 * n:
            low, first = np.isin(np.arange(coarse.count), changes[lost[0]].which), changes[lost[0]]
            low = np.flatnonzero(low == (abs(first.here) < abs(first.elsewhere)))
            return (
                f"rates: {len(lost)} of {n} neurons (neuron {list_some(lost)}) fire where the others' activity says so "
                f"in one part of the recording and hardly in another (neuron {lost[0]}: {coarse.where(low)}), as if "
                "they were not seen there; leave out these neurons, or that part"
            )


def _is_parted(total, weights, which):
    """Whether nearly all segments of one part lie beyond those of the other, and enough is known of both. total:
    (segments,); weights: (segments,) s."""
    known, inside = weights > 0, np.isin(np.arange(len(total)), which)
    if min(weights[inside].sum(), weights[~inside].sum()) < 1.0:
        return False
    low, high = sorted((total[known & part] / weights[known & part] for part in (inside, ~inside)), key=np.median)
    return np.quantile(low, 0.8) < 0.5 * np.quantile(high, 0.2)


def _check_late(activity, divided):
    """Two groups of neurons of which one is late, by more than a synapse where velocity reaches it."""
    found = activity.find_late_group()
    if found is None:
        return None
    (between, within, least, late), dt = found, activity.rec.dt
    v, left = activity.rec.velocity[activity.use][:, :1], activity.left[:, late]
    driven = [np.abs(correlate(left, activity.expected[:, late] * x)) for x in (v, np.abs(v))]
    synapse = 1.5 * dt / activity.alpha if np.median(np.max(driven, 0)) > MIN_DRIVEN_R else 0.0
    shared = MIN_GROUP_SHARE <= late.mean() <= 1 - MIN_GROUP_SHARE  # the delays of few neurons have too large errors
    if not shared or least <= max(0.025, 2.5 * dt, synapse) or between <= 4 * within:
        return None
    return (
        f"rates: {late.sum()} of {len(late)} neurons (neuron {list_some(np.flatnonzero(late))}) come {between:.2g} s "
        "after the others; unless neurons do, the two groups' clocks are apart"
    )


def _check_amplitude(activity, divided):
    """Rates that all neurons reach, or that they have in silence, and that change."""
    e, r, pulses = activity.expected, activity.rates, activity.rec.stimulus is not None  # which change it, too
    for segments in divided:
        total_of = lambda x, segments=segments: activity.sum_by_segment(segments, x.sum(1))
        n = np.maximum(total_of(np.ones_like(r)), r.shape[1])
        covariance, variance = (total_of(e * x) - total_of(e) * total_of(x) / n for x in (r, e))
        weights = np.where(n > 20 * r.shape[1], variance, 0)
        found = find_difference(covariance, weights, *map(by_ratio, (1.6, 3) if pulses else (1.2, 1.5)))
        if found:
            return (
                f"rates: all neurons together reach {found.here / found.elsewhere:.2g} times as high in "
                f"{segments.where(found.which)} as elsewhere, where the activity is alike; as bleaching, or another "
                "focus or threshold, does: scale these parts alike"
            )
        found = find_change(total_of(activity.left * activity.away), total_of(activity.away), by_difference(0.05))
        if found:
            change = found.here - found.elsewhere
            return (
                f"rates: neurons away from the activity {'rise' if change > 0 else 'fall'} by {abs(change):.2g} of "
                f"their peak in {segments.where(found.which)}, as a baseline that changes does; subtract it part by "
                "part"
            )


def _check_shared_noise(activity, divided):
    """An artefact or noise that all neurons share."""
    if activity.rates.shape[1] < MIN_NEURONS:
        return
    sd, r = activity.measure_shared_noise()
    if sd > 0.03 and r > 0.75:
        return (
            f"rates: neurons far from where the activity points rise and fall together (s.d. {sd:.2g} of their peak, "
            f"correlation {r:.2f}), as with movement artefacts, stray light or noise that all share; subtract what "
            "they share before scaling"
        )


def _check_brightness(activity, divided):
    """A gain that all active neurons share, and that no velocity or stimulus explains."""
    near = np.where(activity.expected > 0.3, activity.expected, 0)
    halves = [near * (np.arange(near.shape[1]) % 2 == k) for k in (0, 1)]
    known = np.all([half.any(1) for half in halves], 0)
    gains = [(activity.rates * half)[known].sum(1) / (half * half)[known].sum(1) - 1 for half in halves]
    sd, r = _measure_shared(*gains) if known.any() else (0.0, 0.0)
    if sd > 0.2 and r > 0.95 and activity.rec.stimulus is None:
        return (
            f"rates: all active neurons rise and fall together (s.d. {sd:.2g} of what is expected where the activity "
            f"points, correlation {r:.2f}), as with a brightness or gain that changes"
        )
    return None


def check_repeats(rec):
    """Stretches of the rates that are in several trials. Returns: a sentence, or None."""
    rates, valid = rec.rates, rec.valid
    trials, steps, _ = rates.shape
    length = min(25, max(5, steps // 4))  # longer than one spike's smoothed course
    if steps < length:
        return None
    hashes = lambda x: np.array([[hash(a.tobytes()) for a in trial] for trial in x])
    row = hashes(rates + np.float32(0))  # of each step; a negative zero becomes a positive one
    new = np.ones_like(valid)
    new[:, 1:] = row[:, 1:] != row[:, :-1]
    lively = sliding_window_view(new & rates.any(-1), length, 1).sum(-1)
    whole = valid[:, length - 1 :] & (lively > 0.6 * length)
    piece = np.broadcast_to(np.arange(trials)[:, None], whole.shape)
    if trials == 1:
        piece = np.broadcast_to(np.arange(whole.shape[1]) // max(1, int(valid.sum()) // 10), whole.shape)
    _, which = np.unique(hashes(sliding_window_view(row, length, 1))[whole], return_inverse=True)
    of, pieces = piece[whole], 10 if trials == 1 else trials
    block_of, piece_of = np.divmod(np.unique(which * (pieces + 1) + of), pieces + 1)  # each block in each piece once
    count = np.bincount(block_of)  # pieces that have a block
    twice = count[which] > 1
    if twice.sum() < max(length, 0.005 * len(of)):
        return
    held_out = np.isin(of, np.arange(pieces)[9::10] if pieces >= 10 else [pieces - 1])
    share = twice[held_out].mean() if held_out.any() else 0.0
    last = np.cumsum(count)[count > 1]
    names = sorted(set(zip(piece_of[last - count[count > 1]], piece_of[last - 1], strict=True)))
    kind = "tenth" if trials == 1 else "trial"
    pairs = list_some([f"{b} as of {a}" for a, b in names], 3)
    consequence = f"; so {share:.0%} of the held-out trials is in the training set too, and their scores are no test"
    return (
        f"rates has the same stretches in several {kind}s ({twice.mean():.0%} of all steps; {kind} {pairs})"
        f"{consequence if share else ''}; give each stretch once, and cut trials that do not overlap"
    )
