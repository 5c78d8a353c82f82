"""Smooth a noisy recording of an attractor: the bump's phases, and each neuron's current as a function of phases and
velocity.

    phase:    theta[t+1] = theta[t] + dt c @ (v, F v, F F v)[t] + N(0, q)         Kalman smoother (Rauch et al. 1965)
    tuning:   r_j[t] = phi(x_j[t]),   x_j[t] = sum_k (a_k @ h[t]) f_k(theta[t] - place_j)
    h:        polynomials of v, F v and F F v, the velocity filtered by one synapse and by two

Measurement noise of single samples averages out over neurons and time, since the activity has one degree of freedom
besides the velocity. The coefficients a are shared by all neurons, in the likelihood of the samples (Gauss-Newton);
each neuron's deviations from them have a Gaussian prior whose variance is estimated by the method of moments.
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.special import ndtr

from nsi.estimation.signals import state_of
from nsi.geometry import RING, TORUS

# waves of the current over phase, by the number of phases: shared by all neurons, those of them that depend on the
# velocity, and of each neuron
HARMONICS, OWN_HARMONICS = {1: RING.waves(5), 2: TORUS.waves(2)}, {1: RING.waves(4), 2: TORUS.waves(1)}
MOVED_HARMONICS = {1: 5, 2: 3}
SOFTNESS = 0.03  # of the threshold, in units of the current: noise of the current blurs it
FIRST_SAMPLES, BATCH, BATCHES = 150_000, 200_000, 6  # of all neurons and steps, until Gauss-Newton converges; after
STEPS, HALVINGS, FIRST_STEPS = 20, 6, 4  # of Gauss-Newton; the first ones fit constant and cosine alone
DAMPING, CONVERGED = 1e-4, 1e-4  # of the mean eigenvalue; relative improvement
WORSE = 2.0  # times the first samples' weighted squares, above which further ones have led astray
OWN_EVERY = 3  # steps, of which one is used for each neuron's deviations
PHASE_WINDOW, INCREMENT = 0.04, 0.25  # s, of the first guess at the phase, and of increments that velocity explains
DIFFUSIONS = 10.0 ** np.arange(-7, -2.9, 0.5)  # rad^2 a step, among which the likeliest is chosen
FLOOR = 0.03  # rate below which a Poisson variance is not taken to fall


class UntunedError(Exception):
    """Few samples of much noise determine no tuning curve."""


class Noise(NamedTuple):
    """What is observed of a rate r: kind "gaussian": r + sd e; "clipped": max(0, r + sd e); "poisson": counts / scale,
    counts ~ Poisson(scale r). Of fluorescence, deconvolved, e[t] is white noise less g times that of a step before."""

    kind: str
    sd: float = 0.0
    scale: float = 1.0
    g: float = 0.0  # of the indicator, see indicator.py

    @property
    def measured_sd(self):
        """S.d. of noise of what was measured: of fluorescence, or of counts at rate 1."""
        return np.sqrt(1 / self.scale) if self.kind == "poisson" else self.sd * (1 - self.g) / np.hypot(1, self.g)

    def mean(self, r):
        """Expected observation."""
        if self.kind != "clipped":
            return r
        z = r / self.sd
        return r * ndtr(z) + self.sd * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)

    def slope(self, r):
        """Its derivative by r."""
        return ndtr(r / self.sd) if self.kind == "clipped" else np.ones_like(r)

    def variance(self, r):
        """Of the observation."""
        if self.kind == "poisson":
            return np.maximum(r, FLOOR) / self.scale
        if self.kind == "gaussian":
            return np.full_like(r, self.sd**2)
        z, m = r / self.sd, self.mean(r)
        square = (r * r + self.sd**2) * ndtr(z) + r * self.sd * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
        return np.maximum(square - m * m, 0.1 * self.sd**2)

    def draw(self, rates, rng):
        """A noisy observation of rates."""
        if self.kind == "poisson":
            return (rng.poisson(self.scale * rates) / self.scale).astype(np.float32)
        e = np.float32(self.sd / np.hypot(1, self.g)) * rng.standard_normal(rates.shape, np.float32)
        y = rates + e
        y[:, 1:] -= np.float32(self.g) * e[:, :-1]
        return np.maximum(y, 0) if self.kind == "clipped" else y


class Smoothed(NamedTuple):
    """A smoothed recording."""

    current: np.ndarray  # (trials, steps, n)
    rates: np.ndarray  # (trials, steps, n), phi of it
    phase: np.ndarray  # (trials, steps, D) rad
    diffusion: float  # rad^2 a step


def smooth(observed, rec, geometry, places, alpha, noise):
    """Smooth noisy rates. observed: (trials, steps, n); rec: Recording, of their velocity; geometry: of nsi.geometry;
    places: (n, D) rad. Returns: Smoothed."""
    valid, moved, places = rec.valid, drives(rec.velocity, alpha), places @ geometry.PLANE
    z = observed @ np.exp(1j * places @ geometry.ALL.T).astype(np.complex64)
    phase = guess_phase(blur(z, rec.dt), geometry)
    turned, onto = z * np.exp(-1j * phase @ geometry.ALL.T), np.linalg.pinv(geometry.ALL).T
    amplitude = turned.real[valid].mean()
    innovation = lambda theta, t: (z[:, t] * np.exp(-1j * theta @ geometry.ALL.T)).imag / amplitude @ onto
    error = max(float(np.var(turned.imag[valid])) / amplitude**2, 1e-9) * onto.T @ onto
    phase, _ = track(phase, innovation, np.broadcast_to(error, (*valid.shape, *error.shape)), moved, rec)
    h = features(rec.velocity, alpha)
    shared = tune(observed, phase, h, places, noise, valid)
    # once more, each neuron weighted by what it says of the phase
    shift = 1e-3 * np.eye(phase.shape[-1])
    sides = [[currents(shared, phase + s, h, places) for s in (one, -one)] for one in shift]
    r = smoothed_rate(sum(sides[0]) / 2)
    by_phase = np.stack([smoothed_rate(ahead) - smoothed_rate(behind) for ahead, behind in sides], -1) / 2e-3
    by_phase *= noise.slope(r)[..., None]
    weight = np.swapaxes(by_phase / noise.variance(r)[..., None], -1, -2)
    error = np.linalg.inv((weight @ by_phase).astype(np.float64) + 1e-9 * np.eye(len(shift)))
    target = phase + np.einsum("ktde,kte->ktd", error, (weight @ (observed - noise.mean(r))[..., None])[..., 0])
    phase, diffusion = track(phase, lambda theta, t: target[:, t] - theta, error, moved, rec)
    del sides, r, by_phase, weight
    shared = tune(observed, phase, h, places, noise, valid, shared)
    x = currents(shared, phase, h, places)
    x += deviations(observed, x, phase, h, places, noise, valid)
    rates = smoothed_rate(x).astype(np.float32)
    rates[~valid] = 0
    return Smoothed(x, rates, phase @ np.linalg.inv(geometry.PLANE), diffusion)


def drives(velocity, alpha):
    """What moves the bump: the velocity, behind no synapse, one and two. Returns: (trials, steps, 3 D)."""
    once = state_of(velocity, alpha)
    return np.concatenate([velocity, once, state_of(once, alpha)], -1)


def blur(z, dt):
    """Complex numbers (trials, steps, m) over time."""
    window = max(1.0, PHASE_WINDOW / dt)
    return gaussian_filter1d(z.real, window, axis=1) + 1j * gaussian_filter1d(z.imag, window, axis=1)


def guess_phase(z, geometry):
    """Phases of population vectors (trials, steps, m) of the longest waves. Returns: (trials, steps, D) rad, in the
    geometry's plane, unwrapped."""
    return np.unwrap(geometry.phase(z), axis=1) @ geometry.PLANE


def track(guess, innovation, error, moved, rec):
    """Kalman smoother of the phases. guess: (trials, steps, D), first ones, unwrapped; innovation: called with
    predicted phases (..., trials, D) and the step, gives the observed ones less these; error: (trials, steps, D, D),
    the observed ones' covariance; moved: (trials, steps, k), what moves the bump; rec: Recording.

    The weights of `moved` are least squares on increments of the guess, the diffusion is the likeliest of DIFFUSIONS.
    Returns: phases, diffusion in rad^2 a step."""
    path = rec.dt * (np.cumsum(moved, 1, dtype=np.float64) - moved)
    span = max(1, min(round(INCREMENT / rec.dt), guess.shape[1] // 4))
    both = rec.valid[:, span:]
    by = np.linalg.lstsq((path[:, span:] - path[:, :-span])[both], (guess[:, span:] - guess[:, :-span])[both])[0]
    path = path @ by
    x, likelihood = _kalman(path, innovation, guess[:, 0], error, rec.valid)
    k = int(np.argmax(likelihood))
    return path + x[k], float(DIFFUSIONS[k])


def _kalman(path, innovation, start, error, valid):
    """For each of DIFFUSIONS: deviations from a path (trials, steps, D), and their log likelihood."""
    trials, steps, D = path.shape
    x, before = np.zeros((2, len(DIFFUSIONS), trials, steps, D))
    P, prior = np.zeros((2, len(DIFFUSIONS), trials, steps, D, D))
    m, p, likelihood = start - path[:, 0], 0.1 * np.eye(D), 0.0
    q, multiply = DIFFUSIONS[:, None, None, None] * np.eye(D), lambda a, b: np.einsum("...ij,...j->...i", a, b)
    for t in range(steps):
        p = p + q
        before[:, :, t], prior[:, :, t] = m, p
        o, inverse = innovation(path[:, t] + m, t), np.linalg.inv(p + error[:, t])
        each = (o * multiply(inverse, o)).sum(-1) - np.linalg.slogdet(inverse)[1]
        likelihood -= 0.5 * np.where(valid[:, t], each, 0.0).sum(1)
        k = np.where(valid[:, t, None, None], p @ inverse, 0.0)
        m, p = m + multiply(k, o), p - k @ p
        x[:, :, t], P[:, :, t] = m, p
    for t in range(steps - 2, -1, -1):
        C = P[:, :, t] @ np.linalg.inv(prior[:, :, t + 1])
        x[:, :, t] += multiply(C, x[:, :, t + 1] - before[:, :, t + 1])
    return x, likelihood


def features(velocity, alpha):
    """Polynomials of the velocity and of its filtered versions, for each component. Returns: (trials, steps, m)."""
    scale = np.maximum(velocity.std((0, 1)), 1e-9).astype(np.float32)
    v = velocity / scale
    a = state_of(v, alpha)
    b = state_of(a, alpha)
    return np.concatenate([np.ones_like(v[..., :1]), v, a, b, a * a, a * b, b * b], -1).astype(np.float32)


def basis(apart, harmonics):
    """Fourier terms of phases. apart: (..., D) rad; harmonics: HARMONICS or such. Returns: (..., terms) float32."""
    angle = np.asarray(apart, np.float32) @ harmonics[apart.shape[-1]].T.astype(np.float32)
    return np.concatenate([np.ones_like(angle[..., :1]), np.cos(angle), np.sin(angle)], -1)


def smoothed_rate(x):
    """phi of a current whose noise blurs the threshold."""
    return np.tanh(np.logaddexp(0, x / np.float32(SOFTNESS)) * np.float32(SOFTNESS))


def _with_slope(x):
    r = smoothed_rate(x)
    return r, (1 - r * r) / (1 + np.exp(-np.clip(x / np.float32(SOFTNESS), -50, 50)))


def currents(shared, phase, h, places):
    """Tuned currents (trials, steps, n). shared: (terms, m); phase: (trials, steps, D); h: of `features`; places:
    (n, D) rad, in the plane as the phases are."""
    by_phase = h @ shared.T.astype(np.float32)
    x = np.empty((*h.shape[:2], len(places)), np.float32)
    for j, place in enumerate(places):
        x[..., j] = np.einsum("ktb,ktb->kt", basis(phase - place, HARMONICS), by_phase)
    return x


def tune(observed, phase, h, places, noise, valid, start=None):
    """Coefficients of the currents that all neurons share: damped Gauss-Newton on the weighted squares of some samples
    drawn at random, then normal equations of BATCHES more, each linearised at what those before gave. start: where to
    begin. Returns: (terms, m). Raises: UntunedError."""
    (n, D), rng, m = places.shape, np.random.default_rng(0), h.shape[-1]
    (trials, steps), waves = np.nonzero(valid), len(HARMONICS[D])
    kept = (np.arange(-1, 2 * waves) % waves < MOVED_HARMONICS[D])[:, None] | (np.arange(m) == 0)
    kept[0], shared = True, np.zeros(kept.shape)
    rows, columns = np.nonzero(kept)

    def draw(count):
        at, neuron = rng.integers(0, len(trials), count), rng.integers(0, n, count)
        trial, step = trials[at], steps[at]
        by_phase = basis(phase[trial, step] - places[neuron], HARMONICS)
        X = np.take(by_phase, rows, 1) * np.take(h[trial, step], columns, 1)
        return X, observed[trial, step, neuron].astype(np.float32)

    w = np.zeros(len(rows)) if start is None else start[rows, columns]
    some = draw(min(FIRST_SAMPLES, len(trials) * n))
    if start is None:
        few = m * np.arange({1: 2, 2: 4}[D])  # the constant, and the cosines of the longest waves
        w[few] = 1.0 / (len(few) - 1)
        w[0] = -0.3
        w = minimise(*some, w, noise, few, FIRST_STEPS)
    w = minimise(*some, w, noise, np.arange(len(w)), STEPS)
    first, A, right = w, 0.0, 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(min(BATCHES, -(-len(trials) * n // BATCH))):
            X, y = draw(BATCH)
            D, e, _ = linearise(X, y, w, noise)
            A += (D.T @ D).astype(np.float64)
            right += D.T @ (e + D @ w.astype(np.float32)).astype(np.float64)
            damping = DAMPING * np.trace(A) / len(A)
            w = np.linalg.solve(A + damping * np.eye(len(A)), right + damping * w)
        before, after = (np.mean(linearise(*some, w, noise)[1] ** 2) for w in (first, w))
    if not after < WORSE * before:
        raise UntunedError
    shared[rows, columns] = w
    return shared


def linearise(X, y, w, noise):
    """Weighted derivatives of the mean of y by w, weighted residuals, and the square roots of the weights. Returns:
    (count, len(w)), (count,), (count,)."""
    r, slope = _with_slope(X @ w.astype(np.float32))
    root = np.sqrt(1 / noise.variance(r)).astype(np.float32)
    D = X * (slope * noise.slope(r) * root).astype(np.float32)[:, None]
    return D, root * (y - noise.mean(r)).astype(np.float32), root


def minimise(X, y, w, noise, on, steps):
    """Damped Gauss-Newton on the weighted squares of y less its mean under the currents X w. on: (k,) int, coefficients
    that change; steps: at most. Returns: w."""
    D, e, root = linearise(X, y, w, noise)
    for _ in range(steps):
        D, old = D[:, on], float(np.mean(e * e))
        A = (D.T @ D).astype(np.float64)
        A[np.diag_indices(len(on))] += DAMPING * np.trace(A) / len(on)
        step = np.zeros(len(w))
        step[on] = np.linalg.solve(A, D.T @ e)
        for halving in range(HALVINGS):
            tried = w + 0.5**halving * step
            D, e, own = linearise(X, y, tried, noise)
            new = float(np.mean((root / own * e) ** 2))
            if new < old:
                break
        else:
            break
        w, root = tried, own
        if old - new < CONVERGED * old:
            break
    return w


def deviations(observed, x, phase, h, places, noise, valid):
    """What each neuron's current adds to the shared one: a Fourier series of the phase, constant and linear in the
    filtered velocity, by one Gauss-Newton step with a Gaussian prior. Its variance, one for all coefficients, is
    estimated by moments, 0 where neurons do not differ by more than noise. Returns: (trials, steps, n)."""
    D = (h.shape[-1] - 1) // 6
    own = h[..., [0, *range(D + 1, 2 * D + 1)]]
    scores, informations = [], []
    thin = slice(None, None, OWN_EVERY)
    some = valid[:, thin]
    for j, place in enumerate(places):
        B = basis(phase[:, thin] - place, OWN_HARMONICS)[some]
        X = (B[:, :, None] * own[:, thin][some][:, None, :]).reshape(len(B), -1)
        r, slope = _with_slope(x[:, thin, j][some])
        weight = 1 / noise.variance(r)
        slope = slope * noise.slope(r)
        scores.append(X.T @ (slope * weight * (observed[:, thin, j][some] - noise.mean(r))).astype(np.float32))
        D = X * (slope * np.sqrt(weight)).astype(np.float32)[:, None]
        informations.append((D.T @ D).astype(np.float64))
    G, g = np.array(informations), np.array(scores, np.float64)
    size = np.einsum("jkk->j", G) / G.shape[-1]
    G += DAMPING * size[:, None, None] * np.eye(G.shape[-1])
    # E g' g = tr G + variance tr G^2 about the shared coefficients
    excess = (g**2).sum(1) - np.einsum("jkk->j", G)
    variance = excess.sum() / np.einsum("jkl,jkl->", G, G)
    spread = excess.std() * np.sqrt(len(excess)) / np.einsum("jkl,jkl->", G, G)
    added = np.zeros_like(x)
    if variance <= 2 * spread:
        return added
    for j, place in enumerate(places):
        c = np.linalg.solve(G[j] + np.eye(G.shape[-1]) / variance, g[j]).reshape(-1, own.shape[-1]).astype(np.float32)
        added[..., j] = np.einsum("ktb,ktb->kt", basis(phase - place, OWN_HARMONICS), own @ c.T)
    return added
