"""Intervals that hold: calibrated by a parametric bootstrap (Efron and Tibshirani 1993, chapter 6).

The standard errors of a regression know of noise, not of what its signals get wrong. So the fitted circuit itself,
recorded neurons and copies, noise in all of them, is simulated with the recording's own velocity and stimulus, and
estimated as the recording was. There the truth is known: the 95th percentile of |estimate - truth| / standard error, in
the place of 1.96, is what intervals must be multiplied by. What a real circuit's hidden neurons have of their own, and
copies have not, shows in the residuals as a part that changes slowly; the copies' incoming weights are jittered by as
much as brings the simulated residuals to the same. No constant is set by looking at coverage.
"""

from dataclasses import replace

import numpy as np

from nsi import response
from nsi.estimation.signals import state_of

NORMAL = 1.96  # 97.5th percentile of the normal distribution
PERCENTILE = 95
JITTER = 0.2  # relative, of the copies' incoming weights in the simulation by which their jitter is found
MOST_JITTER = 1.0
JITTER_TRIALS = 24  # that it is found on
SLOW_LAGS = 4, 16  # steps, at which noise through a synapse has mostly been predicted and misfit is still there


class Simulated:
    """A recording simulated from a fit, and its truth."""

    def __init__(self, fit, weights, noise, seed=0, jitter=0.0, trials=slice(None)):
        """fit: estimation.Fit; weights: (q, n), of its signals; noise: s.d. of every neuron's current; jitter: relative,
        of the copies' incoming weights; trials: which of the recording's."""
        rec, alpha, chosen = fit.rec.trials(trials), fit.kinetics.alpha, fit.kinetics.response
        rng, n = np.random.default_rng(seed), fit.rec.rates.shape[-1]
        count, steps = rec.rates.shape[:2]
        blocks = {(b.name, b.component): weights[b.columns].astype(np.float32) for b in fit.signals.blocks}
        V, self.fit, self.blocks = fit.directions, fit, blocks
        self.sheets = [(c, V @ w) for (name, c), w in blocks.items() if name == "copies"]
        kernels = None
        if self.sheets:
            kernel = fit.copies.kernel(fit.geometry, fit.places)
            varied = lambda: kernel * (1 + jitter * rng.standard_normal(kernel.shape)) if jitter else kernel  # noqa: E731
            kernels = np.concatenate([varied() for _ in self.sheets], 1).astype(np.float32)
            sent = np.concatenate([out for _, out in self.sheets])
        W, b = blocks["direct", ()], weights[-1].astype(np.float32)
        path, gates = blocks.get(("path", ())), {c: w for (name, c), w in blocks.items() if name == "gate"}
        products = {c: w for (name, c), w in blocks.items() if name == "products"}
        driven, hidden = blocks.get(("driven", ())), fit.kinetics.mechanism == "hidden neurons"
        settle = int(np.ceil(8 / alpha))
        u = (chosen.scale * rec.rates[:, 0]).astype(np.float32)
        s = np.zeros((count, n * len(self.sheets)), np.float32)
        f = u @ V
        g = {c: np.zeros_like(f) for c in gates}
        rates = np.empty((count, steps, n), np.float32)
        self.hidden = np.empty((count, steps, s.shape[1]), np.float32)
        for t in range(-settle, steps):
            v = rec.velocity[:, max(t, 0)] if t >= 0 else np.zeros_like(rec.velocity[:, 0])
            x = u @ W + b + noise * rng.standard_normal(u.shape, np.float32)
            z = u @ V
            if t >= 0 and rec.stimulus is not None:
                x += rec.stimulus[:, t]
            if driven is not None:
                x += v @ driven
            if hidden:
                x += f @ path
                for c, w in gates.items():
                    x += g[c] @ w
                    g[c] += np.float32(alpha) * (v[:, c[0], None] * z - g[c])
                f += np.float32(alpha) * (z - f)
            else:
                for c, w in gates.items():
                    x += (v[:, c[0], None] * z) @ w
                for (d, e), w in products.items():
                    x += (v[:, d, None] * v[:, e, None] * z) @ w
            if self.sheets:
                x += s @ sent
                received = u @ kernels - np.float32(fit.copies.threshold)
                for k, ((d, sign), _) in enumerate(self.sheets):
                    received[:, k * n : (k + 1) * n] += np.float32(sign * fit.copies.drive) * v[:, d, None]
                h = response.phi(received + noise * rng.standard_normal(received.shape, np.float32)).astype(np.float32)
                s += np.float32(alpha) * (h - s)
                if t >= 0:
                    self.hidden[:, t] = h
            r = chosen.phi(x).astype(np.float32)
            u = u + np.float32(alpha) * (r - u)
            if t >= 0:
                rates[:, t] = r
        rates /= np.float32(chosen.scale)
        rates[~rec.valid] = 0
        self.recording, self.W, self.path, self.gates = replace(rec, rates=rates), W, path, gates

    def truth(self, refit):
        """W, total and each gate of the simulated circuit, as a refit of it would read them. refit: Fit of it.

        Returns: list of (n, n)."""
        alpha, V, valid = self.fit.kinetics.alpha, self.fit.directions, self.recording.valid[:, refit.signals.first :]
        late = lambda a: a[:, refit.signals.first :][valid]  # noqa: E731
        total = self.W.astype(np.float64).copy()
        gates = np.zeros((self.recording.velocity.shape[-1], *total.shape))
        n = len(total)
        if self.path is not None:
            u = state_of(np.float32(self.fit.kinetics.response.scale) * self.recording.rates, alpha)
            total += refit.project(late(state_of(u @ V, alpha))) @ self.path
        for (d, _), w in self.gates.items():
            gates[d] += V @ w
        for k, ((d, sign), sent) in enumerate(self.sheets):
            h = self.hidden[..., k * n : (k + 1) * n]
            total += refit.project(late(state_of(h, alpha))) @ sent
            gates[d] += sign * self.fit.copies.drive * refit.project(late(response.slope(h))) @ sent
        return [self.W, total, *gates]


def slow_part(fit):
    """Mean covariance of residuals some steps apart, relative to their variance: what no noise explains."""
    e, used, _ = fit.residuals()
    total, low, high = 0.0, *SLOW_LAGS
    for lag in range(low, min(high, e.shape[1] - 1)):
        both = used[:, lag:] & used[:, :-lag]
        total += float((e[:, lag:] * e[:, :-lag] * both).sum(dtype=np.float64)) / max(1, both.sum())
    square = float((e.astype(np.float64) ** 2).sum()) / max(1, used.sum())
    return total / (high - low) / max(square, 1e-30)


def noise_of(fit, weights, variance):
    """S.d. of every neuron's own noise: the residual's, less what hidden neurons' noise adds that cannot be foreseen."""
    return float(np.sqrt(np.nanmedian(variance)))


def find_jitter(fit, refit, weights, noise, seed=0):
    """The jitter of the copies' incoming weights under which simulated residuals have the recording's slow part.

    refit: called with a Recording, gives its Fit. Returns: relative jitter."""
    if not any(b.name == "copies" for b in fit.signals.blocks):
        return 0.0
    some = slice(None, None, max(1, len(fit.rec.rates) // JITTER_TRIALS))
    seen = slow_part(fit)
    even, uneven = (
        slow_part(refit(Simulated(fit, weights, noise, seed, jitter, some).recording)) for jitter in (0.0, JITTER)
    )
    if uneven <= even:
        return 0.0
    return float(np.clip(JITTER * np.sqrt(max(0.0, seen - even) / (uneven - even)), 0.0, MOST_JITTER))


def calibrate(fit, refit, weights, variance, seed=0):
    """The factors of the standard errors of W, total and gate.

    fit: Fit of the recording; refit: called with a Recording, gives its Fit; weights: (q, n), the best estimate;
    variance: (n,), of the residual. Returns: dict of factors, and of what the simulated recording had."""
    noise = noise_of(fit, weights, variance)
    jitter = find_jitter(fit, refit, weights, noise, seed)
    simulated = Simulated(fit, weights, noise, seed + 1, jitter)
    again = refit(simulated.recording)
    plain, true = again.unbiased(), simulated.truth(again)
    off = ~np.eye(len(true[0]), dtype=bool)
    read = [L @ plain.weights for L in again.maps]
    z = [np.abs(a - b) / se for a, b, se in zip(read, true, plain.se, strict=True)]
    kinds = {"W": z[0][off], "total": z[1][off], "gate": np.concatenate([one.ravel() for one in z[2:]])}
    factors, coverage = {}, {}
    for name, values in kinds.items():
        values = values[np.isfinite(values)]
        factors[name] = float(np.percentile(values, PERCENTILE) / NORMAL) if len(values) else 1.0
        coverage[name] = float(np.mean(values < NORMAL)) if len(values) else None
    return {
        "factors": factors, "coverage": coverage, "jitter": jitter, "noise": noise, "slow_part": slow_part(fit),
        "slow_part_simulated": slow_part(again), "residual": float(np.sqrt(np.nanmedian(variance))),
        "residual_simulated": float(np.sqrt(np.nanmedian(plain.variance))),
    }  # fmt: skip
