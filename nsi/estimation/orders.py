"""Effective connectivity by order of the velocity, J(v) = W + v G_1 + v^2 G_2 + ..., from the estimate's regression.

nsi/expansion.py defines the orders of a circuit; here each is a linear map of the regression's weights. At each of some
recorded states s, and at each velocity v of a grid, the columns of a block take a value x(s, v) once the synapse
has settled: s V for `path`, v_d s V for `gate`, phi(s K - threshold +- drive s(v_d)) V for `copies`. Then

    G_k = onto sum_v fit[k, v] x(s, v) w      onto: from currents at the states to the map from states to currents

The estimate's own blocks have few powers of the velocity beyond the first. So the regression is done once more with
F(v^p u V) for each power p that is missing, or v^p u V where the velocity multiplies connections, V having DIRECTIONS
columns here; the evidence sets the scale of each, so that what is not there is near 0 in the best estimate. Standard
errors are the regression's, times a factor by the recording simulated from the estimate, as for W.
"""

import numpy as np

from nsi import expansion, response
from nsi.estimation.signals import state_of

DIRECTIONS = 7  # leading directions of the states that further powers multiply: mean and three waves of a ring or torus
EQUILIBRIUM_STEPS = 40  # after which copies that excite each other are at rest
SHOWN = 2.64  # mean square of profile over standard error: 99 % quantile of the mean of DIRECTIONS normal squares


def extend(fit):
    """A fit with blocks for the powers of the velocity that it lacks, whose maps take its weights to the orders.

    fit: fitting.Fit, whose `extended` it becomes. Returns: another one, with the attribute `measure`,
    expansion.Measure.
    """
    rec, alpha = fit.rec, fit.kinetics.alpha
    rates, V = np.float32(fit.kinetics.response.scale) * rec.rates, fit.directions[:, :DIRECTIONS]
    measure = expansion.measure_of(rates, rec.velocity, alpha, rec.valid)
    sd = expansion.spread_of(rec.velocity[rec.valid])
    known = [powers_of(block, len(sd)) for block in fit.blocks]

    def moved(powers):
        def signal(u, v):
            product = expansion.monomials(v / sd, powers[None]).astype(np.float32) * (u @ V)
            return state_of(product, alpha) if fit.kinetics.mechanism == "hidden neurons" else product

        return signal

    further = [(f"order {p.tolist()}", moved(p), V) for p in measure.powers[1:] if tuple(p) not in known]
    extended = fit.add_blocks(further)
    extended.measure, extended.maps = measure, maps(extended, measure)
    return extended


def maps(fit, measure, kernels=None):
    """Linear maps from weights (q, n) to each order. fit: `extend`'s; measure: expansion.Measure; kernels: from
    recorded neurons to the copies, one for each block of them (default: the fit's). Returns: list of (n, q)."""
    states, grid, d = measure.states, measure.grid, measure.grid.shape[1]
    sd = expansion.spread_of(fit.rec.velocity[fit.rec.valid])
    linear = np.zeros((len(measure.powers), states.shape[1], fit.q))
    if fit.copies is not None:
        own, driving = fit.copies.kernel(fit.geometry, fit.places), fit.copies.saturated(grid)
        kernels = iter([own] * len(fit.blocks) if kernels is None else kernels)
        coupling = fit.copies.coupling(fit.geometry, fit.places)
    for block in fit.blocks:
        projected = states if block.directions is None else states @ block.directions
        powers = powers_of(block, d)
        if block.name == "copies":
            component, sign = block.component
            received = states @ next(kernels) - fit.copies.threshold
            received = received + sign * fit.copies.drive * driving[:, component, None, None]
            rates = response.phi(received)
            for _ in range(EQUILIBRIUM_STEPS if coupling is not None else 0):
                rates += 0.5 * (response.phi(received + rates @ coupling) - rates)
            rates = rates if fit.copies.centres is None else rates * fit.copies.centres
            for k, row in enumerate(measure.fit):
                linear[k][:, block.columns] = measure.onto @ np.tensordot(row, rates, 1) @ block.directions
        elif block.name == "driven":  # a current whatever the state
            linear[:, :, block.columns] = measure.onto.sum(1)[:, None] * (measure.fit @ grid)[:, None]
        elif powers is not None:
            value = expansion.monomials(grid, np.array([powers]))[:, 0]
            value = value / np.prod(sd**powers) if block.name.startswith("order") else value
            linear[:, :, block.columns] = (measure.fit @ value)[:, None, None] * (measure.onto @ projected)
    linear[0, :, -1] = measure.onto.sum(1)
    return list(linear)


def powers_of(block, dimensions):
    """Powers of the velocity's components that a block's columns are proportional to. Returns: tuple of int, or None of
    copies, which have all, of what enters driven neurons and of noise."""
    if block.name.startswith("order"):
        return tuple(int(p) for p in block.name.removeprefix("order [").removesuffix("]").split(","))
    named = {"direct": (), "path": (), "gate": block.component[:1], "products": block.component}
    return tuple(named[block.name].count(d) for d in range(dimensions)) if block.name in named else None


def read_orders(fit, best):
    """The orders of a fit. fit: `extend`'s; best: prior.Posterior of the fit without its further blocks.

    Returns: dict of `orders`, best, `orders_unbiased` and `orders_se`, (K + 1, n, n), per power of the velocity's unit;
    `orders_powers` (K + 1, D); `orders_scale` (K + 1,), the r.m.s. of each power.
    """
    plain, shrunk = fit.estimates(best.scales)
    read = lambda weights: np.stack([L @ weights for L in fit.maps])
    return {
        "orders": read(shrunk.weights), "orders_unbiased": read(plain.weights), "orders_se": np.stack(plain.se),
        "orders_powers": fit.measure.powers, "orders_scale": fit.measure.size,
    }  # fmt: skip


def simulated_errors(fit, simulated, again, best):
    """Errors over standard errors in the recording simulated from a fit. fit, again: Fits of the recording and the
    simulated one, both extended; simulated: intervals.Simulated; best: prior.Posterior that it was simulated with.
    Returns: dict of arrays."""
    other = again.extended
    weights = np.zeros((fit.extended.q, len(simulated.W)))
    weights[: len(best.weights) - 1], weights[-1] = best.weights[:-1], best.weights[-1]
    true = maps(fit.extended, other.measure, simulated.kernels)
    plain = other.unbiased()
    errors = [np.abs(L @ plain.weights - T @ weights) for L, T in zip(other.maps, true, strict=True)]
    errors, se = np.concatenate(errors), np.concatenate(plain.se)
    # a power of a velocity that is 0 throughout has neither an error nor a standard error
    return {"orders": np.divide(errors, se, out=np.full(se.shape, np.nan), where=se > 0).ravel()}


def profiles(estimate, geometry, places):
    """Each order's mean at every distance, in the place of every pair, its centre, and its standard error if neurons'
    errors are independent. estimate: dict with `read_orders`'s keys. Returns: three (K + 1, n, n)."""
    se = estimate["orders_se"]
    known = np.isfinite(se[0])
    count = known.any(0).sum()
    if count < 2:
        return np.zeros(se.shape), np.zeros(se.shape), np.full(se.shape, np.inf)
    of = lambda W: geometry.mean_profile(np.where(known, W, 0.0), places, known)
    each = estimate["orders"], estimate["orders_unbiased"], se**2
    best, centre, square = (np.stack([of(W) for W in values]) for values in each)
    return best, centre, np.sqrt(np.maximum(square, 0.0) / count)


def sizes(estimate, geometry, places):
    """Of each order: its size, r.m.s. weight times its power's r.m.s., relative to order 0, and whether the data show
    it, by its profile under the prior. estimate: dict with `read_orders`'s keys. Returns: (K + 1,), (K + 1,) bool."""
    size = np.linalg.norm(estimate["orders"], axis=(1, 2)) * estimate["orders_scale"]
    best, _, se = profiles(estimate, geometry, places)
    return size / max(size[0], 1e-30), ((best / np.maximum(se, 1e-30)) ** 2).mean((1, 2)) > SHOWN
