"""Hidden units compared with hidden neurons, where a simulation or an experiment kept these.

Hidden units are matched one to one with the hidden neurons of their kind, driven or not, so that the correlations of
their rates on training trials add up to the most, and compared on held-out trials, the recorded units clamped. The
baseline is a linear map from the recorded activity: a hidden neuron that copies recorded ones needs no circuit.
"""

import numpy as np

from nsi import recordings
from nsi.network import predict_hidden, synaptic_state
from nsi.sums import correlation, draw_samples

SETTLING_STEPS = 50  # steps of a trial that are left out: the hidden units start at rest
MAX_TRIALS = 40  # of the training trials, enough for a match
MAX_SAMPLES = 10_000  # of these, and of the held-out ones
RIDGE = 1e-4  # of a linear map, relative to the mean variance


def measures(net, rec, truth):
    """All measures of `of_hidden` and `blocks`, as far as there are hidden neurons to compare with.

    truth: dict with keys W, hidden_rates, of recordings.load_truth."""
    neurons, driven = truth.get("hidden_rates"), None
    if neurons is None or not neurons.shape[-1]:
        neurons = truth.get("held_out_rates")
    elif "W_in" in truth and truth["W_in"].shape[-1] == net.n + neurons.shape[-1]:
        driven = (truth["W_in"][:, net.n :] != 0).any(0)
    if neurons is None or not neurons.shape[-1]:
        return {}
    result = of_hidden(net, rec, neurons, driven)
    pairs = result.pop("pairs", None)
    whole = driven is not None and pairs is not None and len(truth.get("W", ())) == net.n + len(driven)
    return result | (blocks(net, truth["W"], pairs) if whole else {})


def of_hidden(net, rec, neurons, driven=None):
    """Hidden units against hidden neurons.

    net: Network; rec: all trials; neurons: (trials, steps, M) rates; driven: (M,) bool, which of the neurons are, or
    None where it is unknown. Returns: dict of `r_match` (mean correlation, one to one), `r2_hidden` (variance explained
    one to one, each neuron's scale and offset from training trials), `r2_hidden_linear` (by a linear map from the
    hidden units of its kind) and `r2_hidden_baseline` (by one from what was recorded: u, v and v * u); r_match_response
    and r_match_input, of either kind, where there are both; `pairs`, (units, neurons) indices among the hidden ones.
    """
    hidden = recordings.Recording(neurons, rec.velocity, rec.dt, lengths=rec.lengths)
    parts = zip(recordings.split(rec)[:2], recordings.split(hidden)[:2], (MAX_TRIALS, None), strict=True)
    each = (_samples(net, a.trials(slice(most)), b.trials(slice(most))) for a, b, most in parts)
    x, observed, y = zip(*each, strict=True)  # each of training and held-out trials
    kinds = {"": (np.ones(x[0].shape[1], bool), np.ones(neurons.shape[-1], bool))}
    if driven is not None:
        kinds = {"response": (~net.driven_hidden, ~driven), "input": (net.driven_hidden, driven)}
    pairs, r, of_kind = [], [], {}
    predicted = {name: np.full_like(y[1], np.nan) for name in ("r2_hidden", "r2_hidden_linear")}
    for name, both in kinds.items():
        ours, theirs = map(np.flatnonzero, both)
        if not (len(ours) and len(theirs)):
            continue
        a, b, _ = match_units(x[0][:, ours], y[0][:, theirs])
        a, b = ours[a], theirs[b]
        pairs.append(np.stack([a, b], 1))
        r.append(np.nan_to_num([correlation(p, q) for p, q in zip(x[1][:, a].T, y[1][:, b].T, strict=True)]))
        of_kind[f"r_match_{name}"] = float(r[-1].mean())
        predicted["r2_hidden"][:, b] = _lines(x[0][:, a], y[0][:, b])(x[1][:, a])
        predicted["r2_hidden_linear"][:, theirs] = _map(x[0][:, ours], y[0][:, theirs])(x[1][:, ours])
    if not r:
        return {}
    result = {"r_match": float(np.concatenate(r).mean())} | (of_kind if len(r) > 1 else {})
    for name, rates in predicted.items():
        known = ~np.isnan(rates[0])
        result[name] = explained(rates[:, known], y[1][:, known])
    baseline = explained(_map(observed[0], y[0])(observed[1]), y[1])
    return result | {"r2_hidden_baseline": baseline, "pairs": np.concatenate(pairs)}


def blocks(net, W, pairs):
    """The four blocks of W against the truth, after the match, and with each hidden unit's scale taken out.

    A hidden unit may be scaled, what it receives by c and what it sends by 1 / c, and nothing recorded changes: so
    each one's column or row is correlated on its own. W: (M, M) the truth's; pairs: `of_hidden`'s.
    Returns: dict of `r_W_recorded`, `r_W_to_hidden`, `r_W_from_hidden`, `r_W_among_hidden`, where both vary.
    """
    n = net.n
    ours, theirs = n + pairs[:, 0], n + pairs[:, 1]
    columns = [correlation(net.W[:n, i], W[:n, j]) for i, j in zip(ours, theirs, strict=True)]
    rows = [correlation(net.W[i, :n], W[j, :n]) for i, j in zip(ours, theirs, strict=True)]
    among = [correlation(net.W[ours, i], W[theirs, j]) for i, j in zip(ours, theirs, strict=True)]
    mean = lambda r: float(np.nanmean(r)) if np.isfinite(r).any() else np.nan
    return {
        "r_W_recorded": float(correlation(net.W[:n, :n], W[:n, :n])), "r_W_to_hidden": mean(columns),
        "r_W_from_hidden": mean(rows), "r_W_among_hidden": mean(among),
    }  # fmt: skip


def agreement(networks, rec):
    """Correlation of hidden units between networks, those of each matched one to one with the first's.

    networks: replicas, each from its own start; rec: some trials. Returns: mean correlation over pairs and networks, or
    None for one network: where networks disagree, the recording does not determine the hidden neurons.
    """
    if len(networks) < 2 or len(networks[0].b) == networks[0].n:
        return None
    late = rec.valid & settled(rec)
    first, *others = [(predict_hidden(net, rec)[late], net.driven_hidden) for net in networks]
    r = []
    for other in others:
        for kind in (False, True):
            a, b = (x[:, driven == kind] for x, driven in (first, other))
            if a.shape[1] and b.shape[1]:
                r.append(match_units(a, b)[2])
    return float(np.concatenate(r).mean())


def explained(predicted, true):
    """Share of the variance explained, summed over neurons, NaN where there is none. predicted, true: (samples,
    neurons)."""
    total = np.sum((true - true.mean(0)) ** 2)
    return float(1 - np.sum((predicted - true) ** 2) / total) if total > 0 else np.nan


def settled(rec):
    """Steps by which the hidden units have forgotten their start, of short trials the last three quarters. (steps,)"""
    return np.arange(rec.rates.shape[1]) >= min(SETTLING_STEPS, rec.rates.shape[1] // 4)


def _samples(net, rec, hidden):
    """Rates of the hidden units, what was observed (u, v, v * u), and rates of the hidden neurons: (samples, any), of
    MAX_SAMPLES drawn where there are more."""
    rows, state = draw_samples(rec.valid & settled(rec), MAX_SAMPLES), synaptic_state(rec.rates, net.alpha)
    u, v, units, neurons = (
        a.reshape(-1, a.shape[-1])[rows] for a in (state, rec.velocity, predict_hidden(net, rec, state), hidden.rates)
    )
    observed = np.concatenate([u, v, *(u * v[:, d : d + 1] for d in range(v.shape[-1]))], -1)
    return units.astype(float), observed, neurons.astype(float)


def _map(x, y):
    """A linear map with offset from x (samples, a) to y (samples, b). Returns: a function of x."""
    at, to = x.mean(0, dtype=float), y.mean(0, dtype=float)
    centred = x - at
    C = centred.T @ centred / len(x)
    B = np.linalg.solve(C + RIDGE * max(np.trace(C) / len(C), 1e-12) * np.eye(len(C)), centred.T @ (y - to) / len(x))
    return lambda z: (z - at) @ B + to


def _lines(x, y):
    """The least-squares line of each column of y on that of x, (samples, k) both. Returns: a function of x."""
    at, to = x.mean(0), y.mean(0)
    slope = np.mean((x - at) * (y - to), 0) / np.maximum(x.var(0), 1e-9)
    return lambda z: to + slope * (z - at)


def match_units(rates, neurons):
    """Match units to neurons one to one so that the correlations of their rates add up to the most.

    rates: (..., units); neurons: (..., neurons). Returns: unit indices, neuron indices, their correlations.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import

    x, y = (a.reshape(-1, a.shape[-1]).astype(np.float64) for a in (rates, neurons))
    x, y = (a - a.mean(0) for a in (x, y))
    x, y = (a / (np.sqrt((a**2).sum(0)) + 1e-12) for a in (x, y))
    correlation = x.T @ y
    units, matched = linear_sum_assignment(-correlation)
    return units, matched, correlation[units, matched]
