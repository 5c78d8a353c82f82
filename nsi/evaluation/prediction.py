"""Errors of networks that run freely on held-out trials: of their headings and of their rates."""

import itertools

import numpy as np
from scipy.special import stdtrit

from nsi.network import predict_from

HORIZONS_S = 0.25, 0.5, 1.0, 2.0, 5.0  # s
MIN_SAMPLES = 20  # samples that a mean error is worth
RUNS = 200  # free runs at once
MIN_TRIALS = 3  # held-out trials that an interval over trials is worth
WARMUP_STEPS = 20  # before a free run, in which the recorded units are clamped


def heading_error(net, rec, geometry, places, seconds=5.0):
    """Distance of the network's bump from the recorded one at the end of free runs on velocity alone, of some seconds,
    which start a tenth of these apart.

    rec: held-out trials; places: (n, D) rad. Returns: (starts, trials) rad, NaN where a trial has ended by then.
    """
    steps = max(1, round(seconds / rec.dt))
    return _errors(net, rec, geometry, places, [steps], max(1, steps // 10))[0]["network"]


def heading_table(net, rec, geometry, places):
    """Mean error of the predicted heading by seconds ahead, of the network and of two predictions without one.

    rec: held-out trials; places: (n, D) rad.
    Returns: {"0.25": {"error", "integrator", "stay": rad, None of fewer than MIN_SAMPLES, "samples": count}, ...}.
    """
    return heading_scores(net, rec, geometry, places)[0]


def heading_scores(net, rec, geometry, places, gain=1.0):
    """Heading errors of the network and of two predictions without a network, and intervals of their differences.

    gain: of the integrator, turning of the activity per velocity, one or D; the rest as for `heading_table`.
    Returns: `heading_table`'s dict, and {"0.25": {"integrator", "stay": `interval_over_trials` of the network's error
    minus that prediction's, "trials": count with samples}, ...}.
    """
    steps = [max(1, round(seconds / rec.dt)) for seconds in HORIZONS_S]
    table, differences = {}, {}
    horizons = _errors(net, rec, geometry, places, steps, max(1, round(0.5 / rec.dt)), gain)
    for seconds, errors in zip(HORIZONS_S, horizons, strict=True):
        own, known = errors["network"], np.isfinite(errors["network"])
        enough, key = known.sum() >= MIN_SAMPLES, f"{seconds:g}"
        mean = {name: float(np.nanmean(x)) if enough else None for name, x in errors.items()}
        table[key] = {"error": mean.pop("network")} | mean | {"samples": int(known.sum())}
        intervals = {name: interval_over_trials(own - errors[name]) if enough else None for name in mean}
        differences[key] = intervals | {"trials": int(known.any(0).sum())}
    return table, differences


def interval_over_trials(samples):
    """The 95 % interval of a mean, trials being drawn: samples of one trial may go together.

    The mean is a ratio of sums over trials, its standard error that of the linearized ratio, and the quantile Student's
    of one degree of freedom fewer than trials. samples: (any, trials), NaN where there is none. Returns: [low, high],
    or None of fewer than MIN_TRIALS trials.
    """
    known = np.isfinite(samples)
    count = known.sum(0)
    trials = int((count > 0).sum())
    if trials < MIN_TRIALS:
        return None
    sums = np.where(known, samples, 0.0).sum(0)
    mean = sums.sum() / count.sum()
    se = np.sqrt(trials / (trials - 1) * np.sum((sums - mean * count) ** 2)) / count.sum()
    half = float(stdtrit(trials - 1, 0.975) * se)
    return [float(mean) - half, float(mean) + half]


def _errors(net, rec, geometry, places, ahead, every, gain=1.0):
    """Angles between predicted and recorded headings.

    ahead: lengths of the free run, in steps; every: steps from one start to the next; gain: of the integrator.
    Returns: for each of `ahead` {"network", "integrator", "stay": (starts, trials) rad, NaN where a trial has ended
    or its neurons are silent}.
    """
    length, trials = int(rec.valid.sum(1).max()), len(rec.rates)
    warmup = min(WARMUP_STEPS, length // 4)
    heading = geometry.decode(rec.rates, places)  # (trials, steps, D)
    moved = rec.dt * geometry.movement(gain * rec.velocity[..., : geometry.dimensions]).cumsum(1, dtype=float)
    empty = np.empty((0, trials))
    horizons = [{name: [empty] for name in ("network", "integrator", "stay")} for _ in ahead]
    furthest = lambda start: max(k for k in ahead if start + warmup + k < length)
    starts = range(0, length - warmup - min(ahead), every)
    for start, free in run_in_groups(net, rec, warmup, {start: warmup + furthest(start) + 1 for start in starts}):
        now = start + warmup
        for k, errors in zip(ahead, horizons, strict=True):
            if k > furthest(start):
                continue
            end = now + k
            guesses = {
                "network": np.nan_to_num(geometry.decode(free[:, warmup + k], places)),  # silent: as wrong as by chance
                "integrator": heading[:, now] + moved[:, end] - moved[:, now],
                "stay": heading[:, now],
            }
            unknown = ~rec.valid[:, end] | np.isnan(heading[:, now] + heading[:, end]).any(-1)
            for name, guess in guesses.items():
                errors[name].append(np.where(unknown, np.nan, geometry.distance(guess, heading[:, end]))[None])
    return [{name: np.concatenate(each) for name, each in errors.items()} for errors in horizons]


def window_error(net, rec, warmup, window):
    """Mean squared error of the rates over windows run freely after `warmup` clamped steps, laid end to end."""
    length, errors = warmup + window, []
    starts = range(0, rec.rates.shape[1] - length + 1, length)
    for start, free in run_in_groups(net, rec, warmup, dict.fromkeys(starts, length)):
        wrong = np.mean((free[:, warmup:] - rec.rates[:, start + warmup : start + length]) ** 2, (1, 2))
        errors.extend(wrong[rec.valid[:, start + length - 1]])
    return float(np.mean(errors))


def run_in_groups(net, rec, warmup, lengths):
    """Run a network from several steps of a recording, those for equally long at once, RUNS at most.

    lengths: {first step: steps}, not rising. Yields: first step, rates (trials, steps, n) of the recorded neurons."""
    most = max(1, RUNS // len(rec.rates))
    for steps, starts in itertools.groupby(lengths, lengths.get):
        starts = list(starts)
        for some in (starts[k : k + most] for k in range(0, len(starts), most)):
            for start, rates in zip(some, predict_from(net, rec, warmup, some, steps), strict=True):
                yield start, rates[..., : net.n]


def select_networks(candidates, rec, warmup, window):
    """Select, per replica, the network with the lowest free-running error on 20 training trials.

    candidates: {name: list of Network, one per replica}. Returns: list of Network, list of their names, and a dict
    {name: list of errors}, mean squared, one per replica.
    """
    some = rec.trials(slice(None, 20))
    errors = {name: [window_error(net, some, warmup, window) for net in nets] for name, nets in candidates.items()}
    names = [min(errors, key=lambda name, k=k: errors[name][k]) for k in range(len(next(iter(errors.values()))))]
    return [candidates[name][k] for k, name in enumerate(names)], names, errors
