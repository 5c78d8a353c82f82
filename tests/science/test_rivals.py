"""The rivals' estimators, on networks that they were made for."""

import numpy as np
import pytest

from experiments.benchmark.cornn import cornn, loss, weights
from experiments.benchmark.least_squares import least_squares as delayed_least_squares
from experiments.benchmark.least_squares import regress
from experiments.benchmark.lint import lint
from nsi import network
from nsi.network import Network, predict
from nsi.recordings import Recording
from nsi.sums import correlation

N, ALPHA = 12, 0.5


def recorded(net, function, trials=20, steps=200, noise=0.05, stimulus=0.0, seed=0):
    """A network with some response function run on a velocity, and on pulses. Returns: Recording."""
    rng = np.random.default_rng(seed)
    v = rng.standard_normal((trials, steps, 1))
    known = stimulus * rng.standard_normal((trials, steps, net.n)) if stimulus else None
    u, r = rng.uniform(0, 0.5, (trials, net.n)), np.empty((trials, steps, net.n))
    for t in range(steps):
        a = u @ net.W + net.b + v[:, t] @ net.W_in + noise * rng.standard_normal(u.shape)
        r[:, t] = function(a if known is None else a + known[:, t])
        u = u + net.alpha * (r[:, t] - u)
    whole = [a if a is None else a.astype(np.float32) for a in (r, v, known)]
    return Recording(whole[0], whole[1], 0.01, tau=0.01 / net.alpha, stimulus=whole[2])


def random_network(seed=1, b=0.0):
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((N, N)) / np.sqrt(N)
    return Network(W, 0.3 * rng.standard_normal((1, N)), np.full(N, b), ALPHA, N)


@pytest.mark.parametrize("stimulus", [0.0, 0.5])
def test_cornn_recovers_a_random_tanh_network(stimulus):
    net = random_network()
    found = cornn(recorded(net, np.tanh, noise=0.3, stimulus=stimulus), ALPHA)
    assert correlation(found.W, net.W) > 0.99
    assert np.linalg.norm(found.W - net.W) < 0.15 * np.linalg.norm(net.W)
    assert correlation(found.W_in, net.W_in) > 0.99


def test_cornn_ends_where_the_gradient_of_its_loss_vanishes():
    rng, ridge = np.random.default_rng(0), 1e-3
    x, known = rng.standard_normal((500, 4)), rng.standard_normal((500, 3))
    r = np.tanh(x @ rng.standard_normal((4, 3)) + known + 0.5 * rng.standard_normal((500, 3)))
    w = weights(x, r, known, ridge, steps=300, enough=1e-9)
    whole = lambda w: loss(w, x, r, known).sum() + ridge * np.mean(x**2) * np.sum(w**2) / 2
    for k in np.ndindex(w.shape):
        nudge = np.zeros_like(w)
        nudge[k] = 1e-4
        assert abs(whole(w + nudge) - whole(w - nudge)) / 2e-4 < 1e-5


def test_lint_finds_the_dynamics_of_a_network_of_rank_two():
    rng = np.random.default_rng(2)
    m, n = (rng.standard_normal((N, 2)) for _ in range(2))
    net = Network(1.2 * m @ n.T / N, 0.3 * rng.standard_normal((1, N)), np.full(N, 0.3), ALPHA, N)
    rec, later = (recorded(net, lambda a: np.maximum(0, np.tanh(a)), noise=0.0, seed=seed) for seed in (0, 1))
    found = lint(rec, ALPHA, ranks=(2,), updates=200, window=20, batch=10)
    assert np.linalg.matrix_rank(found.W, tol=1e-4) == 2
    error = np.mean((predict(found, later, warmup=1) - later.rates) ** 2)
    assert error < 0.02 * later.rates.var((0, 1)).mean()


def test_states_are_those_that_rates_imply():
    rec = recorded(random_network(), np.tanh, noise=0.0)
    u = network.synaptic_state(rec.rates, ALPHA)
    np.testing.assert_allclose(u[:, 1:], u[:, :-1] + ALPHA * (rec.rates[:, :-1] - u[:, :-1]), atol=1e-6)


@pytest.mark.parametrize("delayed", [True, False])
def test_delayed_least_squares_finds_weights_and_gate_and_its_intervals_hold(delayed):
    """Of a network without hidden neurons whose velocity acts one synapse later, or at once."""
    rng, trials, steps = np.random.default_rng(0), 30, 400
    net, gate = random_network(b=0.4), 0.4 * rng.standard_normal((N, N)) / np.sqrt(N)
    v = 0.5 * rng.standard_normal((trials, steps, 1)).astype(np.float32)
    stimulus = 0.2 * rng.standard_normal((trials, steps, N)).astype(np.float32)
    u, later, rates = np.full((trials, N), 0.3), np.zeros((trials, N)), np.empty((trials, steps, N), np.float32)
    for t in range(steps):
        moved = v[:, t] * u
        x = u @ net.W + net.b + (later if delayed else moved) @ gate + stimulus[:, t]
        rates[:, t] = np.maximum(0, np.tanh(x + 0.02 * rng.standard_normal(u.shape)))
        u, later = u + ALPHA * (rates[:, t] - u), later + ALPHA * (moved - later)
    rec = Recording(rates, v, 0.01, tau=0.01 / ALPHA, stimulus=stimulus)
    mechanisms = ("hidden neurons", "multiplied connections")[:: 1 if delayed else -1]
    found, wrong = (delayed_least_squares(rec, ALPHA, mechanism) for mechanism in mechanisms)
    for a, se, true in ((found["W"], found["W_se"], net.W), (found["gate"][0], found["gate_se"][0], gate)):
        assert correlation(a, true) > 0.99
        assert 0.88 < np.mean(np.abs(a - true) < 1.96 * se) < 0.99
    assert correlation(wrong["gate"][0], gate) < 0.9


def test_regress_is_ordinary_least_squares_with_its_standard_errors():
    rng = np.random.default_rng(3)
    x, r, known = rng.standard_normal((1, 90, 3)), rng.uniform(0.1, 0.8, (1, 90, 2)), rng.standard_normal((1, 90, 2))
    used = rng.random((1, 90, 2)) < 0.7
    weights, se, noise = regress(x, r, known, used)
    for j in range(2):
        at = used[0, :, j]
        a, y = x[0, at], np.arctanh(r[0, at, j]) - known[0, at, j]
        exact, left, *_ = np.linalg.lstsq(a, y)
        np.testing.assert_allclose(weights[:, j], exact, rtol=1e-6)
        variance = left[0] / (at.sum() - 3)
        np.testing.assert_allclose(noise[j] ** 2, variance, rtol=1e-6)
        np.testing.assert_allclose(se[:, j] ** 2, variance * np.diag(np.linalg.inv(a.T @ a)), rtol=1e-6)
