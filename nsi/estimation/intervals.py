"""Intervals that hold: calibrated by a parametric bootstrap (Efron and Tibshirani 1993, chapter 6).

The standard errors of a regression know of noise, not of what its signals get wrong. So the fitted circuit itself,
recorded neurons and copies, noise in all of them, is simulated with the recording's own velocity and stimulus, and
estimated as the recording was. There the truth is known: the 95th percentile of |estimate - truth| / standard error, in
the place of 1.96, is what intervals are multiplied by.

Copies are as many as recorded neurons, or half. Of fewer real ones each sends more, and more of its noise; so theirs is
scaled to what the innovations of the recording predict of its currents, relative to those of a simulation.

Real hidden neurons differ from each other, copies do not. What the evidence finds of it, deviations of the copies'
outgoing weights relative to their profile, stands for the deviations of incoming and outgoing weights together; half of
that variance is given to the simulated copies' incoming weights, in which the estimate cannot follow it.
"""

from copy import copy
from dataclasses import replace

import numpy as np

from nsi import response
from nsi.estimation.fitting import Pilot, projected_samples
from nsi.estimation.regression import NORMAL
from nsi.estimation.signals import NEGLIGIBLE

PERCENTILE = 95
CALIBRATION_NEURONS = 100  # at most, whose weights the percentile is taken of
MOST_JITTER = 1.0  # relative
MOST_HIDDEN_NOISE = 5.0  # of the copies, relative to recorded neurons'
FLUSH_STEPS = 16  # after which negligible states of silent neurons, which slow a processor down, are set to 0
MAX_RATE = 10.0  # times the highest recorded one, beyond which a simulated circuit has diverged


class Simulated:
    """A recording simulated from a fit, and its truth."""

    def __init__(self, fit, weights, noise, seed=0, jitter=0.0, hidden_noise=None, clamp=None):
        """fit: estimation.Fit; weights: (q, n), of its signals; noise: s.d. of every neuron's current; jitter: relative
        s.d., of the copies' incoming weights; hidden_noise: s.d. of the copies' current (default: noise);
        clamp: called with the step and its rates, gives those that are."""
        hidden_noise = noise if hidden_noise is None else hidden_noise
        rec, alpha, chosen = fit.rec, fit.kinetics.alpha, fit.kinetics.response
        rng, n = np.random.default_rng(seed), fit.rec.rates.shape[-1]
        count, steps = rec.rates.shape[:2]
        blocks = {(b.name, b.component): weights[b.columns].astype(np.float32) for b in fit.blocks}
        V, self.fit, self.blocks = fit.directions, fit, blocks
        self.sheets = [(c, w) for (name, c), w in blocks.items() if name == "copies"]
        kernels = self.kernels = None
        if self.sheets:
            kernel = fit.copies.kernel(fit.geometry, fit.places)
            varied = lambda: kernel * (1 + jitter * rng.standard_normal(kernel.shape)) if jitter else kernel
            self.kernels = [varied().astype(np.float32) for _ in self.sheets]
            kernels = np.concatenate(self.kernels, 1)
            coupling = fit.copies.coupling(fit.geometry, fit.places)
            states = np.zeros((len(self.sheets), count, n), np.float32)  # of the copies, where they excite each other
        W, b = blocks["direct", ()], weights[-1].astype(np.float32)
        path, gates = blocks.get(("path", ())), {c: w for (name, c), w in blocks.items() if name == "gate"}
        products = {c: w for (name, c), w in blocks.items() if name == "products"}
        driven, hidden = blocks.get(("driven", ())), fit.kinetics.mechanism == "hidden neurons"
        settle = int(np.ceil(8 / alpha))
        u = (chosen.scale * rec.rates[:, 0]).astype(np.float32)
        s = np.zeros((len(self.sheets), count, V.shape[1]), np.float32)  # what the copies send, in the directions V
        f = u @ V
        g, p = ({c: np.zeros_like(f) for c in some} for some in (gates, products))
        rates = np.empty((count, steps, n), np.float32)
        shown = projected_samples(rec.valid, fit.first)
        row = np.cumsum(shown).reshape(shown.shape) - 1
        # in the directions V, at the samples that truth is projected on: the copies' slopes and states, and the path
        self.slopes, self.states = np.empty((2, len(self.sheets), shown.sum(), V.shape[1]), np.float32)
        self.paths = np.empty((shown.sum(), V.shape[1]), np.float32)
        for t in range(-settle, steps):
            at = shown[:, t] if t >= 0 else slice(0)
            rows = row[at, max(t, 0)]
            v = rec.velocity[:, max(t, 0)] if t >= 0 else np.zeros_like(rec.velocity[:, 0])
            x = u @ W + b + noise * rng.standard_normal(u.shape, np.float32)
            z = u @ V
            if t >= 0 and rec.stimulus is not None:
                x += rec.stimulus[:, t]
            if driven is not None:
                x += v @ driven
            if hidden:
                x += f @ path
                self.paths[rows] = f[at]
                for c, w in gates.items():
                    x += g[c] @ w
                    g[c] += np.float32(alpha) * (v[:, c[0], None] * z - g[c])
                for c, w in products.items():
                    x += p[c] @ w
                    p[c] += np.float32(alpha) * (v[:, c[0], None] * v[:, c[1], None] * z - p[c])
                f += np.float32(alpha) * (z - f)
            else:
                for c, w in gates.items():
                    x += (v[:, c[0], None] * z) @ w
                for (d, e), w in products.items():
                    x += (v[:, d, None] * v[:, e, None] * z[:, : len(w)]) @ w
            if self.sheets:
                x += sum(of @ w for of, (_, w) in zip(s, self.sheets, strict=True))
                received, driving = u @ kernels - np.float32(fit.copies.threshold), fit.copies.saturated(v)
                for k, ((d, sign), _) in enumerate(self.sheets):
                    received[:, k * n : (k + 1) * n] += np.float32(sign * fit.copies.drive) * driving[:, d, None]
                    if coupling is not None:
                        received[:, k * n : (k + 1) * n] += states[k] @ coupling
                received += np.float32(hidden_noise) * rng.standard_normal(received.shape, np.float32)
                h = response.phi(received).astype(np.float32)
                if fit.copies.centres is not None:
                    h *= np.tile(fit.copies.centres, len(self.sheets))
                h = h.reshape(count, len(self.sheets), n).swapaxes(0, 1)
                self.states[:, rows], self.slopes[:, rows] = s[:, at], response.slope(h[:, at]) @ V
                s += np.float32(alpha) * (h @ V - s)
                if coupling is not None:
                    states += np.float32(alpha) * (h - states)
            r = chosen.phi(x).astype(np.float32)
            r = r if clamp is None else clamp(max(t, 0), r)
            u += np.float32(alpha) * (r - u)
            if t % FLUSH_STEPS == 0:
                for state in (u, s, f, *g.values(), *p.values()):
                    state[np.abs(state) < NEGLIGIBLE] = 0.0
            if t >= 0:
                rates[:, t] = r
        rates /= np.float32(chosen.scale)
        rates[~rec.valid] = 0
        self.recording, self.W, self.path, self.gates = replace(rec, rates=rates), W, path, gates

    def truth(self, refit):
        """W, total and each gate of the simulated circuit, as a refit of it would read them. refit: Fit of it.

        Returns: list of (n, n)."""
        total = self.W.astype(np.float64).copy()
        gates = np.zeros((self.recording.velocity.shape[-1], *total.shape))
        if self.path is not None:
            total += refit.project(self.paths) @ self.path
        for (d, _), w in self.gates.items():
            gates[d] += self.fit.directions @ w
        for ((d, sign), w), states, slopes in zip(self.sheets, self.states, self.slopes, strict=True):
            total += refit.project(states) @ w
            gates[d] += sign * self.fit.copies.drive * refit.project(slopes) @ w
        return [self.W, total, *gates]


def jitter_of(best, copies):
    """Relative s.d. of the simulated copies' incoming weights: of fewer copies, which average less, the same deviations
    in the directions V are those of smaller ones. best: prior.Posterior; copies: Copies or None."""
    share = 1.0 if copies is None or copies.centres is None else np.mean(copies.centres)
    return best.heterogeneity.get("copies", 0.0) * np.sqrt(share / 2)


def find_hidden_noise(fit, best, noise, seed=0):
    """The s.d. of the copies' current under which innovations predict as much of the currents' noise in a simulation as
    in the recording, within a factor of MOST_HIDDEN_NOISE. fit: fitting.Fit; noise: s.d. of recorded neurons' currents.
    """
    pilot, few = fit.pilot, copy(fit)
    if fit.copies is None:
        return noise
    few.rec = pilot.rec
    with np.errstate(all="ignore"):
        rec = Simulated(few, best.weights, noise, seed + 1, min(jitter_of(best, fit.copies), MOST_JITTER)).recording
    if not np.isfinite(rec.rates).all():
        return noise
    again = Pilot(rec, pilot.kinetics, pilot.geometry, pilot.places, pilot, refit=False)
    ratio = pilot.measure_innovations() / max(again.measure_innovations(), 1e-9)
    return noise * float(np.clip(np.sqrt(max(ratio, 0.0)), 1 / MOST_HIDDEN_NOISE, MOST_HIDDEN_NOISE))


def calibrate(fit, refit, best, variance, seed=0, extra_errors=None, hidden_noise=None):
    """The factors of the standard errors of W, total and gate.

    fit: Fit of the recording; refit: called with a Recording, gives its Fit; best: prior.Posterior; variance: (n,), of
    the residual; extra_errors: called with `Simulated` and the Fit of it, gives errors over standard errors of further
    arrays to calibrate, by name; hidden_noise: `find_hidden_noise`'s (default: as recorded neurons').

    Returns: dict of `factors`, `coverage` of the intervals as they were, in the simulated recording, `jitter` of the
    copies' incoming weights, `hidden_noise` of the copies relative to recorded neurons, and the s.d. of both
    recordings' `residuals`. Factors are infinite where the simulated circuit does not stay active, or too active, for
    its currents to show."""
    noise = float(np.sqrt(np.nanmedian(variance)))
    jitter = jitter_of(best, fit.copies)
    ratio = {"hidden_noise": 1.0 if hidden_noise is None else float(hidden_noise / noise)}
    with np.errstate(all="ignore"):  # a simulation from the estimate of a real recording need not stay bounded
        simulated = Simulated(fit, best.weights, noise, seed, min(jitter, MOST_JITTER), hidden_noise)
    rates = simulated.recording.rates
    usable = (
        np.isfinite(rates).all() and not rates.max() > MAX_RATE * fit.rec.rates.max() and rates[:, fit.first :].any()
    )
    again = refit(simulated.recording) if usable else None
    plain = None if again is None else again.unbiased(again.choose_neurons(CALIBRATION_NEURONS))
    if plain is None or not np.isfinite(plain.variance).any():
        infinite = dict.fromkeys(("W", "total", "gate"), np.inf)
        return {"factors": infinite, "coverage": {}, "jitter": float(jitter), "residuals": [noise, np.nan]} | ratio
    true = simulated.truth(again)
    off = ~np.eye(len(true[0]), dtype=bool)
    z = [np.abs(L @ plain.weights - b) / se for L, b, se in zip(again.maps, true, plain.se, strict=True)]
    kinds = {"W": z[0][off], "total": z[1][off], "gate": np.concatenate([one.ravel() for one in z[2:]])}
    kinds |= {} if extra_errors is None else extra_errors(simulated, again)
    kinds = {name: values[np.isfinite(values)] for name, values in kinds.items()}
    return {
        "factors": {k: float(np.percentile(v, PERCENTILE) / NORMAL) if len(v) else np.inf for k, v in kinds.items()},
        "coverage": {k: float(np.mean(v < NORMAL)) if len(v) else None for k, v in kinds.items()},
        "jitter": float(jitter),
        **ratio,
        "residuals": [noise, float(np.sqrt(np.nanmedian(plain.variance)))],
    }
