"""How far to trust a fit: standard errors of its weights from the data alone, and a convex refinement of them.

Where neuron j is active the recording gives its input current, arctanh(r_j), and with the response units held at the
record that current is linear in what j receives:

    arctanh(r_j) = u @ W[:n, j] + s @ W[n:, j] + b_j + stimulus_j + noise        s: the input units' state

So, the input units' tuning given, least squares on the active samples has its information matrix at hand. Three uses:

`polish` moves the trained response weights towards that solution, each as far as the data insist: a ridge whose
prior, centred on the trained weight, has an s.d. of PRIOR times the r.m.s. weight.
`estimate` drops the prior. Its estimate is noisier than the trained weights, which training shrinks towards few
dimensions, but unbiased, so that its standard errors are honest: an interval is *this* estimate +- 1.96 of them (the
device of the desparsified lasso: van de Geer et al. 2014, doi 10.1214/14-AOS1221).
`identifiable` calls a weight determined if its standard error is below RESOLVED times the r.m.s. weight.

Samples are chosen by the predicted current, never by the recorded rate, which would favour positive noise. Standard
errors are the larger of the classical and the trial-clustered ones (Angrist and Pischke 2009, section 8.2).
"""

from typing import NamedTuple

import numpy as np
import torch

import analysis

PRIOR = 0.1  # s.d. of a trained weight's error that `polish` expects, relative to the r.m.s. weight
RESOLVED = 1.5  # a weight is identifiable if its standard error is below this times the r.m.s. weight
LOW, HIGH = 0.1, 2.0  # predicted currents between which arctanh(r) is trusted
CLUSTERS = 20  # at least; fewer trials are cut
BLOCK = 25  # neurons treated at a time


class Estimate(NamedTuple):
    """The unbiased estimate of the response weights and its standard errors; inf where the data do not reach."""

    W: np.ndarray  # (n, n)
    W_se: np.ndarray  # (n, n)
    total: np.ndarray  # (n, n), direct path and even part of the path through the input units together
    total_se: np.ndarray  # (n, n)
    gate: np.ndarray  # (D, n, n), the effective gate
    gate_se: np.ndarray  # (D, n, n), the input units' tuning given


class Held(NamedTuple):
    """A network run with its response units held at the record, after the first steps."""

    x: np.ndarray  # (trials, steps, n + input units + 1): state of both, and 1
    slopes: np.ndarray  # (trials, steps, input units): phi'
    known: np.ndarray  # (trials, steps, n): stimulus, and velocity's current in the control
    velocity: np.ndarray  # (trials, steps, D)
    rates: np.ndarray  # (trials, steps, n)
    valid: np.ndarray  # (trials, steps) bool: recorded, not padding


def hold(fit, rec):
    """Run the input units along the record. Returns: Held, without the first 8 / alpha steps."""
    n, size = fit.n, len(fit.b)
    u = analysis.synaptic_state(rec.rates, fit.alpha)
    trials, steps, _ = u.shape
    x = np.ones((trials, steps, size + 1), np.float32)
    x[..., :n] = u
    slopes = np.zeros((trials, steps, size - n), np.float32)
    known = np.zeros_like(rec.rates) if rec.stimulus is None else rec.stimulus.copy()
    if size == n:
        known += rec.velocity @ fit.W_in
    else:
        s = np.zeros((trials, size - n), np.float32)
        driven = np.zeros((len(fit.W_in), size - n), np.float32)
        driven[:, size - n - fit.W_in.shape[1] :] = fit.W_in
        for t in range(steps):
            x[:, t, n:-1] = s
            rate = np.maximum(0, np.tanh(x[:, t, :-1] @ fit.W[:, n:] + fit.b[n:] + rec.velocity[:, t] @ driven))
            slopes[:, t] = (1 - rate**2) * (rate > 0)
            s = s + fit.alpha * (rate - s)
    settled = slice(min(int(np.ceil(8 / fit.alpha)), steps // 4), None)
    return Held(*(a[:, settled] for a in (x, slopes, known, rec.velocity, rec.rates, rec.valid)))


class Regression(NamedTuple):
    """Least squares of arctanh(r) on x, one neuron at a time, about given coefficients (see `regress`)."""

    x: torch.Tensor  # (samples, q) float64, samples in the order of trials and steps
    used: torch.Tensor  # (samples, n) bool: active, so that arctanh(r) tells the current
    e: torch.Tensor  # (samples, n) float64, residuals about the coefficients, 0 where not used
    starts: np.ndarray  # (clusters,), first sample of each piece of a trial
    order: np.ndarray  # (n,), neurons along the ring

    def informations(self):
        """Yields: each neuron j, in order, and its information matrix, x[used[:, j]].T @ x[used[:, j]].

        Neighbours are active together, so each matrix is the last one with the samples added or taken away that
        only one of the two has: a tenth of the work, for a ring.
        """
        G, before = torch.zeros(2 * (self.x.shape[1],), dtype=torch.float64), torch.zeros_like(self.used[:, 0])
        for j in self.order:
            now = self.used[:, j]
            if torch.count_nonzero(now != before) > torch.count_nonzero(now):
                G, before = torch.zeros_like(G), torch.zeros_like(before)
            changed = torch.nonzero(now != before).squeeze(1)
            x, sign = self.x[changed], 2.0 * now[changed].double() - 1
            G, before = G + x.T @ (x * sign[:, None]), now
            yield j, G

    def clusters(self, a):
        """Sums of x.T @ a within each cluster. a: (samples, k). Returns: (clusters, q, k)."""
        pieces = zip(*(torch.tensor_split(b, tuple(self.starts[1:])) for b in (self.x, a)), strict=True)
        return torch.stack([x.T @ part for x, part in pieces])


def regress(coefficients, x, held):
    """Set up the regressions. coefficients: (regressors, n); x: (trials, steps, regressors). Returns: Regression."""
    trials, steps, q = x.shape
    pieces = max(1, -(-CLUSTERS // trials))
    starts = np.arange(trials)[:, None] * steps + np.arange(pieces) * steps // pieces
    x, r = torch.as_tensor(x.reshape(-1, q)).double(), torch.as_tensor(held.rates).flatten(0, 1).double()
    a = x @ torch.as_tensor(coefficients).double() + torch.as_tensor(held.known).flatten(0, 1)
    # above LOW noise does not silence a neuron; one that is silent all the same has no arctanh to offer
    used = (a > LOW) & (a < HIGH) & (r > 0) & (r < 0.9999) & torch.as_tensor(held.valid).flatten()[:, None]
    e = torch.where(used, torch.arctanh(r.clamp(max=0.9999)) - a, 0.0)
    return Regression(x, used, e, starts.ravel(), np.argsort(analysis.place_on_ring(held.rates[held.valid])))


def polish(fit, rec):
    """Refine the weights onto the response units by the ridge of the module docstring. Returns: Fit."""
    held, n = hold(fit, rec), fit.n
    trained = np.concatenate([fit.W[:, :n], fit.b[None, :n]])
    variance = PRIOR**2 * np.mean(fit.W[:n, :n] ** 2)
    moved = trained.astype(np.float64)
    data = regress(trained, held.x, held)
    score, count = data.x.T @ data.e, data.used.sum(0)
    noise = data.e.square().sum(0) / count.clamp(min=1)
    for j, G in data.informations():
        if count[j] > len(G):
            prior = torch.full((len(G),), (noise[j] / variance).item(), dtype=torch.float64)
            prior[-1] *= 1e-3
            moved[:, j] += torch.linalg.solve(G + torch.diag(prior), score[:, j]).numpy()
    W, b = fit.W.copy(), fit.b.copy()
    W[:, :n], b[:n] = moved[:-1], moved[-1]
    return fit._replace(W=W, b=b)


def nuisances(fit, held, rec):
    """What else may move the current where a stimulus tells it apart from the direct path (else: nothing).

    A further synapse's delay (u filtered once more), and the input units' tangents: how their state changes with
    each one's threshold and velocity weight. Without a stimulus the bump's motion makes these stand in for u itself.
    Returns: (trials, steps, any).
    """
    if rec.stimulus is None or len(fit.b) == fit.n:
        return held.x[..., :0]
    raw = [held.x[..., : fit.n], held.slopes] + [
        held.slopes * held.velocity[..., d : d + 1] for d in range(held.velocity.shape[-1])
    ]
    return np.concatenate([analysis.synaptic_state(a, fit.alpha) for a in raw], -1)


def estimate(fit, rec):
    """The unbiased estimate about a fit, best one trained on with the response units held. Returns: Estimate."""
    held, n, size = hold(fit, rec), fit.n, len(fit.b)
    extra = nuisances(fit, held, rec)
    x = np.concatenate([held.x, extra], -1)
    start = np.concatenate([fit.W[:, :n], fit.b[None, :n], np.zeros((extra.shape[-1], n), np.float32)])
    even = even_map(held, n)  # (n, input units)
    rows = np.concatenate([np.eye(n), even], 1)  # total = rows @ W[:, resp]
    paths = gate_map(fit, held)  # (D, n, input units): effective gate = paths @ W[inp, resp]
    data = regress(start, x, held)
    score, count, q = data.x.T @ data.e, data.used.sum(0), x.shape[-1]
    W, total = fit.W[:n, :n].astype(np.float64), rows @ fit.W[:, :n]
    gate = (paths @ fit.W[n:, :n]).astype(np.float64)
    se, total_se, gate_se = (np.full(a.shape, np.inf) for a in (W, total, gate))
    known = [(j, regularised_inverse(G)) for j, G in data.informations() if count[j] >= 2 * q]
    for some in (known[i : i + BLOCK] for i in range(0, len(known), BLOCK)):  # of neurons, as memory allows
        index = [j for j, _ in some]
        steps = torch.stack([inverse @ score[:, j] for j, inverse in some], 1)  # (q, some)
        e = torch.where(data.used[:, index], data.e[:, index] - data.x @ steps, 0.0)
        clusters = data.clusters(e)
        for k, (j, inverse) in enumerate(some):
            # two covariances as squares of these: by trials, and by the residuals' variance
            roots = inverse @ clusters[:, :, k].T * np.sqrt(len(clusters) / max(1, len(clusters) - 1))
            classical = inverse * (e[:, k].square().sum() / (count[j] - q))  # vast where no sample reaches

            def error(linear, roots=roots[:size], classical=classical[:size, :size]):  # of linear @ coefficients
                linear = torch.as_tensor(linear, dtype=torch.float64)
                robust = (linear @ roots).square().sum(-1)
                return torch.maximum(robust, ((linear @ classical) * linear).sum(-1)).clamp(min=0).sqrt().numpy()

            step = steps[:size, k].numpy()
            W[:, j] += step[:n]
            total[:, j] += rows @ step
            gate[:, :, j] += paths @ step[n:]
            se[:, j], total_se[:, j] = error(np.eye(n, size)), error(rows)
            for d, path in enumerate(paths):
                gate_se[d, :, j] = error(np.concatenate([np.zeros((n, n)), path], 1))
    return Estimate(W, se, total, total_se, gate, gate_se)


def regularised_inverse(G):
    """The inverse of an information matrix, finite, though vast, where no sample reaches."""
    return torch.linalg.inv(G + 1e-9 * G.diagonal().mean() * torch.eye(len(G), dtype=G.dtype))


def identifiable(W, se):
    """Which weights the data determine: standard error below RESOLVED times the r.m.s. weight. Returns: (n, n) bool."""
    return se < RESOLVED * np.sqrt(np.mean(W**2))


# ---- what the path through the input units does -----------------------------------------------------------------


def onto_state(u, y, ridge=1e-2):
    """The linear map that best takes the state u (..., n) to y (..., m), its unseen directions left at 0. (n, m)."""
    u, y = (a.reshape(int(np.prod(a.shape[:-1])), a.shape[-1]) for a in (u, y))
    cov = (u.T @ u).astype(np.float64) / len(u)
    cov += ridge * np.linalg.eigvalsh(cov)[-1] * np.eye(len(cov))
    return np.linalg.solve(cov, (u.T @ y).astype(np.float64) / len(u))


def even_map(held, n):
    """Mean state of the input units as a linear function of the response units' state. Returns: (n, input units)."""
    x = held.x[held.valid]
    return onto_state(x[:, :n], x[:, n:-1])


def even_path(fit, rec):
    """The even part of the path through the input units, as weights: what they send whatever the velocity. (n, n).

    Together with W[resp, resp] it makes up what one compass neuron does to another.
    """
    return even_map(hold(fit, rec), fit.n) @ fit.W[fit.n :, : fit.n]


def effective_gate(fit, rec):
    """What velocity adds to the weights: d current / d velocity as a linear function of the response units' state.

    Unlike the product of weights (analysis.gate) it counts an input unit only while it is active, so that its size can
    be compared between networks. Returns: (D, n, n).
    """
    return gate_map(fit, hold(fit, rec)) @ fit.W[fit.n :, : fit.n]


def gate_map(fit, held):
    """What takes W[inp, resp] to the effective gate. Returns: (D, n, input units)."""
    active = onto_state(held.x[held.valid][:, : fit.n], held.slopes[held.valid])  # (n, input units)
    driven = np.zeros((len(fit.W_in), len(fit.b) - fit.n))
    if driven.size:
        driven[:, driven.shape[1] - fit.W_in.shape[1] :] = fit.W_in
    return active * driven[:, None]


def path_measures(fit, rec, truth, found):
    """The path through the input units as it acts, and what it shares with the direct path.

    Returns: dict with `r_gate_effective` and `gate_slope` (effective gate against the true gate, its correlation and
    regression), `r_total` and `frobenius_total` (direct and even path together, against the truth's), as far as there
    is truth; and `direct_share`, `direct_share_se`: how much of the fitted total the unbiased estimate finds in the
    direct path, by regression over the identifiable weights, or None without a stimulus, since then the recording
    cannot tell.
    """
    n, result = fit.n, {}
    held = hold(fit, rec)
    total = fit.W[:n, :n] + even_map(held, n) @ fit.W[n:, :n]
    if "gate" in truth:
        effective, true = effective_gate(fit, rec), truth["gate"]
        result["r_gate_effective"] = float(analysis.correlation(effective, true))
        result["gate_slope"] = float(np.sum(effective * true) / max(np.sum(true**2), 1e-30))
    if {"W", "hidden_rates"} <= truth.keys() and len(truth["W"]) == n + truth["hidden_rates"].shape[-1]:
        true = true_total(truth, rec.rates, fit.alpha)
        result["frobenius_total"] = float(np.linalg.norm(total - true) / np.linalg.norm(true))
        if found is not None:
            result["r_total"] = float(analysis.correlation(total[found["identifiable"]], true[found["identifiable"]]))
    if found is not None:
        known = found["identifiable"] & np.isfinite(found["W_se"])
        result["direct_share"] = result["direct_share_se"] = None
        if rec.stimulus is not None and known.any():
            t, norm = total[known], np.sum(total[known] ** 2)
            result["direct_share"] = float(t @ found["W"][known] / norm)
            result["direct_share_se"] = float(np.sqrt(t**2 @ found["W_se"][known] ** 2) / norm)
    return result


def true_total(truth, rates, alpha):
    """What a simulated circuit's neurons do to each other, directly and through hidden ones, as weights. (n, n)."""
    W, hidden, n = truth["W"], truth["hidden_rates"], rates.shape[-1]
    if hidden.shape[-1] == 0:
        return W[:n, :n]
    u = analysis.synaptic_state(np.concatenate([rates, hidden], -1), alpha)[:, 50:]
    return W[:n, :n] + onto_state(u[..., :n], u[..., n:]) @ W[n:, :n]
