"""Effective connectivity as a function of the input, and its expansion in the input's powers.

    J(v) = W + v G1 + v^2 G2 + v^3 G3        of two inputs: W + v1 G10 + v2 G01 + v1^2 G20 + v1 v2 G11 + v2^2 G02

J(v) is what one recorded neuron does to another while the input is v, directly and through hidden neurons. It is
measured alike on circuits and on fitted networks, whatever they are made of: recorded states are held, and the input
at each value of a grid, until the hidden units are in equilibrium; the linear map from the states to the currents that
they cause is J(v), and the orders are its regression on the powers of v, weighted by how often v has such a value.

Two descriptions of a recording are read: hidden input units, and connections that the velocity multiplies directly
(nsi/direct.py). Which one fits, its residual says, beside the noise that the recording itself shows.

*Intervals.* Given the input units' tuning, orders are linear in the weights onto recorded neurons, so that these have
an unbiased estimate and standard errors (as in nsi/uncertainty.py). Where tuning is wrong, so are they. So the same is
done once more with regressors that no tuned unit stands behind, powers of v times the states' leading directions, with
and without a synapse between, and how far the profile moves counts as a further error. An order is *shown* if its mean
profile is larger than its standard error; what is not shown is written as 0.
"""

from itertools import product
from typing import NamedTuple

import numpy as np
import torch

from nsi import connectivity, direct, response, uncertainty
from nsi.connectivity import Held, correlation
from nsi.network import synaptic_state

STATES = 400  # recorded states that are held
REACH = 2.5  # s.d. of the input that the grid covers to either side
POINTS = {1: 21, 2: 9}  # of the grid along each input
DEGREE = {1: 3, 2: 2}  # highest order
RIDGE = 1e-2  # of the states' leading eigenvalue: directions that they hardly take are left at 0
LEADING = 7  # of the states' directions, which regressors without tuned units are made of
EVERY = 2  # steps: one in so many is regressed on
SHOWN = 1.5  # mean square of an order's profile over that of its standard error, from which on it is shown
FITS = 1.15  # residual over noise, up to which a description fits
THERE = 5e-3  # size of a true order, relative to order 0, from which on it is scored


class Measure(NamedTuple):
    """What the orders of any network are measured with; the same for a circuit and for the fits to its recording."""

    states: np.ndarray  # (STATES, n)
    grid: np.ndarray  # (points, D), values of the input
    onto: np.ndarray  # (n, STATES), takes currents at the states to the linear map from states to currents
    fit: np.ndarray  # (K + 1, points), takes J over the grid to its orders
    powers: np.ndarray  # (K + 1, D) int, of each order's monomial
    size: np.ndarray  # (K + 1,), r.m.s. of each monomial


def powers_of(dimensions):
    """The powers of each input in each order, the lower degrees first. Returns: (K + 1, D) int."""
    top = DEGREE.get(dimensions, 1)
    every = [p for p in product(range(top + 1), repeat=dimensions) if sum(p) <= top]
    return np.array(sorted(every, key=lambda p: (sum(p), [-k for k in p])))


def monomials(v, powers):
    """The inputs' monomials. v: (..., D); powers: (K + 1, D). Returns: (..., K + 1)."""
    return np.prod(v[..., None, :] ** powers, -1)


def measure_of(rates, velocity, alpha, valid=None):
    """What to measure orders with, from a recording.

    rates: (trials, steps, n); velocity: (trials, steps, D); alpha: dt / tau; valid: (trials, steps) bool, or None.
    Returns: Measure.
    """
    late = slice(min(int(np.ceil(8 / alpha)), rates.shape[1] // 4), None)  # the first states are guesses
    valid = np.ones(rates.shape[:2], bool) if valid is None else valid
    u = synaptic_state(rates, alpha)[:, late][valid[:, late]].astype(np.float64)
    states = u[np.linspace(0, len(u) - 1, STATES).round().astype(int)]
    d = velocity.shape[-1]
    sd = np.maximum(velocity[valid].astype(np.float64).std(0), 1e-12)
    line = np.linspace(-REACH, REACH, POINTS.get(d, 3))
    z = np.stack(np.meshgrid(*[line] * d, indexing="ij"), -1).reshape(-1, d)
    weight = np.exp(-(z**2).sum(-1) / 2)
    powers, root = powers_of(d), np.sqrt(weight / weight.sum())
    terms = monomials(z * sd, powers)
    cov = states.T @ states / len(states)
    cov += RIDGE * np.linalg.eigvalsh(cov)[-1] * np.eye(len(cov))
    onto = np.linalg.solve(cov, states.T) / len(states)
    fit = np.linalg.pinv(terms * root[:, None]) * root
    return Measure(states, z * sd, onto, fit, powers, np.sqrt(((terms * root[:, None]) ** 2).sum(0)))


def hidden_states(net, measure):
    """The hidden units in equilibrium at each state and input. Returns: (points, STATES, M - n)."""
    n, among = net.n, net.W[net.n :, net.n :]
    from_state = measure.states @ net.W[:n, n:] + net.b[n:]
    fixed = from_state + net.drive(measure.grid)[:, None, n:]
    s = response.phi(fixed)
    if among.any():
        for _ in range(100):
            before, s = s, s + 0.3 * (response.phi(fixed + s @ among) - s)
            if np.abs(s - before).max() < 1e-6:
                break
    return s


def effective(net, measure):
    """J over the grid, thresholds counted in: a bump's sum is constant, so that its neurons' inhibition looks like one.

    net: Network, a circuit or a fitted one. Returns: (points, n, n).
    """
    n, u = net.n, measure.states
    J = np.repeat((measure.onto @ (u @ net.W[:n, :n] + net.b[:n]))[None], len(measure.grid), 0)
    J += measure.onto.sum(1)[:, None] * net.drive(measure.grid)[:, None, :n]
    if len(net.b) > n:
        J += np.einsum("is,gsk->gik", measure.onto, hidden_states(net, measure), optimize=True) @ net.W[n:, :n]
    if net.W_gain is not None:
        J += measure.grid[:, :1, None] * (measure.onto @ (u @ net.W_gain))
    for powers, G in net.products:
        J += monomials(measure.grid, np.array([powers]))[..., None] * (measure.onto @ (u @ G))
    return J


def expansion(net, measure):
    """The orders of a network's effective connectivity. Returns: (K + 1, n, n), per power of the input's unit."""
    return np.einsum("kg,gij->kij", measure.fit, effective(net, measure))


def of_circuit(net, rates, velocity):
    """A circuit's true orders, at the states of a recording of it. Returns: (K + 1, n, n)."""
    return expansion(net, measure_of(rates, velocity, net.alpha))


# ---- reading them off a fit -------------------------------------------------------------------------------------


def read_off(net, rec, geometry):
    """The orders of a recording, by the description that fits it better.

    net: the fitted Network, its weights onto recorded neurons solved for; rec: the training trials.
    Returns: dict of arrays for connectivity.npz: orders (K + 1, n, n), per power of the input's unit; orders_se, the
    same; orders_profile, orders_profile_se, their mean at each distance in the place of every pair; orders_powers
    (K + 1, D); orders_size (K + 1,), of each order times its monomial's r.m.s. relative to order 0; orders_shown
    (K + 1,) bool; orders_description, "hidden", "direct" or "neither"; orders_residual (2,), s.d. of the current that
    hidden units and the direct description leave; orders_noise, of the recording's own, NaN where it cannot be told;
    orders_scale (K + 1,), each monomial's r.m.s.
    """
    measure = measure_of(rec.rates, rec.velocity, net.alpha, rec.valid)
    through = connectivity.hold(net, rec)
    weights = np.concatenate([net.W[:, : net.n], net.b[None, : net.n]]).astype(np.float64)
    hidden = direct.residual(uncertainty.regress(weights, through.x, through), through.rates.shape[:2])
    other = direct.fit(rec, net.alpha, measure.powers)
    best = other.left if other.left.sd < hidden.sd else hidden
    if best is hidden:
        fitted = expansion(net, measure)
        moved, errors = _of_hidden(net, rec, measure, through, weights)
    else:
        fitted = expansion(other.net, measure)
        moved, errors = _of_direct(other, measure)
    fits = best.sd <= FITS * best.noise
    named = "neither" if not fits else "hidden" if best is hidden else "direct"
    found = _judged(fitted, moved, errors, measure, geometry, geometry.find(rec.rates[rec.valid]))
    return found | {
        "orders_powers": measure.powers, "orders_description": np.array(named),
        "orders_residual": np.array([hidden.sd, other.left.sd]), "orders_noise": np.array(best.noise),
        "orders_scale": measure.size,
    }  # fmt: skip


def _judged(fitted, moved, errors, measure, geometry, places):
    """What is written of orders. fitted, moved: (K + 1, n, n), as fitted and without bias; errors: `_regressed`'s."""
    classical, clusters = errors
    every = np.ones((len(places),) * 2, bool)
    mean = lambda W: geometry.mean_profile(W.astype(np.float64), places, every)  # noqa: E731
    orders, se, profile, profile_se = (np.zeros(fitted.shape) for _ in range(4))
    shown = np.zeros(len(fitted), bool)
    for k, (G, unbiased) in enumerate(zip(fitted, moved, strict=True)):
        profile[k], away = mean(G), mean(unbiased - G)
        scatter = sum(mean(clusters[k, ..., c]) ** 2 for c in range(clusters.shape[-1]))
        se[k] = np.sqrt(np.maximum(classical[k] ** 2, (clusters[k].astype(np.float64) ** 2).sum(-1)) + away**2)
        profile_se[k] = np.sqrt(scatter + away**2) if np.isfinite(classical[k]).all() else np.inf
        shown[k] = k == 0 or np.mean(profile[k] ** 2) > SHOWN * np.mean(profile_se[k] ** 2)
        apart = G - profile[k]
        real = np.mean((unbiased - mean(unbiased)) ** 2 - se[k] ** 2 + away**2)  # beyond what errors scatter
        kept = np.clip(real / max(np.mean(apart**2), 1e-30), 0, 1)
        orders[k] = (profile[k] + kept * apart) * shown[k]
        profile[k] *= shown[k]
    size = np.linalg.norm(orders, axis=(1, 2)) * measure.size
    return {
        "orders": orders, "orders_se": se, "orders_profile": profile, "orders_profile_se": profile_se,
        "orders_size": size / max(size[0], 1e-30), "orders_shown": shown,
    }  # fmt: skip


def _of_hidden(net, rec, measure, through, weights):
    """The unbiased orders of a network with hidden units, and their errors: `_regressed`'s."""
    n, size, k = net.n, len(net.b), len(measure.powers)
    rows = np.zeros((k, n, size + 1))
    sent = np.einsum("is,gsh->gih", measure.onto, hidden_states(net, measure), optimize=True)
    rows[:, :, n:size] = np.einsum("kg,gih->kih", measure.fit, sent)
    rows[0, :, :n], rows[0, :, size] = measure.onto @ measure.states, measure.onto.sum(1)
    u = synaptic_state(rec.rates, net.alpha)
    V = np.linalg.eigh(measure.states.T @ measure.states)[1][:, ::-1][:, :LEADING]
    sd = np.maximum(rec.velocity[rec.valid].astype(np.float64).std(0), 1e-12)
    terms = monomials(rec.velocity / sd, measure.powers)
    raw = (terms[..., None] * (u @ V)[..., None, :]).reshape(*u.shape[:2], -1).astype(np.float32)
    p, late = V.shape[1], slice(u.shape[1] - through.x.shape[1], None)
    extra = np.concatenate([raw[..., p:], synaptic_state(raw, net.alpha)], -1)[:, late]  # u itself is there already
    each = (measure.onto @ measure.states @ V)[None] / np.prod(sd**measure.powers, -1)[:, None, None]  # (K + 1, n, p)
    more = np.zeros((k, n, extra.shape[-1]))
    for at, order in enumerate([*range(1, k), *range(k)]):
        more[order, :, at * p : (at + 1) * p] = each[order]
    start = np.concatenate([weights, np.zeros((extra.shape[-1], n))])
    held = Held(*(a[:, ::EVERY] for a in through._replace(x=np.concatenate([through.x, extra], -1))))
    return _regressed(start, np.concatenate([rows, more], -1), held)


def _of_direct(found, measure):
    """The unbiased orders of the direct description, and their errors: `_regressed`'s."""
    (n, p), k = found.directions.shape, len(measure.powers)
    rows = np.zeros((k, n, k * p + 1))
    for order in range(k):
        rows[order, :, order * p : (order + 1) * p] = (
            measure.onto @ measure.states @ found.directions / found.size[order]
        )
    rows[0, :, -1] = measure.onto.sum(1)
    return _regressed(found.coefficients, rows, found.held)


def _regressed(start, rows, held):
    """Orders that are linear in regression coefficients, by least squares about a start.

    start: (q, n); rows: (K + 1, n, q); held: Held, with regressors x (trials, steps, q).
    Returns: the orders (K + 1, n, n), and their errors: classical (K + 1, n, n), and what each cluster of samples
    moves them by (K + 1, n, n, clusters).
    """
    data = uncertainty.regress(start, held.x, held)
    score, count, q = data.x.T @ data.e, data.used.sum(0), held.x.shape[-1]
    orders = np.einsum("kiq,qj->kij", rows, start)
    classical, clusters = np.full(orders.shape, np.inf), np.zeros((*orders.shape, len(data.starts)), np.float32)
    for j, G in data.informations():
        if count[j] < 2 * q:
            continue
        inverse = uncertainty.regularised_inverse(G)
        step = inverse @ score[:, j]
        left = torch.where(data.used[:, j], data.e[:, j] - data.x @ step, 0.0)[:, None]
        orders[:, :, j] += rows @ step.numpy()
        clusters[:, :, j] = rows @ (inverse @ data.clusters(left)[:, :, 0].T).numpy()
        covariance = (inverse * (left.square().sum() / (count[j] - q))).numpy()
        classical[:, :, j] = np.sqrt(np.maximum(np.einsum("kiq,kiq->ki", rows @ covariance, rows), 0))
    return orders, (classical, clusters)


def scores(found, truth, geometry, places):
    """What metrics.json says of orders. found: the arrays of connectivity.npz, or None; truth: recordings.load_truth's.

    Returns: dict of orders_powers, orders_size, orders_shown, orders_description, orders_residual, orders_noise, as
    `read_off` has them, and, where there is truth, r_orders, orders_slope (of fitted on true) and orders_coverage (share
    of distances where a profile's 95 % interval holds the true one): a list over orders, NaN where the truth has none.
    """
    if found is None or "orders" not in found:
        return {}
    names = "powers", "size", "shown", "description", "residual", "noise"
    result = {f"orders_{name}": found[f"orders_{name}"] for name in names}
    true = truth.get("orders")
    if true is None or true.shape != found["orders"].shape:
        return result
    size = np.linalg.norm(true, axis=(1, 2)) * found["orders_scale"]
    there, every = size > THERE * size[0], np.ones(true.shape[1:], bool)
    pairs = list(zip(found["orders"], true, there, strict=True))
    result["r_orders"] = [correlation(a, b) if t else np.nan for a, b, t in pairs]
    result["orders_slope"] = [np.sum(a * b) / np.sum(b * b) if t else np.nan for a, b, t in pairs]
    means = np.stack([geometry.mean_profile(G.astype(np.float64), places, every) for G in true])
    within = np.abs(found["orders_profile"] - means) <= 1.96 * found["orders_profile_se"]
    result["orders_coverage"] = within.mean((1, 2))
    return result


def told(found):
    """What a user is told of orders: which are there, and which description fits. Yields: sentences."""
    if found is None or "orders" not in found:
        return
    d = found["orders_powers"].shape[1]
    names = ["velocity"] if d == 1 else [f"v{k + 1}" for k in range(d)]
    called = [
        " ".join(f"{name}^{p}" if p > 1 else name for name, p in zip(names, powers, strict=True) if p)
        for powers in found["orders_powers"]
    ]
    shown = [f"{called[k]} ({100 * found['orders_size'][k]:.1f} %)" for k in np.flatnonzero(found["orders_shown"]) if k]
    yield f"orders beyond 0 that these data show, relative to order 0: {', '.join(shown) or 'none'}"
    hidden, other = found["orders_residual"]
    noise, which = float(found["orders_noise"]), str(found["orders_description"])
    left = (
        f"s.d. of the current left by hidden units {hidden:.4f}, by a velocity that multiplies connections {other:.4f}"
    )
    own = f"the recording's own noise {noise:.4f}" if np.isfinite(noise) else "its own noise cannot be told"
    say = {"hidden": "hidden units fit", "direct": "a velocity that multiplies connections fits",
           "neither": "neither description fits, trust no order"}  # fmt: skip
    yield f"{say[which]}: {left}; {own}"
