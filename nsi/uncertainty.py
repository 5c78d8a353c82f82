"""How far to trust a fit: standard errors of its weights from the data alone.

Where neuron j is active the recording gives its input current, arctanh(r_j), and with the response units held at the
record that current is linear in what j receives:

    arctanh(r_j) = u @ W[:n, j] + s @ W[n:, j] + b_j + stimulus_j + noise        s: the input units' state

So, the input units' tuning given, least squares on the active samples has its information matrix at hand. No prior
enters: this estimate is noisier than the solved weights (nsi/solve.py), which the prior shrinks, but unbiased, so that
its standard errors are honest. An interval is *this* estimate +- 1.96 of them (the device of the desparsified lasso:
van de Geer et al. 2014, doi 10.1214/14-AOS1221). Samples are chosen by the predicted current, never by the recorded
rate, which would favour positive noise.

A standard error has two parts: the larger of the classical and the trial-clustered one (Angrist and Pischke 2009,
section 8.2), and what the input units' tuning, being fitted too, may do (nsi/misfit.py). Without pulses the recording
cannot tell the direct from the even path: the interval of a direct weight is then infinite, and `total` carries the
claim. With pulses it is the other way round, since what hidden neurons send to a silent neuron stays unknown.
"""

from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.blas import dsyrk
from scipy.linalg.lapack import dpotri

from nsi import losses
from nsi.connectivity import (
    correlation,
    effective_gate,
    even_map,
    gate,
    gate_map,
    hold,
    per_component,
    true_effective_gate,
    true_total,
)
from nsi.misfit import Nudges
from nsi.network import synaptic_state

RESOLVED = 1.5  # a weight is identifiable if its standard error is below this times the r.m.s. weight
LOW, HIGH = 0.1, 2.0  # predicted currents between which arctanh(r) is trusted
CLUSTERS = 20  # at least; fewer trials are cut
UNTOLD = 1.5  # of the even path's square, added to a direct weight's variance where alpha is a guess
LEAST, BLOCK = 4, 100  # neurons treated at a time, as many as their matrices have room for in a quarter of
ROOM = 1e9  # bytes
NEAR = 0.1  # share of a neuron's samples that may differ from another's whose inverse speaks for it
SEEN = 5000  # samples by which neurons' activities are compared


class Estimate(NamedTuple):
    """The unbiased estimate of the response weights and its standard errors; inf where the data do not reach."""

    W: np.ndarray  # (n, n)
    W_se: np.ndarray  # (n, n)
    total: np.ndarray  # (n, n), direct path and even part of the path through the input units together
    total_se: np.ndarray  # (n, n)
    gate: np.ndarray  # (D, n, n), the effective gate
    gate_se: np.ndarray  # (D, n, n), the input units' tuning given


class Regression(NamedTuple):
    """Least squares of arctanh(r) on x, one neuron at a time, about given coefficients (see `regress`).

    Samples are kept in single precision, and sums over them taken in double: weak directions of x need it.
    """

    x: torch.Tensor  # (samples, q) float32, samples in the order of trials and steps
    used: torch.Tensor  # (samples, n) bool: active, so that arctanh(r) tells the current
    e: torch.Tensor  # (samples, n) float32, residuals about the coefficients, 0 where not used
    starts: np.ndarray  # (clusters,), first sample of each piece of a trial
    order: np.ndarray  # (n,), neurons that are active together following each other

    def lowers(self):
        """Yields: each neuron j, in order, and the lower triangle of its information matrix, x[used[:, j]].T @
        x[used[:, j]], which is overwritten by the next.

        Neighbours are active together, so each matrix is the last one with the samples added or taken away that
        only one of the two has: a tenth of the work for a ring, a third for a torus.
        """
        x, used, q = self.x.numpy(), self.used.numpy(), self.x.shape[1]
        G, before = np.zeros((q, q), order="F"), np.zeros(len(x), bool)
        for j in self.order:
            now = used[:, j]
            if np.count_nonzero(now != before) > np.count_nonzero(now):
                G[:], before = 0.0, np.zeros(len(x), bool)
            for sign, changed in ((1.0, now & ~before), (-1.0, before & ~now)):
                dsyrk(sign, x[changed].astype(np.float64).T, beta=1.0, c=G, lower=True, overwrite_c=True)
            before = now
            yield j, G

    def informations(self):
        """Yields: each neuron j, in order, and its information matrix, (q, q) float64."""
        for j, G in self.lowers():
            yield j, torch.as_tensor(symmetric(G))

    def kept(self, fewest):
        """The information matrices of neurons that have so many samples, to go through more than once: kept where they
        take no more than ROOM bytes, else worked out anew. Returns: a function that yields each neuron and its matrix,
        (q, q) float64 arrays."""
        count, q = self.used.sum(0).numpy(), self.x.shape[1]
        every = lambda: ((j, G.numpy()) for j, G in self.informations() if count[j] >= fewest)  # noqa: E731
        if 8 * np.count_nonzero(count >= fewest) * q**2 > ROOM:
            return every
        kept = list(every())
        return lambda: iter(kept)

    def factors(self, fewest=0):
        """Yields: some neurons of those that have so many samples, as a list, and what `factored` makes of their
        matrices."""
        count, size = self.used.sum(0), int(np.clip(ROOM / 4 // (8 * self.x.shape[1] ** 2), LEAST, BLOCK))
        some = ((j, factored(G)) for j, G in self.lowers() if count[j] >= fewest)
        while block := list(islice(some, size)):
            yield [j for j, _ in block], [factor for _, factor in block]

    def told_by(self, neurons):
        """For neurons in this order, which of them have their inverse worked out, for those between as well: the first,
        the last, and each that differs from the one before in more than NEAR of its samples. Returns: (any,) bool."""
        used, told, last = self.used.numpy(), np.zeros(len(neurons), bool), None
        for k, j in enumerate(neurons):
            now = used[:, j]
            if last is None or np.count_nonzero(now != last) > NEAR * np.count_nonzero(now):
                told[k], last = True, now
        told[-1:] = True
        return told

    def scores(self):
        """x.T @ e, (q, n) float64."""
        return self.clusters(self.e).sum(0)

    def left(self, neurons, steps):
        """Residuals of some neurons (samples, k) after a step (q, k) of their coefficients, 0 where not used."""
        return torch.where(self.used[:, neurons], self.e[:, neurons] - self.x @ steps.float(), 0.0)

    def clusters(self, a):
        """Sums of x.T @ a within each cluster. a: (samples, k). Returns: (clusters, q, k) float64."""
        # numpy's products of so few columns take a quarter of torch's time
        pieces = zip(*(np.split(b.numpy(), self.starts[1:]) for b in (self.x, a)), strict=True)
        sums = [part.T.astype(np.float64) @ x.astype(np.float64) for x, part in pieces]
        return torch.as_tensor(np.stack(sums)).mT


def regress(coefficients, x, held):
    """Set up the regressions. coefficients: (regressors, n); x: (trials, steps, regressors). Returns: Regression."""
    trials, steps, q = x.shape
    pieces = max(1, -(-CLUSTERS // trials))
    starts = np.arange(trials)[:, None] * steps + np.arange(pieces) * steps // pieces
    x, r = torch.as_tensor(x.reshape(-1, q)).float(), torch.as_tensor(held.rates).flatten(0, 1).float()
    a = x @ torch.as_tensor(coefficients).float() + torch.as_tensor(held.known).flatten(0, 1)
    # above LOW noise does not silence a neuron; one that is silent all the same has no arctanh to offer
    used = (a > LOW) & (a < HIGH) & (r > 0) & (r < 0.9999) & torch.as_tensor(held.valid).flatten()[:, None]
    e = torch.where(used, losses.inverse(r) - a, 0.0)
    return Regression(x, used, e, starts.ravel(), neighbours(used[:: max(1, len(used) // SEEN)].numpy()))


def neighbours(active):
    """An order of neurons in which each is followed by the one, of those left, whose active samples differ the least.

    active: (samples, n) bool. Returns: (n,) indices.
    """
    active = active.astype(np.float32)
    differ = active.sum(0)[:, None] + active.sum(0) - 2 * active.T @ active
    order, left = [0], np.arange(1, len(differ))
    while len(left):
        closest = np.argmin(differ[order[-1], left])
        order.append(left[closest])
        left = np.delete(left, closest)
    return np.array(order)


def nuisances(net, held, rec):
    """What else may move the current where a stimulus tells it apart from the direct path (else: nothing).

    A further synapse's delay (u filtered once more), and the input units' tangents: how their state changes with
    each one's threshold and velocity weight. Without a stimulus the bump's motion makes these stand in for u itself.
    Returns: (trials, steps, any).
    """
    if rec.stimulus is None or len(net.b) == net.n:
        return held.x[..., :0]
    raw = [held.x[..., : net.n], held.slopes] + [
        held.slopes * held.velocity[..., d : d + 1] for d in range(held.velocity.shape[-1])
    ]
    return np.concatenate([synaptic_state(a, net.alpha) for a in raw], -1)


def estimate(net, rec, timed=True, seen=None):
    """The unbiased estimate about a net, best one trained on with the response units held.

    timed: whether its alpha is known. Where it is a guess, so is the synapse's delay by which pulses tell the direct
    path from the even one, and the size of the latter counts as an error of the former. seen: called with how many
    neurons have just been worked out. Returns: Estimate.
    """
    held, n, size = hold(net, rec), net.n, len(net.b)
    extra = nuisances(net, held, rec)
    x = np.concatenate([held.x, extra], -1) if extra.shape[-1] else held.x
    start = np.concatenate([net.W[:, :n], net.b[None, :n], np.zeros((extra.shape[-1], n), np.float32)])
    even = even_map(held, n)  # (n, input units)
    paths = gate_map(net, held)  # (D, n, input units): effective gate = paths @ W[inp, resp]
    data = regress(start, x, held)
    score, count, q = data.scores(), data.used.sum(0), x.shape[-1]
    W, total = net.W[:n, :n].astype(np.float64), net.W[:n, :n] + even @ net.W[n:, :n]
    gates = (paths @ net.W[n:, :n]).astype(np.float64)
    nudges, onto = Nudges(net, rec, held, data, even, paths), torch.as_tensor(np.stack([even, *paths]))
    known = [j for j in data.order if count[j] >= 2 * q]
    told, plain = dict(zip(known, data.told_by(known), strict=True)), {}
    robust, noise = np.full((2 + len(paths), n, n), np.inf), np.zeros(n)
    for index, factors in data.factors(2 * q):
        solved = partial(solve_each, factors)
        steps = solved(score[:, index])  # (q, some)
        e = data.left(index, steps)
        nudges.add(index, solved, e)
        clusters = solved(data.clusters(e).movedim(0, 1))  # (q, clusters, some)
        clusters *= np.sqrt(clusters.shape[1] / max(1, clusters.shape[1] - 1))
        step, noise[index] = steps[:size].numpy(), e.square().sum(0) / (count[index] - q)
        for k, j in enumerate(index):
            robust[..., j] = mapped(clusters[..., k], onto).square().sum(-1)
            if told[j]:
                plain[j] = variances(inverse(factors[k]), onto).numpy()
        W[:, index] += step[:n]
        total[:, index] += step[:n] + even @ step[n:]
        gates[:, :, index] += paths @ step[n:]
        if seen:
            seen(len(index))
    # two variances, by trials and by the residuals', the latter vast where no sample reaches
    for j, its in between(plain, known):
        robust[..., j] = np.maximum(robust[..., j], noise[j] * its)
    se, total_se, gate_se = np.sqrt(robust[0]), np.sqrt(robust[1]), np.sqrt(robust[2:])
    more = nudges.variance()
    confused = 0.0 if timed else UNTOLD * (even @ net.W[n:, :n]) ** 2
    W_se, total_se = np.sqrt(se**2 + more.W + confused), np.sqrt(total_se**2 + more.total)
    return Estimate(W, W_se, total, total_se, gates, np.sqrt(gate_se**2 + more.gate))


def between(values, places):
    """Positive arrays at some of the places, continued to those between by the logarithm. values: {place: array}, with
    the first and the last; places: list. Yields: place, array."""
    before = None
    for k, place in enumerate(places):
        if place in values:
            before = k, values[place]
            yield place, values[place]
        else:
            after = next(m for m in range(k, len(places)) if places[m] in values)
            share = (k - before[0]) / (after - before[0])
            yield place, before[1] ** (1 - share) * values[places[after]] ** share


def mapped(coefficients, onto):
    """Coefficients (q, k) as direct weights, total and gates. onto: (1 + D, n, input units), what the input units do
    for total and gates. Returns: (2 + D, n, k)."""
    n, size = onto.shape[1], onto.shape[1] + onto.shape[2]
    direct, through = coefficients[:n], onto @ coefficients[n:size]
    return torch.cat([direct[None], direct[None] + through[:1], through[1:]])


def variances(covariance, onto):
    """Variances of `mapped` coefficients with this covariance (q, q). Returns: (2 + D, n)."""
    n, size = onto.shape[1], onto.shape[1] + onto.shape[2]
    direct, cross = covariance.diagonal()[:n], (onto[0] * covariance[:n, n:size]).sum(-1)
    through = ((onto.flatten(0, 1) @ covariance[n:size, n:size]).view_as(onto) * onto).sum(-1)
    return torch.cat([direct[None], (direct + 2 * cross + through[0])[None], through[1:]]).clamp(min=0)


def factored(G):
    """The Cholesky factor of an information matrix, of which the lower triangle is looked at, regularised so that its
    inverse is finite, though vast, where no sample reaches. Returns: what scipy's cho_solve takes."""
    G = G.copy(order="F")
    np.einsum("ii->i", G)[:] += 1e-9 * np.trace(G) / len(G) + 1e-30  # a neuron may have no sample at all
    return cho_factor(G, lower=True, overwrite_a=True, check_finite=False)


def solve_each(factors, sums):
    """The solutions of as many systems. factors: `factored`'s; sums: (q, ..., k), one side for each. Returns: the
    same."""
    each = [cho_solve(factor, sums[..., k].numpy(), check_finite=False) for k, factor in enumerate(factors)]
    return torch.as_tensor(np.stack(each, -1))


def inverse(factor):
    """The inverse of the matrix that `factored` has taken. Returns: (q, q) float64."""
    return torch.as_tensor(symmetric(dpotri(factor[0], lower=True)[0]))


def symmetric(lower):
    """A symmetric matrix by its lower triangle."""
    lower = np.tril(lower)
    return lower + np.tril(lower, -1).T


def identifiable(W, se):
    """Which weights the data determine: standard error below RESOLVED times the r.m.s. weight. Returns: (n, n) bool."""
    return se < RESOLVED * np.sqrt(np.mean(W**2))


def read_off(networks, rec, geometry, timed=True, seen=None):
    """What to read off a fit: the arrays of connectivity.npz.

    networks: those solved for, of which the first is read; rec: the training trials; timed: whether alpha is known, and
    not a guess; seen: as `estimate`'s. Returns: dict with W (n, n), the fitted weights; W_unbiased, W_se: the
    unbiased estimate that intervals are centred on, and its standard error; total, total_se: the same of direct and
    even path together, of which one is infinite (see above); gate, gate_se_at_alpha: of the effective gate, if
    alpha is right (not of a control), and gate_se, the same, but infinite where alpha is a guess, since the gate's
    size goes with it; identifiable, resolved (n, n) bool. With several networks also W_replicas_se and
    gate_replicas_se, the s.d. over them of W and of the gate as a product of weights, which with --bootstrap are
    standard errors too.
    """
    about = networks[0]
    n, several, hidden = about.n, len(networks) > 1, len(about.b) > about.n
    found = estimate(about, rec, timed, seen)._asdict()
    found = {"W": about.W[:n, :n], "W_unbiased": found.pop("W"), **found}
    told = rec.stimulus is not None or not hidden  # the direct path from the even one
    found["identifiable"] = identifiable(found["W"], found["W_se" if told else "total_se"])
    places = geometry.find(rec.rates[rec.valid])
    found["resolved"] = resolved(found["W_unbiased"], found["W_se"], found["identifiable"], geometry, places)
    if hidden:
        found["total_se" if told else "W_se"] = np.full((n, n), np.inf)
    if several:
        found["W_replicas_se"] = np.std([net.W[:n, :n] for net in networks], 0, ddof=1)
    if not hidden:  # no path through input units, no gate
        del found["gate"], found["gate_se"]
        return found
    found["gate_se_at_alpha"] = found["gate_se"]
    if not timed:
        found["gate_se"] = np.full_like(found["gate_se"], np.inf)
    if several:
        found["gate_replicas_se"] = np.std([gate(net) for net in networks], 0, ddof=1)
    return found


def resolved(W, se, known, geometry, places):
    """Weights of which the data say how they differ from the mean at their distance.

    Those whose standard error is below half the s.d. of single weights about their mean profile, which is what the
    scatter of the unbiased estimate W (n, n) has over its standard errors se; none where it has no more than they.
    known: (n, n) bool, identifiable; places: (n, D) rad. Returns: (n, n) bool.
    """
    known = known & ~np.eye(len(W), dtype=bool)
    apart = (W - geometry.mean_profile(W, places, known))[known]
    spread = np.mean(apart**2) - np.mean(se[known] ** 2) if known.any() else 0.0
    return known & (se < np.sqrt(max(spread, 0.0)) / 2)


def coverage(estimate, se, true, known):
    """Share of the finite 95 % intervals of the known entries that hold the true ones, or NaN. All (..., n, n)."""
    known = known & np.isfinite(se)
    return float(np.mean((np.abs(estimate - true) < 1.96 * se)[known])) if known.any() else np.nan


def path_measures(net, rec, truth):
    """The path through the input units as it acts, against the truth's.

    truth: recordings.load_truth's. Returns: dict with, as far as there is truth, `r_gate_effective`, `gate_slope` and
    `gate_error` (effective gate against the true circuit's own: correlation, slope of fitted on true, relative error,
    by `per_component`) and `frobenius_total` (direct and even path together).
    """
    result = {}
    if _has_gate(truth):
        effective, true = effective_gate(net, rec), _true_gate(truth, rec)
        size = lambda true: max(np.sum(true**2), 1e-30)  # noqa: E731
        measured = {
            "r_gate_effective": correlation,
            "gate_slope": lambda a, b: np.sum(a * b) / size(b),
            "gate_error": lambda a, b: np.sqrt(np.sum((a - b) ** 2) / size(b)),
        }
        result |= {name: per_component(measure, effective, true) for name, measure in measured.items()}
    if _is_whole(truth, rec):
        true = true_total(truth, rec.rates, net.alpha)
        result["frobenius_total"] = float(np.linalg.norm(_total(net, rec) - true) / np.linalg.norm(true))
    return result


def path_errors(net, rec, truth, found):
    """What the unbiased estimate says of that path. found: the arrays of connectivity.npz.

    Returns: dict with, as far as there is truth, `coverage_gate`, `coverage_total` and `r_total` (direct and even path
    together, over the identifiable weights); and `direct_share`, `direct_share_se`: how much of the fitted total the
    unbiased estimate finds in the direct path, by regression over the identifiable weights, or None without a stimulus,
    since then the recording cannot tell.
    """
    result, total = {"direct_share": None, "direct_share_se": None}, _total(net, rec)
    if _has_gate(truth):
        true = _true_gate(truth, rec)
        result["coverage_gate"] = coverage(found["gate"], found["gate_se"], true, np.full(true.shape, True))
    if _is_whole(truth, rec):
        true, known = true_total(truth, rec.rates, net.alpha), found["identifiable"]
        result["r_total"] = float(correlation(total[known], true[known]))
        result["coverage_total"] = coverage(found["total"], found["total_se"], true, known)
    known = found["identifiable"] & np.isfinite(found["W_se"])
    if rec.stimulus is not None and known.any():
        t, norm = total[known], np.sum(total[known] ** 2)
        result["direct_share"] = float(t @ found["W_unbiased"][known] / norm)
        result["direct_share_se"] = float(np.sqrt(t**2 @ found["W_se"][known] ** 2) / norm)
    return result


def _total(net, rec):
    """Direct and even path together, as the network has them. Returns: (n, n)."""
    return net.W[: net.n, : net.n] + even_map(hold(net, rec), net.n) @ net.W[net.n :, : net.n]


def _is_whole(truth, rec):
    """Whether a truth tells the weights of every neuron that there is."""
    known = {"W", "hidden_rates"} <= truth.keys()
    return known and len(truth["W"]) == rec.rates.shape[-1] + truth["hidden_rates"].shape[-1]


def _has_gate(truth):
    """Whether a truth tells a gate: a circuit may have none of first order."""
    return "gate" in truth and bool(truth["gate"].any())


def _true_gate(truth, rec):
    """The true circuit's effective gate, or where hidden neurons are not told, its product of weights."""
    return true_effective_gate(truth, rec) if _is_whole(truth, rec) and "W_in" in truth else truth["gate"]
