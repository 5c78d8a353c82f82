"""Relations of higher order read off a fit: which are there, how large, and by which description.

Two descriptions of a recording are read: hidden input units, and connections that the velocity multiplies directly
(nsi/direct.py). Which one fits, its residual says, beside the noise that the recording itself shows.

*Silent neurons.* A neuron that does not fire hides its current, so that a fit has it too small there, and with it every
order. A fit is therefore read at the states in which the neuron is active, and continued to the others by a map that is
smooth: along each direction of the states as small as they are there, by a ridge whose prior s.d. is their variance.

*Intervals.* Given the input units' tuning, orders are linear in the weights onto recorded neurons, so that these have
an unbiased estimate and standard errors (as in nsi/uncertainty.py). Where tuning is wrong, so are they. So the same is
done once more with regressors that no tuned unit stands behind, powers of v times the states' leading directions, with
and without a synapse between, and how far the profile moves counts as a further error; so does how far it moves when it
is continued more stiffly. An order is *shown* if its profile is larger than its standard error, as mean squares; what
is not shown is written as 0.
"""

from typing import NamedTuple

import numpy as np
import torch

from nsi import connectivity, direct, orders, uncertainty
from nsi.connectivity import Held, correlation
from nsi.network import synaptic_state

LEADING = 7  # of the states' directions, which regressors without tuned units are made of
DIRECTIONS, SMOOTH = 11, 2.0  # of the states along which currents are continued, and power of their size in the prior
CONTINUED = 1e-5, 1e-4  # weight of that prior, relative to the leading direction, in order 0 and in the smaller others
STIFFER = 100  # times that weight: how far an order moves with it counts as an error
SHOWN = 1.5  # mean square of an order's profile over that of its standard error, from which on it is shown
FITS = 1.15  # residual over noise, up to which a description fits
AS_WELL = 1.05  # residual over that of the better one, up to which the data do not tell two descriptions apart
THERE = 5e-3  # size of a true order, relative to order 0, from which on it is scored
ENOUGH = 50_000  # samples; of a longer recording trials are left out
EVERY = 2  # steps: one in so many is regressed on
ROOM = 5_000_000  # numbers of each order that the clusters' errors may take


def read_off(net, rec, geometry):
    """The orders of a recording, by the description that fits it better.

    net: the fitted Network, its weights onto recorded neurons solved for; rec: the training trials.
    Returns: dict of arrays for connectivity.npz: orders (K + 1, n, n), per power of the input's unit; orders_se, the
    same; orders_profile, orders_profile_se, their mean at each distance in the place of every pair; orders_powers
    (K + 1, D); orders_size (K + 1,), of each order times its monomial's r.m.s. relative to order 0; orders_shown
    (K + 1,) bool; orders_description, "hidden", "direct", "either" where the data cannot tell, or "neither";
    orders_residual (2,), s.d. of the current that hidden units and the direct description leave; orders_noise, of the
    recording's own, NaN where it cannot be told; orders_scale (K + 1,), each monomial's r.m.s.
    """
    measure = orders.measure_of(rec.rates, rec.velocity, net.alpha, rec.valid)
    rec = rec.trials(slice(None, None, max(1, round(rec.valid.sum() / ENOUGH))))
    through = connectivity.hold(net, rec)
    weights = np.concatenate([net.W[:, : net.n], net.b[None, : net.n]]).astype(np.float64)
    hidden = direct.residual(uncertainty.regress(weights, through.x, through), through.rates.shape[:2])
    other = direct.fit(rec, net.alpha, measure.powers)
    best = other.left if other.left.sd < hidden.sd else hidden
    parts = _of_hidden(net, rec, measure, through, weights) if best is hidden else _of_direct(other, measure)
    named = "hidden" if best is hidden else "direct"
    if not best.sd <= FITS * best.noise:
        named = "neither"
    elif max(hidden.sd, other.left.sd) <= AS_WELL * best.sd:
        named = "either"
    found = _judged(parts, measure, geometry, geometry.find(rec.rates[rec.valid]))
    return found | {
        "orders_powers": measure.powers, "orders_description": np.array(named),
        "orders_residual": np.array([hidden.sd, other.left.sd]), "orders_noise": np.array(best.noise),
        "orders_scale": measure.size,
    }  # fmt: skip


def _judged(parts, measure, geometry, places):
    """What is written of orders. parts: `_regressed`'s; places: (n, D) rad."""
    every = np.ones((len(places),) * 2, bool)
    mean = lambda W: geometry.mean_profile(W.astype(np.float64), places, every)  # noqa: E731
    written, se, profile, profile_se = (np.zeros(parts.fitted.shape) for _ in range(4))
    shown = np.zeros(len(written), bool)
    for k, (G, moved) in enumerate(zip(parts.fitted, parts.moved, strict=True)):
        profile[k], away = mean(G), mean(moved - G)
        scatter = sum(mean(parts.clusters[k, ..., c]) ** 2 for c in range(parts.clusters.shape[-1]))
        sampling = np.maximum(parts.classical[k] ** 2, (parts.clusters[k].astype(np.float64) ** 2).sum(-1))
        stiffer = mean(parts.stiffer[k] - G)
        shared = np.mean(away**2) + np.mean(stiffer**2) + np.mean(parts.unseen[k])  # what neurons have in common
        se[k] = np.sqrt(sampling + shared)
        profile_se[k] = np.sqrt(scatter + shared) if np.isfinite(sampling).all() else np.inf
        shown[k] = k == 0 or np.mean(profile[k] ** 2) > SHOWN * np.mean(profile_se[k] ** 2)
        apart, moved_apart = G - profile[k], moved - mean(moved)
        kept = np.clip(np.mean(moved_apart**2 - sampling) / max(np.mean(apart**2), 1e-30), 0, 1)
        written[k] = (profile[k] + kept * apart) * shown[k]
        profile[k] *= shown[k]
    size = np.linalg.norm(written, axis=(1, 2)) * measure.size
    return {
        "orders": written, "orders_se": se, "orders_profile": profile, "orders_profile_se": profile_se,
        "orders_size": size / max(size[0], 1e-30), "orders_shown": shown,
    }  # fmt: skip


class Parts(NamedTuple):
    """Orders that are linear in regression coefficients, and their errors."""

    fitted: np.ndarray  # (K + 1, n, n)
    moved: np.ndarray  # (K + 1, n, n), by least squares, without a prior and with free regressors
    classical: np.ndarray  # (K + 1, n, n), standard error of `moved`, residuals taken for independent
    clusters: np.ndarray  # (K + 1, n, n, clusters), what each cluster of samples moves it by
    unseen: np.ndarray  # (K + 1, n, n), variance of what is continued to states in which the neuron is silent
    stiffer: np.ndarray  # (K + 1, n, n), as fitted, but continued more stiffly


def _of_hidden(net, rec, measure, through, weights):
    """The orders of a network with hidden units. Returns: Parts."""
    n, size, k = net.n, len(net.b), len(measure.powers)
    u = synaptic_state(rec.rates, net.alpha)
    V = np.linalg.eigh(measure.states.T @ measure.states)[1][:, ::-1][:, :LEADING]
    sd = orders.spread_of(rec.velocity[rec.valid])
    raw = (orders.monomials(rec.velocity / sd, measure.powers)[..., None] * (u @ V)[..., None, :]).astype(np.float32)
    p, raw = V.shape[1], raw.reshape(*u.shape[:2], -1)
    late = slice(u.shape[1] - through.x.shape[1], None)
    free = np.concatenate([raw[..., p:], synaptic_state(raw, net.alpha)], -1)[:, late]  # u itself is there already
    terms = np.zeros((k, orders.STATES, size + 1 + free.shape[-1]))
    terms[0, :, :n], terms[0, :, size] = measure.states, 1
    terms[:, :, n:size] = np.einsum("kg,gsh->ksh", measure.fit, orders.hidden_states(net, measure), optimize=True)
    for at, order in enumerate([*range(1, k), *range(k)]):
        block = slice(size + 1 + at * p, size + 1 + (at + 1) * p)
        terms[order, :, block] = measure.states @ V / np.prod(sd ** measure.powers[order])
    start = np.concatenate([weights, np.zeros((free.shape[-1], n))])
    held = Held(*(a[:, ::EVERY] for a in through._replace(x=np.concatenate([through.x, free], -1))))
    return _regressed(start, terms, held, measure)


def _of_direct(found, measure):
    """The orders of the direct description. Returns: Parts."""
    p, k = found.directions.shape[1], len(measure.powers)
    terms = np.zeros((k, orders.STATES, k * p + 1))
    for order in range(k):
        terms[order, :, order * p : (order + 1) * p] = measure.states @ found.directions / found.size[order]
    terms[0, :, -1] = 1
    return _regressed(found.coefficients, terms, found.held, measure)


def _regressed(start, terms, held, measure):
    """Orders of currents that are linear in coefficients, with least squares about these. Returns: Parts.

    start: (q, n); terms: (K + 1, states, q), takes coefficients to the orders of the current at each state; held: Held,
    with regressors x (trials, steps, q).
    """
    data, n = uncertainty.regress(start, held.x, held), start.shape[1]
    score, count, q = data.scores(), data.used.sum(0), held.x.shape[-1]
    shape, rest = (len(terms), n, n), terms[0] @ start
    fitted, moved, unseen, stiffer = (np.zeros(shape) for _ in range(4))
    classical = np.full(shape, np.inf)
    groups = min(len(data.starts), max(uncertainty.CLUSTERS, ROOM // n**2))  # of clusters, as memory allows
    clusters = np.zeros((*shape, groups), np.float32)
    sizes, V = np.linalg.eigh(measure.states.T @ measure.states / orders.STATES)
    sizes, V = sizes[::-1][:DIRECTIONS], V[:, ::-1][:, :DIRECTIONS]
    weights = np.where(np.arange(len(terms)) == 0, *CONTINUED)
    prior, seen = (np.maximum(sizes / sizes[0], 1e-6)) ** SMOOTH, measure.onto @ measure.states @ V
    for j, G in data.informations():
        active = (rest[:, j] > uncertainty.LOW) & (rest[:, j] < uncertainty.HIGH)
        z = measure.states[active] @ V
        weight = weights * sizes[0] * max(1, active.sum())
        seen_there = z.T @ terms[:, active]  # (K + 1, p, q)
        inverse, stiff = (
            np.linalg.inv(z.T @ z + w[:, None, None] * np.diag(1 / prior)) for w in (weight, STIFFER * weight)
        )
        rows = inverse @ seen_there  # (K + 1, p, q), takes coefficients to orders along V
        stiffer[:, :, j] = (stiff @ (seen_there @ start[:, j])[..., None])[..., 0] @ seen.T
        along = rows @ start[:, j]
        fitted[:, :, j] = moved[:, :, j] = along @ seen.T
        spread = np.mean(along**2 / prior, 1)  # the prior's variance, of each order
        unseen[:, :, j] = (spread * weight)[:, None] * np.einsum("ip,kpq,iq->ki", seen, inverse, seen)
        if count[j] < 2 * q:
            continue
        rows, known = seen @ rows, uncertainty.regularised_inverse(G)
        step = known @ score[:, j]
        left = data.left([j], step[:, None])
        moved[:, :, j] += rows @ step.numpy()
        pulls = torch.stack([part.sum(0) for part in data.clusters(left)[:, :, 0].tensor_split(groups)], 1)
        clusters[:, :, j] = rows @ (known @ pulls).numpy()
        covariance = (known * (left.square().sum() / (count[j] - q))).numpy()
        classical[:, :, j] = np.sqrt(np.maximum(np.einsum("kiq,kiq->ki", rows @ covariance, rows), 0))
    return Parts(fitted, moved, classical, clusters, unseen, stiffer)


def scores(found, truth, geometry, places):
    """What metrics.json says of orders. found: the arrays of connectivity.npz, or None; truth: recordings.load_truth's.

    Returns: dict of orders_powers, orders_size, orders_shown, orders_description, orders_residual, orders_noise, as
    `read_off` has them, and, where there is truth, r_orders, orders_slope (of fitted on true) and orders_coverage
    (share of distances where a profile's 95 % interval holds the true one): over orders, NaN where the truth has none.
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
    left = f"s.d. of the current left by hidden units {hidden:.4f}, by velocity times connections {other:.4f}"
    own = f"the recording's own noise {noise:.4f}" if np.isfinite(noise) else "its own noise cannot be told"
    say = {
        "hidden": "hidden units fit", "direct": "velocity times connections fits",
        "either": "both descriptions fit, and these data cannot tell which is right",
        "neither": "neither description fits, trust no order",
    }  # fmt: skip
    yield f"{say[which]}: {left}; {own}"
