"""The estimator's fast linear algebra against nsi/estimation/plain.py, and its signals against plain loops."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.linalg import block_diag
from scipy.optimize import approx_fprime

from nsi import recordings, response
from nsi.estimation import plain, prior, refinement, regression, signals
from nsi.estimation.copies import (
    FIRST_REACH,
    LEAST_CURVATURE,
    NUMBERS,
    USUAL,
    Currents,
    Inputs,
    Point,
    Problem,
    Setting,
    Sheets,
    solve_step,
)
from nsi.estimation.kinetics import Likelihood, parabola, surely_better
from nsi.geometry import RING, TORUS
from nsi.network import synaptic_state

N, TRIALS, STEPS = 5, 24, 6


def problem(seed=0):
    """Samples of a few neurons under all kinds of blocks, at random. Returns: namespace of them, model and sums."""
    rng = np.random.default_rng(seed)
    V = np.linalg.qr(rng.normal(size=(N, 3)))[0]
    names = [("direct", None, "direct", N), ("driven", None, "driven", 1), ("copies", V, "copies", 3),
             ("copies", V, "copies", 3), ("gate", V[:, :2], "gate", 2)]  # fmt: skip
    blocks, start = [], 0
    for name, directions, group, size in names:
        blocks.append(signals.Block(name, slice(start, start + size), directions, group))
        start += size
    q = start + 1
    x = (rng.normal(size=(TRIALS, STEPS, q)) + rng.normal(size=(TRIALS, 1, q))).astype(np.float32)
    x[..., -1] = 1
    shared = rng.normal(size=(TRIALS, 1, N))  # of the samples of a trial, so that clustering matters
    noise = 0.3 * (rng.normal(size=(TRIALS, STEPS, N)) + shared)
    currents, used = x @ (0.3 * rng.normal(size=(q, N))) + noise, rng.random((TRIALS, STEPS, N)) < 0.7
    wide = np.full(used.shape, 0.5)
    samples = regression.select(x, currents, np.zeros_like(currents), used, wide, 0.0, 1.0)
    free = np.ones((q, N), bool)
    free[N] = rng.permutation([True, True, False, False, False])
    model = prior.Model(tuple(blocks), *RING.terms(RING.places(N)), free)
    variance = rng.uniform(0.5, 1.5, N)
    return SimpleNamespace(rng=rng, samples=samples, model=model, variance=variance, q=q, V=V, x=x.reshape(-1, q),
                           sums=regression.moments([samples], regression.neighbours(samples.used)))  # fmt: skip


def stack(p, logs, sizes, smooth):
    """The problem's regressors, currents and variances of all neurons, one below the other, and R, L, S of plain.py."""
    at = [p.samples.used[:, j] for j in range(N)]
    X = block_diag(*(p.x[a].astype(float) for a in at))
    y = np.concatenate([p.samples.y[a, j] for j, a in enumerate(at)]).astype(float)
    variance = np.repeat(p.variance, [a.sum() for a in at])
    apart = RING.places(N) - RING.places(N)[:, 0]  # to minus from, (to, from)
    R, L, S = np.zeros((N, p.q, 40)), [], np.full((N, p.q), prior.CONSTANT_SD)
    for block in p.model.blocks:
        g, V = p.model.groups.index(block.group), np.eye(N) if block.directions is None else block.directions
        S[:, block.columns] = np.exp(logs[g]) * p.model.free[block.columns].T
        waves = [(k, f) for k in range(3) for f in ((np.cos, np.sin) if k else (np.cos,))]
        for k, f in [] if block.name == "driven" else waves[: 2 * block.size + 1]:
            R[:, block.columns, len(L)] = f(k * apart) * np.sqrt((2 if k else 1) / N) @ V
            L.append(np.exp(sizes[g] - k**2 / (2 * np.exp(smooth[g]) ** 2)))
    return X, y, variance, R.reshape(N * p.q, -1)[:, : len(L)], np.array(L), S.ravel()


LOGS, SIZES, SMOOTH = np.log([0.2, 0.5, 0.1, 0.4]), np.log([0.7, 0.3, 0.5, 0.2]), np.log([1.0, 2.0, 0.8, 3.0])


def test_least_squares_and_both_its_standard_errors():
    p = problem()
    L = p.rng.normal(size=(4, p.q))
    found = regression.least_squares([p.samples], p.sums, [L])
    clusters, larger = np.repeat(np.arange(TRIALS), STEPS), 0
    for j in range(N):
        at = p.samples.used[:, j]
        w, variance, classical, clustered = plain.least_squares(
            p.x[at].astype(float), p.samples.y[at, j].astype(float), clusters[at], L
        )
        np.testing.assert_allclose(found.weights[:, j], w, rtol=1e-4, atol=1e-6)
        assert found.variance[j] == pytest.approx(variance, rel=1e-5)
        np.testing.assert_allclose(found.se[0][:, j], np.maximum(classical, clustered), rtol=1e-4)
        larger += (clustered > 1.05 * classical).sum()
    assert larger > 5  # the clustered one matters here


def test_sums_and_errors_in_pieces_are_those_of_the_whole():
    p, cut = problem(), 2 * STEPS
    x, used, y, starts, _ = p.samples
    pieces = [regression.Samples(x[:cut], used[:cut], y[:cut], starts[starts < cut]),
              regression.Samples(x[cut:], used[cut:], y[cut:], starts[starts >= cut] - cut)]  # fmt: skip
    sums, maps = regression.moments(pieces), [np.eye(p.q)[:3]]
    for j, G in p.sums.xx.items():
        np.testing.assert_allclose(np.tril(sums.xx[j]), np.tril(G), rtol=1e-9, atol=1e-9)
    whole, parts = regression.least_squares([p.samples], p.sums, maps), regression.least_squares(pieces, sums, maps)
    np.testing.assert_allclose(parts.weights, whole.weights, atol=1e-9)
    np.testing.assert_allclose(parts.se[0], whole.se[0], rtol=1e-4)


def test_inverse_of_a_triangular_matrix_by_halves():
    L = np.tril(np.random.default_rng(0).normal(size=(203, 203))) + 20 * np.eye(203)
    found = regression.invert_root(L)
    np.testing.assert_allclose(found @ L, np.eye(203), atol=1e-12)
    assert (np.triu(found, 1) == 0).all()


def test_sums_by_groups_are_those_of_all_neurons_at_once():
    p = problem()
    p.samples.used[:, 3] = np.arange(len(p.x)) < 5
    whole, neurons = regression.moments([p.samples]), []
    for sums in regression.moments_by_groups([p.samples], np.split(np.arange(N), [2, 3]), whole):
        for j, G in sums.xx.items():
            np.testing.assert_allclose(G, whole.xx[j], rtol=1e-9, atol=1e-9)
        neurons += sums.xx
    assert neurons == list(whole.xx) == [0, 1, 2, 4]


def test_neurons_with_few_samples_get_no_weights():
    p = problem()
    p.samples.used[:, 2] = np.arange(len(p.x)) < 2 * p.q - 1
    found = regression.least_squares([p.samples], regression.moments([p.samples]), [np.eye(p.q)])
    assert np.isnan(found.weights[:, 2]).all()
    assert np.isinf(found.se[0][:, 2]).all()
    assert np.isfinite(found.weights[:, [0, 1, 3, 4]]).all()


def test_evidence_is_the_density_of_the_currents():
    """Not only up to a constant: the log density, but for that of the standard normal's normalisation."""
    p = problem()
    evidence = prior.Evidence(p.model, p.sums, p.variance)
    H, h, value = evidence.of_profiles(LOGS)
    sizes, smooth, gain = evidence.fit_profiles(H, h, SIZES, SMOOTH, several=False)

    def density(sizes, smooth):
        X, y, variance, R, L, S = stack(p, LOGS, sizes, smooth)
        P = plain.prior_covariance(R, L, S)
        return plain.log_evidence(X, y, variance, P) + len(y) / 2 * np.log(2 * np.pi)

    assert value + gain == pytest.approx(density(sizes, smooth), rel=1e-6)
    assert density(SIZES, SMOOTH) < value + gain
    for g in (0, 2, 3):  # at the maximum; a driven neuron's weight has no profile
        for step in (-0.1, 0.1):
            moved = sizes.copy()
            moved[g] = np.clip(moved[g] + step, prior.MIN_LOG_SCALE, prior.MAX_LOG_SCALE)
            assert density(moved, smooth) < value + gain + 1e-4


def test_evidence_of_deviations_and_its_gradient():
    p = problem()
    evidence = prior.Evidence(p.model, p.sums, p.variance)
    mean = 0.2 * p.rng.normal(size=len(p.model.frequency))
    value, gradient = evidence.of_deviations(LOGS, mean, range(N))
    X, y, variance, R, _, S = stack(p, LOGS, SIZES, SMOOTH)
    density = lambda S: plain.log_evidence(X, y, variance, np.diag(S**2), R @ mean)
    assert value == pytest.approx(density(S) - density(0 * S), rel=1e-6)
    numerical = approx_fprime(LOGS, lambda logs: evidence.of_deviations(logs, mean, range(N))[0], 1e-6)
    np.testing.assert_allclose(gradient, numerical, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("rounds", [0, 2])
def test_posterior_is_the_one_of_linear_algebra(rounds):
    """Under the scales that it says it chose, deviations of 0 among them."""
    p = problem()
    start = prior.Scales(*({g: float(np.exp(x)) for g, x in zip(p.model.groups, a, strict=True)}
                           for a in (SIZES, SMOOTH, LOGS)))  # fmt: skip
    evidence = prior.Evidence(p.model, p.sums, p.variance)
    found = evidence.posterior(start, rounds)
    logs, sizes, smooth = (np.log([max(d[g], 1e-12) for g in p.model.groups])
                           for d in (found.scales.deviation, found.scales.size, found.scales.smoothness))  # fmt: skip
    X, y, variance, R, profile_sd, S = stack(p, logs, sizes, smooth)
    P = plain.prior_covariance(R, profile_sd, S)
    mean = plain.posterior(X, y, variance, P)
    np.testing.assert_allclose(found.weights.T.ravel(), mean, atol=2e-5)
    assert found.evidence == pytest.approx(plain.log_evidence(X, y, variance, P) + len(y) / 2 * np.log(2 * np.pi))
    H, h, _ = evidence.of_profiles(logs)
    X_c, mean_c = X @ R, np.diag(profile_sd**2)  # of the profiles' coefficients, deviations a part of the noise
    K = np.linalg.inv(X @ np.diag(S**2) @ X.T + np.diag(variance))
    covariance_c = np.linalg.inv(np.linalg.inv(mean_c) + X_c.T @ K @ X_c)
    np.testing.assert_allclose(evidence.coefficients(H, h, sizes, smooth)[1], covariance_c, rtol=1e-4, atol=1e-12)
    driven = p.model.free[N]
    assert (found.weights[N, ~driven] == 0).all()
    assert rounds == 0 or (found.weights[N, driven] != 0).all()


def test_scales_that_made_the_currents_are_found():
    """Deviations of 0.3 in one block and none in another, of a hundred neurons."""
    rng = np.random.default_rng(0)
    n, blocks = 100, (signals.Block("a", slice(0, 6), None, "a"), signals.Block("b", slice(6, 12), None, "b"))
    model = prior.Model(blocks, np.zeros((1, 6, n)), np.zeros(1))
    x, truth = rng.normal(size=(200, 13)), np.zeros((13, n))
    truth[:6] = 0.3 * rng.normal(size=(6, n))
    y = x @ truth + 0.1 * rng.normal(size=(200, n))
    sums = regression.Moments(dict.fromkeys(range(n), x.T @ x), x.T @ y, (y**2).sum(0), np.full(n, 200))
    scales = prior.Evidence(model, sums, np.full(n, 0.01)).posterior().scales
    assert scales.deviation["a"] == pytest.approx(0.3, rel=0.15)
    assert scales.deviation["b"] < 0.01


# ---- signals ----------------------------------------------------------------------------------------------------


def test_synaptic_state_in_pieces_is_the_plain_loop():
    rates = np.random.default_rng(0).random((3, 101, 4))
    for alpha in (0.07, 0.5, 1.0):
        u = [rates[:, 0]]
        for t in range(100):
            u.append(u[-1] + alpha * (rates[:, t] - u[-1]))
        np.testing.assert_allclose(synaptic_state(rates, alpha), np.stack(u, 1), atol=1e-12)


def test_copies_receive_their_gain_and_are_driven_with_their_sign():
    rng = np.random.default_rng(0)
    for geometry, n, D in ((RING, 12, 1), (TORUS, 16, 2)):
        places = geometry.places(n)
        copies = signals.Copies(1.7, 0.4, 0.3, 0.2)
        kernel = copies.kernel(geometry, places)
        np.testing.assert_allclose(kernel.sum(0), 1.7, rtol=1e-5)
        assert (kernel.argmax(0) == np.arange(n)).all()
        u, v = rng.random((2, 5, n)), rng.normal(size=(2, 5, D))
        found = dict(copies.rates(u, v, geometry, places))
        assert found.keys() == {(d, sign) for d in range(D) for sign in (1, -1)}
        for (d, sign), r in found.items():
            expected = np.maximum(0, np.tanh(u @ kernel - 0.3 + sign * 0.2 * v[..., [d]]))
            np.testing.assert_allclose(r, expected, rtol=1e-5, atol=1e-7)


def test_copies_that_excite_each_other_are_a_recurrent_network():
    """Their signals, of those chosen for a fit too, and the rates by their states, against a loop over neurons."""
    rng, n, alpha = np.random.default_rng(0), 10, 0.3
    u, v, places = rng.random((2, 40, n)), rng.normal(size=(2, 40, 1)), RING.places(10)
    copies = signals.Copies(1.0, 0.5, 0.3, 0.2, excitation=0.6, reach=0.9)
    K, M = copies.kernel(RING, places), copies._replace(gain=0.6, width=0.9).kernel(RING, places)
    expected = {}
    for sign in (1, -1):
        states, rates = np.zeros((2, 41, n)), np.zeros((2, 40, n))
        for t in range(40):
            current = u[:, t] @ K - 0.3 + sign * 0.2 * v[:, t]
            rates[:, t] = response.phi(current + (states[:, t] @ M if t else 0.0))
            states[:, t + 1] = states[:, t] + (alpha if t else 1.0) * (rates[:, t] - states[:, t])
        states[:, 0] = rates[:, 0]
        expected[sign] = rates, states[:, :-1]
    for (_, sign), r in copies.rates(u, v, RING, places, alpha):
        np.testing.assert_allclose(r, expected[sign][0], atol=1e-5)
    known = [expected[sign][1][:, 5:] for sign in (1, -1)]
    for (_, sign), r in copies.rates(u[:, 5:], v[:, 5:], RING, places, states=known):
        np.testing.assert_allclose(r, expected[sign][0][:, 5:], atol=1e-5)
    inputs = Inputs(u.astype(np.float32), v, Setting(alpha, RING, places), None, np.eye(n, dtype=np.float32))
    sheets = Sheets(inputs, copies)
    late = np.concatenate([expected[sign][1][:, sheets.inputs.first :] for sign in (1, -1)], -1)
    np.testing.assert_allclose(sheets.values, late.reshape(len(sheets.values), -1), atol=1e-5)


def test_blocks_are_the_signals_of_the_equation():
    """Each block's columns, against loops: one synapse later for hidden neurons, at once for multiplied connections."""
    rng, alpha, n = np.random.default_rng(0), 0.3, 12
    r, v = rng.random((2, 60, n)).astype(np.float32), rng.normal(size=(2, 60, 2)).astype(np.float32)
    places, V = RING.places(n), np.linalg.qr(rng.normal(size=(n, 3)))[0].astype(np.float32)
    u, copies = signals.state_of(r, alpha), signals.Copies(1.0, 0.5, 0.2, 0.1)

    def filtered(a):
        u = [a[:, 0]]
        for t in range(a.shape[1] - 1):
            u.append(u[-1] + alpha * (a[:, t] - u[-1]))
        return np.stack(u, 1)

    hidden = signals.hidden_signals(u, v, alpha, V, copies.rates(u, v, RING, places, alpha), driven=True)
    expected = [u, v, *(filtered(c) @ V for _, c in copies.rates(u, v, RING, places)), filtered(u @ V),
                *(filtered(v[..., [d]] * (u @ V)) for d in range(2)), np.ones((2, 60, 1))]  # fmt: skip
    first = hidden.first
    np.testing.assert_allclose(hidden.x, np.concatenate(expected, -1)[:, first:], atol=1e-5)
    multiplied = signals.multiplied_signals(u, v, alpha, V)
    products = [v[..., [d]] * v[..., [e]] * (u @ V) for d, e in ((0, 0), (0, 1), (1, 1))]
    expected = [u, *(v[..., [d]] * (u @ V) for d in range(2)), *products, np.ones((2, 60, 1))]
    np.testing.assert_allclose(multiplied.x, np.concatenate(expected, -1)[:, first:], atol=1e-5)
    assert [b.component for b in hidden.blocks if b.name == "copies"] == [(0, 1), (0, -1), (1, 1), (1, -1)]


def test_copies_on_some_places_are_silent_elsewhere():
    """They receive from all senders; of a fit the others' signals are not even made."""
    rng, n, places = np.random.default_rng(0), 10, RING.places(10)
    centres, senders = np.arange(n) % 2 == 0, np.arange(n) != 3
    copies = signals.Copies(-1.0, 0.5, -0.3, 0.2, centres, excitation=0.4, reach=0.8, senders=senders)
    kernel, coupling = copies.kernel(RING, places), copies.coupling(RING, places)
    np.testing.assert_allclose(kernel.sum(0), -1.0 * centres, rtol=1e-5)
    np.testing.assert_array_equal(kernel.any(1), senders)
    np.testing.assert_array_equal(coupling.any(0) | coupling.any(1), centres)
    u, v = rng.random((2, 40, n)).astype(np.float32), rng.normal(size=(2, 40, 1)).astype(np.float32)
    sheets = Sheets(Inputs(u, v, Setting(0.3, RING, places), centres, np.eye(n, dtype=np.float32)), copies)
    rates = [r for _, r in copies.rates(u, v, RING, places, 0.3)]
    assert not any(r[..., ~centres].any() for r in rates)
    np.testing.assert_allclose(sheets.values, sheets.inputs.filter(rates), atol=1e-5)
    assert sheets.rates.shape[-1] == centres.sum()
    setting = Setting(0.3, RING, places, senders)
    np.testing.assert_array_equal(np.flatnonzero(setting.centres(2)), [0, 2, 5, 7, 9])


@pytest.mark.parametrize("excitation", [0.0, 0.4])
def test_derivatives_of_copies_signals(excitation):
    """By log gain, log width, threshold, log drive, saturation, excitation and log reach, against differences."""
    rng, n = np.random.default_rng(0), 12
    u, v = rng.random((4, 80, n)), rng.normal(size=(4, 80, 1))
    currents, used = rng.random((4, 80, n)), np.ones((4, 80, n), bool)
    problem = Problem(Currents(currents, used, u, v), Setting(0.3, RING, RING.places(n)), None, (4, n))
    reach = FIRST_REACH * 0.6
    copies = signals.Copies(1.2, 0.6, 0.1, 0.2, saturation=0.3, excitation=excitation, reach=reach)
    point = Point(problem, copies)
    values, slopes = point.values, point.sheets.slopes(NUMBERS)
    moved = lambda **change: Point(problem, copies._replace(**change)).values
    change = {"gain": 1e-3, "width": 0.6e-3, "threshold": 1e-3, "drive": 1e-3, "saturation": 1e-3, "excitation": 1e-3,
              "reach": 1e-3}  # fmt: skip
    # steps of a logarithm are relative
    unit = {"gain": 1.2, "width": 0.6, "threshold": 1.0, "drive": 0.2, "saturation": 1 / problem.variance,
            "excitation": 1.0, "reach": reach}  # fmt: skip
    for (name, by), slope in zip(change.items(), slopes, strict=True):
        at = getattr(copies, name)
        numerical = (moved(**{name: at + by}) - moved(**{name: at - by})) / (2 * by) * unit[name]
        assert np.linalg.norm(slope - numerical) <= 0.03 * np.linalg.norm(numerical)
    assert values.shape == slopes[0].shape


def test_gauss_newton_step_is_the_one_of_a_whole_regression():
    """On [u, 1, noise, F(h) V] at once, without sums, and the residual with it."""
    rng, n = np.random.default_rng(1), 8
    u, v = rng.random((6, 200, n)), rng.normal(size=(6, 200, 1))
    currents, used, noise = rng.random((6, 200, n)), rng.random((6, 200, n)) < 0.8, rng.normal(size=(6, 200, 2))
    problem = Problem(Currents(currents, used, u, v, noise), Setting(0.3, RING, RING.places(n)), None, (6, n))
    point = Point(problem, signals.Copies(1.2, 0.6, 0.1, 0.2))
    late = lambda a: a[:, problem.first :: 2].reshape(-1, a.shape[-1])
    slopes, normal, right, residual = np.stack(point.sheets.slopes(USUAL), -1), 0.0, 0.0, 0.0
    assert len(problem.data) == n
    for j in range(n):
        at = late(used)[:, j]
        x = np.column_stack([late(u), np.ones(len(at)), late(noise), point.values])[at]
        y = late(currents)[at, j]
        weights = np.linalg.lstsq(x, y, rcond=None)[0]
        e, T = y - x @ weights, np.einsum("sct,c->st", slopes[at], weights[n + 3 :])
        left = T - x @ np.linalg.lstsq(x, T, rcond=None)[0]
        normal, right, residual = normal + left.T @ left, right + T.T @ e, residual + e @ e
    step, promise = solve_step(*point.normal_equations()[:2])
    expected = np.linalg.solve(normal + 0.01 * np.diag(np.diag(normal)), right)
    np.testing.assert_allclose(step, expected.clip(-0.7, 0.7), rtol=0.02)
    assert promise == pytest.approx(right @ expected, rel=0.02)
    assert point.residual == pytest.approx(residual, rel=1e-3)


def test_curvature_of_the_residual_is_the_normal_matrix_less_what_noise_of_the_weights_adds():
    """At the copies that made the currents, on average over noise: second differences of the residual."""
    rng, n, true = np.random.default_rng(2), 10, signals.Copies(1.2, 0.6, 0.1, 0.2)
    phase = rng.normal(0, 0.2, (6, 300, 1)).cumsum(1)
    u, v = 0.6 + 0.4 * np.cos(phase - RING.places(n)[:, 0]), rng.normal(size=(6, 300, 1))
    used, h, found = np.ones(u.shape, bool), 0.01, []
    of = lambda currents: Problem(Currents(currents, used, u, v), Setting(0.3, RING, RING.places(n)), None, (6, n))
    start = Point(of(u), true)
    path = start.values @ rng.normal(0, 0.02, (start.values.shape[1], n))
    for _ in range(4):
        currents = np.zeros(u.shape)
        currents[:, start.problem.first :: 2] = (path + 0.5 * rng.normal(size=path.shape)).reshape(6, -1, n)
        point = Point(of(currents), true)
        residual = lambda step, point=point: Point(point.problem, point.sheets.moved([step], [3])).residual
        numerical = (residual(h) - 2 * point.residual + residual(-h)) / (2 * h**2)
        normal, _, noise = point.normal_equations()
        found.append((numerical, normal[3, 3], noise[3, 3]))
    numerical, normal, noise = np.mean(found, 0)
    assert noise > 0.5 * normal
    assert normal - noise == pytest.approx(numerical, abs=0.2 * normal)


def test_steps_where_the_weights_are_mostly_noise_keep_a_share_of_the_curvature():
    normal, right = np.diag([2.0, 1.0]), np.array([0.01, 0.02])
    step, promise = solve_step(normal, right, np.diag([1.0, 2.0]))
    expected = right / [1.01 * 2.0 - 1.0, LEAST_CURVATURE * 1.01]
    np.testing.assert_allclose(step, expected, rtol=1e-6)
    assert promise == pytest.approx(right @ expected)
    for normal in (np.diag([1.0, -1.0]), np.full((2, 2), np.nan)):
        np.testing.assert_array_equal(solve_step(normal, right, np.eye(2))[0], solve_step(normal, right)[0])


def test_copies_that_made_the_currents_are_found_under_the_prior():
    """By steps from numbers that are a little off: of width, and of threshold and drive relative to the gain."""
    rng, n = np.random.default_rng(0), 16
    phase, noise = rng.normal(0, 0.2, (8, 300, 1)).cumsum(1), rng.normal(0, 0.03, (8, 300, n))
    places, v = RING.places(n), rng.normal(size=(8, 300, 1))
    rates = response.phi(0.9 * np.cos(phase - places[:, 0]) + noise)
    u = signals.state_of(rates, 0.3)
    V = signals.leading_directions(u, np.ones(u.shape[:2], bool), 7)
    inputs = Inputs(u, v.astype(np.float32), Setting(0.3, RING, places), None, V)
    true = signals.Copies(1.0, 0.5, 0.3, 0.1)
    signed = Sheets(inputs, true).values
    apart = places[:, 0] - places
    W, out = 0.3 * np.cos(apart), V.T @ np.sin(apart)
    y = inputs.late(u) @ W + signed @ np.concatenate([out, -out])
    y += 0.01 * rng.normal(size=y.shape)
    x = np.concatenate([inputs.late(u), signed, np.ones((len(y), 1))], 1).astype(np.float32)
    names = [("direct", None, (), n), ("copies", V, (0, 1), 7), ("copies", V, (0, -1), 7)]
    ends = np.cumsum([size for *_, size in names])
    blocks = tuple(signals.Block(name, slice(end - size, end), V, name, component)
                   for (name, V, component, size), end in zip(names, ends, strict=True))  # fmt: skip
    samples = regression.Samples(x, np.ones(y.shape, bool), y.astype(np.float32), np.arange(8) * (len(y) // 8))
    pilot = SimpleNamespace(blocks=blocks, samples=samples, order=np.arange(n),
                            model=lambda: prior.Model(blocks, *RING.terms(places)))  # fmt: skip
    numbers = lambda c: np.array([np.log(c.width), c.threshold / c.gain, np.log(c.drive / c.gain)])
    off = signals.Copies(1.0, 0.45, 0.32, 0.105)
    before, after = (refinement.Candidate(pilot, inputs, c) for c in (off, true))
    assert after.evidence > before.evidence
    error = lambda c: np.linalg.norm(numbers(c) - numbers(true))
    nearer, _ = before.step()
    last, _ = refinement.Candidate(pilot, inputs, nearer, before.scales).step()
    assert error(nearer) < 0.5 * error(off)
    assert error(last) < 0.2 * error(off)
    assert error(after.step()[0]) < 0.02


# ---- likelihoods ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", [("tanh", 1.3), ("linear",), ("softplus", 1.0, 4.0), ("power", 1.0, 2.0)])
def test_response_functions_have_their_inverse_and_jacobian(chosen):
    r, chosen = np.linspace(0.1, 0.7, 7), response.Response(*chosen)  # recorded rates
    current = lambda r: chosen.current(chosen.scale * r)
    np.testing.assert_allclose(chosen.phi(current(r)), chosen.scale * r, rtol=1e-6)
    derivative = (current(r + 1e-5) - current(r - 1e-5)) / 2e-5
    np.testing.assert_allclose(chosen.log_jacobian(chosen.scale * r), np.log(derivative), atol=1e-3)
    np.testing.assert_allclose(chosen.slope(current(r)), chosen.scale / derivative, rtol=1e-3)


def test_parabola_finds_the_top_and_how_sure_it_is():
    """Of Gaussian likelihoods of alpha, one for each trial, about .3."""
    at = 0.3 + 0.1 * np.random.default_rng(0).normal(size=400)
    by_alpha = {a: -((a - at) ** 2) / (2 * 0.1**2) for a in (0.28, 0.3, 0.32)}
    alpha, se = parabola(by_alpha, 0.3, 0.02)
    assert alpha == pytest.approx(at.mean())
    assert se == pytest.approx(np.hypot(at.std() / 20, 0.02))  # and the spacing


def test_surely_better_is_three_standard_errors():
    difference = np.tile([-1.0, 1.0], 50)
    se = difference.std(ddof=1) / 10
    assert surely_better(difference + 3.2 * se, 0.0)
    assert not surely_better(difference + 2.8 * se, 0.0)
    assert not surely_better(np.ones(2), np.zeros(2))


def test_highest_rates_rounded_to_1_leave_1_among_the_scales():
    rates = np.random.default_rng(0).random((4, 60, 3), np.float32)
    rates[0, 0, 0] = 1.0
    rec = recordings.Recording(rates, np.zeros((4, 60, 1), np.float32), 0.01)
    assert 1.0 in {chosen.scale for chosen in Likelihood(rec).candidates() if chosen.name == "tanh"}
