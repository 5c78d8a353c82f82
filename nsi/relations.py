"""Relations of higher order read off a fit: which are there, how large, and by which description.

Two descriptions of a recording are read: hidden input units, and connections that the velocity multiplies directly
(nsi/direct.py). Which one fits, its residual says, beside the noise that the recording itself shows.

*Silent neurons.* A neuron that does not fire hides its current, so that a fit has it too small there, and with it every
order. A fit is therefore read at the states in which the neuron is active, and continued to the others by a linear map
along the states' directions: free along those that make a bump, the mean and the first waves, and small along the finer
ones, by a ridge whose prior variance is a power of the states' own, at the scale under which what is read is most
likely. Shrinking the first directions too would pull every order towards 0 where the neuron is silent.

*Intervals.* Given the input units' tuning, orders are linear in the weights onto recorded neurons, so that these have
an unbiased estimate and standard errors (as in nsi/uncertainty.py). Where tuning is wrong, so are they. So the same is
done once more with regressors that no tuned unit stands behind, powers of v times the states' leading directions, with
and without a synapse between. How far the profile moves counts as a further error; and how far the currents of active
neurons move, beyond sampling, with what a linear map leaves of them, is the noise of the continuation, whose posterior
variance counts too. An order is *shown* if its profile is larger than its standard error, as mean squares; what is not
shown is written as 0.
"""

from typing import NamedTuple

import numpy as np
import torch

from nsi import connectivity, direct, orders, uncertainty
from nsi.connectivity import Held, correlation
from nsi.network import synaptic_state

LEADING = 7  # of the states' directions, which regressors without tuned units are made of
DIRECTIONS, SMOOTH = 11, 2.0  # of the states along which currents are continued, and power of their size in the prior
BUMP = {1: 3, 2: 7}  # the first of them, on a ring and on a torus: the mean, and two for each wave; they are left free
FREE = 1e3  # prior variance of those, relative to what is read of them
LEAST = 1e-8  # noise of currents at least, relative to their size
FINER = 10.0 ** np.arange(-4, 1.01, 0.5)  # that of the others, from which the likeliest is taken
SHOWN = 1.5  # mean square of an order's profile over that of its standard error, from which on it is shown
FITS = 1.25  # residual over noise, up to which a description fits: what it has wrong is then half the noise's variance
AS_WELL = 1.05  # residual over that of the better one, up to which the data do not tell two descriptions apart
THERE = 5e-3  # size of a true order, relative to order 0, from which on it is scored
ENOUGH, EACH = 25_000, 80  # samples, in all and of each unit; of a longer recording trials are left out
EVERY = 2  # steps: one in so many is regressed on
ROOM = 5_000_000  # numbers of each order that the clusters' errors may take


def read_off(net, rec, geometry, places=None, by=None, seen=None):
    """The orders of a recording, by the description that fits it better.

    net: the fitted Network, its weights onto recorded neurons solved for; rec: the training trials; places: (n, D) rad,
    the neurons' (default: those that the activity spans); by: "hidden" or "direct", to read by that one all the
    same; seen: called with how many neurons have just been read. Returns: dict of arrays for connectivity.npz:
    orders (K + 1, n, n), per power of the input's unit; orders_se, the same; orders_profile, orders_profile_se,
    their mean at each distance in the place of every pair; orders_powers (K + 1, D); orders_size (K + 1,), of each
    order times its monomial's r.m.s. relative to order 0; orders_shown (K + 1,) bool; orders_description, "hidden",
    "direct", "either" where the data cannot tell, or "neither"; orders_residual (2,), s.d. of the current that
    hidden units and the direct description leave; orders_noise, of the recording's own, NaN where it cannot be
    told; orders_scale (K + 1,), each monomial's r.m.s.
    """
    measure = orders.measure_of(rec.rates, rec.velocity, net.alpha, rec.valid)
    places = geometry.find(rec.rates[rec.valid]) if places is None else places
    rec = rec.trials(slice(None, None, max(1, round(rec.valid.sum() / max(ENOUGH, EACH * len(net.b))))))
    through = connectivity.hold(net, rec)
    weights = np.concatenate([net.W[:, : net.n], net.b[None, : net.n]]).astype(np.float64)
    hidden = direct.remaining(weights, through)
    other = direct.fit(rec, net.alpha, measure.powers)
    best = other.left if other.left.sd < hidden.sd else hidden
    bump = BUMP.get(geometry.dimensions, 1)
    if best is hidden if by is None else by == "hidden":
        parts = _of_hidden(net, rec, measure, through, weights, bump, seen)
    else:
        parts = _of_direct(other, measure, bump, seen)
    named = "hidden" if best is hidden else "direct"
    if not best.sd <= FITS * best.noise:
        named = "neither"
    elif max(hidden.sd, other.left.sd) <= AS_WELL * best.sd:
        named = "either"
    found = _judged(parts, measure, geometry, places)
    return found | {
        "orders_powers": measure.powers, "orders_description": np.array(named),
        "orders_residual": np.array([hidden.sd, other.left.sd]), "orders_noise": np.array(best.noise),
        "orders_scale": measure.size,
    }  # fmt: skip


def _judged(parts, measure, geometry, places):
    """What is written of orders. parts: `_continued`'s; places: (n, D) rad."""
    every = np.ones((len(places),) * 2, bool)
    mean = lambda W: geometry.mean_profile(W.astype(np.float64), places, every)  # noqa: E731
    written, se, profile, profile_se = (np.zeros(parts.fitted.shape) for _ in range(4))
    shown = np.zeros(len(written), bool)
    for k, (G, moved) in enumerate(zip(parts.fitted, parts.moved, strict=True)):
        profile[k], away = mean(G), mean(moved - G)
        scatter = sum(mean(parts.clusters[k, ..., c]) ** 2 for c in range(parts.clusters.shape[-1]))
        sampling = np.maximum(parts.classical[k] ** 2, (parts.clusters[k].astype(np.float64) ** 2).sum(-1))
        shared = np.mean(away**2) + np.mean(parts.unseen[k])  # what neurons have in common
        se[k] = np.sqrt(sampling + shared)
        profile_se[k] = np.sqrt(scatter + shared) if np.isfinite(sampling).all() else np.inf
        shown[k] = k == 0 or np.mean(profile[k] ** 2) > SHOWN * np.mean(profile_se[k] ** 2)
        apart, moved_apart = G - profile[k], moved - mean(moved)
        kept = np.clip(np.mean(moved_apart**2 - sampling - parts.unseen[k]) / max(np.mean(apart**2), 1e-30), 0, 1)
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


class Read(NamedTuple):
    """Each order's currents at the states in which a neuron is active, along p directions z of the states: sums over
    these states."""

    states: np.ndarray  # (n,), how many
    square: np.ndarray  # (n, p, p), z.T @ z
    fitted: np.ndarray  # (K + 1, n, p), z.T @ currents
    moved: np.ndarray  # (K + 1, n, p), of the currents by least squares with free regressors
    clusters: np.ndarray  # (K + 1, n, p, clusters), of what each cluster of samples moves these by
    classical: np.ndarray  # (K + 1, n, p, p), covariance of `moved`, residuals taken for independent
    size: np.ndarray  # (K + 1, n), squared currents
    away: np.ndarray  # (K + 1, n), squared difference of the two currents
    sampling: np.ndarray  # (K + 1, n), variance of the latter by clusters
    unknown: np.ndarray  # (n,) bool, too few samples for least squares


def _of_hidden(net, rec, measure, through, weights, bump, seen):
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
    return _continued(*_read(start, terms, held, measure, seen), measure, bump)


def _of_direct(found, measure, bump, seen):
    """The orders of the direct description. Returns: Parts."""
    p, k = found.directions.shape[1], len(measure.powers)
    terms = np.zeros((k, orders.STATES, k * p + 1))
    for order in range(k):
        terms[order, :, order * p : (order + 1) * p] = measure.states @ found.directions / found.size[order]
    terms[0, :, -1] = 1
    return _continued(*_read(found.coefficients, terms, found.held, measure, seen), measure, bump)


def _read(start, terms, held, measure, seen):
    """What is seen of each order's currents, which are linear in coefficients, with least squares about these.

    start: (q, n); terms: (K + 1, states, q), takes coefficients to the orders of the current at each state; held: Held,
    with regressors x (trials, steps, q). Returns: Read, and the directions (n, p).
    """
    data, n = uncertainty.regress(start, held.x, held), start.shape[1]
    score, count, q = data.scores(), data.used.sum(0), held.x.shape[-1]
    rest, k = terms[0] @ start, len(terms)
    groups = min(len(data.starts), max(uncertainty.CLUSTERS, ROOM // n**2))  # of clusters, as memory allows
    V = np.linalg.eigh(measure.states.T @ measure.states)[1][:, ::-1][:, :DIRECTIONS]
    p, states = V.shape[1], measure.states @ V
    read = Read(*(np.zeros(shape) for shape in (
        n, (n, p, p), (k, n, p), (k, n, p), (k, n, p, groups), (k, n, p, p), (k, n), (k, n), (k, n)
    )), (count < 2 * q).numpy())  # fmt: skip
    for index, factors in data.factors():
        steps = uncertainty.solve_each(factors, score[:, index])  # (q, some)
        left = data.left(index, steps)
        pulls = torch.stack([part.sum(0) for part in data.clusters(left).tensor_split(groups)], 1)  # (q, groups, some)
        for at, (j, factor) in enumerate(zip(index, factors, strict=True)):
            active = (rest[:, j] > uncertainty.LOW) & (rest[:, j] < uncertainty.HIGH)
            z, there = states[active], terms[:, active].reshape(-1, q)  # in the order of orders and states
            rows = z.T @ there.reshape(k, -1, q)  # (K + 1, p, q)
            sides = torch.cat([pulls[:, :, at], torch.as_tensor(rows.reshape(-1, q).T)], 1)
            solved = uncertainty.solve_each([factor], sides[..., None])[..., 0]
            moves = torch.cat([torch.as_tensor(start[:, j, None]), steps[:, at, None], solved[:, :groups]], 1)
            moves = (there @ moves.numpy()).reshape(k, -1, 2 + groups)  # (K + 1, active, ...)
            currents, away, each = moves[..., 0], moves[..., 1], moves[..., 2:]
            read.states[j], read.square[j], read.size[:, j] = len(z), z.T @ z, (currents**2).sum(1)
            read.fitted[:, j] = read.moved[:, j] = currents @ z
            if read.unknown[j]:
                continue
            read.moved[:, j] += away @ z
            read.away[:, j], read.sampling[:, j] = (away**2).sum(1), (each**2).sum((1, 2))
            read.clusters[:, j] = z.T @ each
            variance = float(left[:, at].square().sum() / (count[j] - q))
            read.classical[:, j] = variance * rows @ np.moveaxis(solved[:, groups:].numpy().reshape(q, k, p), 0, 1)
        if seen:
            seen(len(index))
    return read, V


def _continued(read, V, measure, bump):
    """The orders over all states. bump: how many of the directions V (n, p) are left free. Returns: Parts."""
    seen, sizes = measure.onto @ measure.states @ V, ((measure.states @ V) ** 2).mean(0)
    shape, groups = (len(read.fitted), len(V), len(V)), read.clusters.shape[-1]
    parts = Parts(*(np.zeros(shape) for _ in range(3)), np.zeros((*shape, groups), np.float32), np.zeros(shape))
    for k in range(len(read.fitted)):
        noise, common = _noise(read, k)
        precision = read.square / noise[:, None, None]
        inverse = _prior(read, k, precision, noise, sizes / sizes[0], bump)
        after = np.linalg.inv(precision + inverse)  # (n, p, p), posterior covariance
        rows = seen @ after / noise[:, None, None]  # (to, from, p), takes sums to orders
        for part, sums in (parts.fitted, read.fitted), (parts.moved, read.moved):
            part[k] = (rows @ sums[k][..., None])[..., 0].T
        parts.classical[k] = np.sqrt(np.maximum(((rows @ read.classical[k]) * rows).sum(-1), 0)).T
        parts.classical[k][:, read.unknown] = np.inf
        parts.clusters[k] = np.moveaxis(rows @ read.clusters[k], 0, 1)
        # sampling moves each neuron its own way, and a mean over neurons hardly
        unseen = common * after + (1 - common) * after @ inverse @ after
        parts.unseen[k] = ((seen @ unseen) * seen).sum(-1).T
    return parts


def _noise(read, k):
    """Of an order's currents: variance in each neuron's (n,), as if all states were independent, and the share of it
    that neurons have in common."""
    total = max(1.0, read.states.sum())
    along = np.linalg.pinv(read.square, 1e-9, True) @ read.fitted[k][..., None]
    lack = max(0.0, read.size[k].sum() - (along[..., 0] * read.fitted[k]).sum()) / total  # of the map's being linear
    misfit, sampled = read.away[k].sum() / total, read.sampling[k].sum() / total
    noise = max(misfit + lack, LEAST * read.size[k].sum() / total, 1e-30)
    # currents change from state to state as slowly as the directions do, so that so many of the states are independent
    repeats = np.maximum(1, read.states / read.square.shape[-1])
    return noise * repeats, min(1.0, (max(misfit - sampled, 0.0) + lack) / noise)


def _prior(read, k, precision, noise, share, bump):
    """The precision (p, p) of an order's prior, its scale the likeliest. share: (p,), each direction's size,
    relative to the first one's."""
    free, score = np.arange(len(share)) < bump, read.fitted[k] / noise[:, None]
    first = np.linalg.pinv(read.square[:, :bump, :bump], 1e-9, True) @ read.fitted[k][:, :bump, None]
    scale = max(np.mean((first[..., 0] ** 2 * share[:bump]).sum(-1)), 1e-30)
    variance = lambda finer: scale * np.where(free, FREE, finer * share**SMOOTH)  # noqa: E731

    def evidence(finer):
        root = np.sqrt(variance(finer))
        inner, own = np.eye(len(share)) + root[:, None] * precision * root, root * score
        explained = (own * np.linalg.solve(inner, own[..., None])[..., 0]).sum()
        return (explained - np.linalg.slogdet(inner)[1].sum()) / 2

    return np.diag(1 / variance(max(FINER, key=evidence)))


def scores(found, truth, geometry, places):
    """What metrics.json says of orders. found: the arrays of connectivity.npz, or None; truth: recordings.load_truth's;
    places: those that `read_off` was given.

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
