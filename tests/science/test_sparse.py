"""The estimate of circuits without geometry: censored regression against a numerical maximum of the likelihood, one
conditional distribution of the sampler against numerical integration, and a random circuit against its truth."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.stats import norm

import nsi
from nsi import geometry
from nsi.errors import BadInput
from nsi.estimation import censored, exchangeable, sparse, unrecorded
from nsi.estimation.signals import settled, state_of
from nsi.recordings import Recording
from nsi.response import Response
from nsi.simulation import simulate_recording
from nsi.simulation.circuits import CIRCUITS
from nsi.sums import correlation

ALPHA, NOISE = 0.2, 0.05


def circuit(seed=0, phi=np.tanh, n=18, trials=30, steps=250, inputs=3):
    """A sparse random circuit of rectified neurons that `inputs` recorded components drive. Returns: Recording, W."""
    rng = np.random.default_rng(seed)
    W = (rng.random((n, n)) < 0.12) * rng.exponential(0.3, (n, n)) * rng.choice([1, 1, -1], n)[:, None]
    np.fill_diagonal(W, 0)
    W_in, b = 0.1 * rng.normal(size=(inputs, n)), rng.uniform(0.0, 0.3, n)
    velocity = rng.normal(size=(trials, steps, inputs))
    for t in range(1, steps):
        velocity[:, t] = 0.95 * velocity[:, t - 1] + 0.3 * velocity[:, t]
    u, rates = np.zeros((trials, n)), np.empty((trials, steps, n), np.float32)
    for t in range(steps):
        r = np.maximum(phi(u @ W + b + velocity[:, t] @ W_in + NOISE * rng.normal(size=u.shape)), 0)
        rates[:, t] = r
        u = u + ALPHA * (r - u)
    return Recording(rates, velocity.astype(np.float32), 0.01, tau=0.05), W


def hidden_currents(seed=0, samples=1500, n=2):
    """A regression whose lowest and highest currents are known only to be low or high. Returns: censored.Samples."""
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.normal(size=(samples, 3)), np.ones(samples)]).astype(np.float32)
    y = (x @ rng.normal(size=(4, n)) + 0.7 * rng.normal(size=(samples, n))).astype(np.float32)
    silent = (y < 0).astype(np.int8) - (y > 2)
    return censored.Samples(x, np.clip(y, 0, 2), silent, np.arange(samples) // 50)


def test_censored_regression_is_the_maximum_of_the_likelihood():
    samples = hidden_currents()
    fit = censored.maximise_likelihood(samples)
    x, total = samples.x.astype(float), 0.0
    for j in range(2):
        y, side = samples.y[:, j].astype(float), samples.silent[:, j]

        def negative(theta, y=y, side=side):
            z = (y - x @ theta[:-1]) / np.exp(theta[-1])
            return -np.where(side == 0, norm.logpdf(z) - theta[-1], norm.logcdf(side * z)).sum()

        best = minimize(negative, np.zeros(5), method="BFGS", options={"gtol": 1e-6})
        se = 1 / np.sqrt(np.diag(fit.information[j]))
        assert np.abs(fit.weights[:, j] - best.x[:-1]).max() < 0.05 * se.min()
        assert np.sqrt(fit.variance[j]) == pytest.approx(np.exp(best.x[-1]), rel=2e-3)
        curvature = np.empty((5, 5))  # by finite differences
        for a in range(5):
            for b in range(5):
                f = lambda s, t: negative(best.x + 1e-3 * (s * np.eye(5)[a] + t * np.eye(5)[b]))  # noqa: B023
                curvature[a, b] = (f(1, 1) - f(1, -1) - f(-1, 1) + f(-1, -1)) / 4e-6
        covariance = np.linalg.inv(curvature)[:4, :4]  # the noise's size unknown
        assert np.abs(np.linalg.inv(fit.information[j]) - covariance).max() < 0.01 * covariance.max()
        total -= negative(best.x)
    assert censored.log_likelihood(samples, fit, 30).sum() == pytest.approx(total, abs=0.05)


def test_without_silence_it_is_least_squares():
    samples = hidden_currents()
    samples = samples._replace(silent=np.zeros_like(samples.silent))
    fit = censored.maximise_likelihood(samples)
    w = np.linalg.lstsq(samples.x.astype(float), samples.y.astype(float))[0]
    assert np.allclose(fit.weights, w, atol=1e-5)
    left = samples.y - samples.x @ w
    assert np.allclose(fit.variance, (left**2).sum(0) / (len(left) - 4), rtol=1e-4)
    on = np.ones((4, 2), bool)
    on[1, 0] = False
    kept = np.linalg.lstsq(samples.x[:, [0, 2, 3]].astype(float), samples.y[:, 0].astype(float))[0]
    assert np.allclose(censored.restrict(fit, on)[0][:, 0], [kept[0], 0, kept[1], kept[2]], atol=1e-4)


@pytest.mark.parametrize("r", [-3.0, 0.5, 40.0])
def test_a_conditional_of_the_sampler_is_the_integral(r):
    precision, odds, sign, tau = 25.0, 0.2, np.array([1.0, -1.0]), np.array([0.4, 1.5])
    log_prior = np.log(odds * 2 / tau)[None]
    weight, mean, square, *_ = sparse.conditional(np.array([r]), np.array([precision]), log_prior, sign, tau)
    moments = np.empty((2, 3))
    for k in range(2):
        for power in range(3):
            f = lambda w: w**power * np.exp(r * w - precision * w**2 / 2) * 2 * norm.pdf(w / tau[k]) / tau[k]  # noqa: B023
            moments[k, power] = quad(f, *sorted((0, 4 * sign[k])), points=[r / precision], epsabs=0)[0]
    expected = odds * moments[:, 0] / (1 + odds * moments[:, 0].sum())
    assert np.allclose(weight[0], expected, rtol=1e-5)
    assert np.allclose(mean[0], moments[:, 1] / moments[:, 0], rtol=1e-5)
    assert np.allclose(square[0], moments[:, 2] / moments[:, 0], rtol=1e-5)


def test_probabilities_of_connections_are_calibrated():
    rng, n = np.random.default_rng(1), 30
    W = (rng.random((n, n)) < 0.15) * rng.exponential(1.0, (n, n)) * rng.choice([1, -1], n)[:, None]
    J = np.stack([x.T @ x for x in rng.normal(size=(n, 60, n))])
    estimate = np.stack([rng.multivariate_normal(W[:, j], np.linalg.inv(J[j])) for j in range(n)], 1)
    found = sparse.sample_posterior(estimate, J)
    assert np.mean((found.W - W) ** 2) < 0.4 * np.mean((estimate - W) ** 2)
    assert found.probability.mean() == pytest.approx(np.mean(W != 0), abs=0.03)
    likely = found.probability > 0.5
    assert np.mean(W[likely] != 0) == pytest.approx(found.probability[likely].mean(), abs=0.05)
    assert np.mean(np.abs(found.W - W) < 1.96 * found.sd + 1e-9) > 0.93


def test_a_sparse_circuit_is_estimated():
    rec, W = circuit()
    e = nsi.estimate(rec)
    off = ~np.eye(len(W), dtype=bool)
    assert e.verdicts == {"response": "rectified tanh", "mechanism": "direct drive", "geometry": "none",
                          "gate": "cannot tell", "description": "fits"}  # fmt: skip
    assert np.corrcoef(e.W[off], W[off])[0, 1] > np.corrcoef(e.W_unbiased[off], W[off])[0, 1] + 0.02
    assert np.corrcoef(e.W[off], W[off])[0, 1] > 0.95
    inside = np.abs(e.W_unbiased - W) < 1.96 * e.W_se
    assert 0.92 < inside[off].mean() < 0.98
    assert inside[off & (W != 0)].mean() > 0.85
    assert not e.gate.any()
    assert np.isinf(e.gate_se).all()
    assert e.network is not None
    assert e.noise == pytest.approx(NOISE, rel=0.03)
    masked = nsi.estimate(rec, mask=W != 0)
    assert not masked.W[W == 0].any()
    assert not masked.W_unbiased[W == 0].any()
    assert np.mean((masked.W - W) ** 2) < np.mean((e.W - W) ** 2)
    counts = nsi.estimate(rec, mask=np.round(20 * np.abs(W)))
    assert np.mean((counts.W - W) ** 2) < np.mean((e.W - W) ** 2)


def test_alpha_is_estimated_and_an_unknown_input_is_noticed():
    rec, _ = circuit(n=12, trials=20)
    rec.tau = None
    response, alpha, se, _ = exchangeable.Choice(rec).choose()
    assert response.name == "tanh"
    assert abs(alpha - ALPHA) < 3 * se < 0.1
    rec.velocity, rec.tau = np.zeros_like(rec.velocity), 0.05
    blind = nsi.estimate(rec)
    assert blind.verdicts["description"] == "does not fit"
    assert np.isinf(blind.W_se).all()


@pytest.mark.parametrize("name", ["ring", "gain", "even", "product", "inhibited"])
def test_rings_keep_their_geometry(name):
    data = simulate_recording(CIRCUITS[name](24), seed=0, trials=12, steps=300)
    rec = Recording(data["rates"], data["velocity"], data["dt"])
    assert not geometry.lacks_geometry(rec)
    if name == "ring":
        with pytest.raises(BadInput, match="mask"):
            nsi.estimate(rec, mask=np.ones((24, 24), bool))


@pytest.mark.parametrize(("mask", "words"), [(np.ones((3, 3)), "shape"), (np.full((24, 24), -1.0), "counts")])
def test_a_faulty_mask_is_refused(mask, words):
    with pytest.raises(BadInput, match=words):
        exchangeable.groups_of(mask, 24)


def test_missing_states_are_predicted_as_from_all_that_was_recorded_before():
    rng, n, steps, recorded = np.random.default_rng(3), 5, 120, np.array([True, False, True, False, True])
    W, W_in, b = 0.2 * rng.normal(size=(n, n)), rng.normal(size=(2, n)), np.full(n, 30.0)
    v = rng.normal(size=(2, steps, 2))

    def run(v, noise, b):
        u, states, rates = np.zeros((len(v), n)), [], []
        for t in range(steps):
            states.append(u)
            rates.append(u @ W + v[:, t] @ W_in + b + NOISE * noise[:, t])
            u = u + ALPHA * (rates[-1] - u)
        return np.stack(states, 1), np.stack(rates, 1)

    states, rates = run(v, rng.normal(size=(2, steps, n)), b)
    known, free = run(v, np.zeros((2, steps, n)), b), np.eye(steps * n).reshape(-1, steps, n)
    response = run(np.zeros((len(free), steps, 2)), free, 0 * b)
    u, r = (a[:, :, some] for a, some in zip(response, (~recorded, recorded), strict=True))
    u, r = u[:, -1], r[:, :-1].reshape(len(r), -1)  # by each noise: the last missing states, all recorded rates before
    apart = (rates - known[1])[:, :-1, recorded].reshape(2, -1)
    exact = known[0][:, -1, ~recorded] + apart @ np.linalg.solve(r.T @ r, r.T @ u)
    error = np.sqrt(np.diag(u.T @ u - u.T @ r @ np.linalg.solve(r.T @ r, r.T @ u)))
    rec = Recording(np.where(recorded, rates, np.nan), v, 0.01)
    circuit = unrecorded.Circuit(np.concatenate([W, W_in, b[None]]), np.zeros(n + 3), np.full(n, NOISE**2), np.ones(n))
    predicted, _ = unrecorded.predict_states(rec, recorded, circuit, ALPHA, Response("linear"))
    assert np.abs(predicted[:, -1, ~recorded] - exact).max() < 0.05 * error.min()
    assert (np.abs(states[:, -1, ~recorded] - exact) < 4 * error).all()


def test_sessions_of_different_neurons_are_fitted_as_one_circuit():
    rec, W = circuit(n=16, trials=40)
    rng, everyone = np.random.default_rng(0), np.ones((16, 16), int)
    halves = np.stack([np.isin(np.arange(16), rng.choice(16, 7, False)) for _ in range(10)])
    missing = replace(rec, rates=np.where(halves[np.arange(40) // 4][:, None], rec.rates, np.float32(np.nan)))
    together = (halves[:, :, None] & halves[:, None]).any(0)
    one_round, _ = exchangeable._add_sessions(missing, ALPHA, Response(), everyone > 0, None)
    e = nsi.estimate(missing)
    off = together & ~np.eye(16, dtype=bool)
    assert correlation(one_round.posterior(everyone, 0)[0][off], W[off]) < 0.9
    assert correlation(e.W[off], W[off]) > 0.97
    assert np.mean(np.abs(e.W_unbiased - W)[off] < 1.96 * e.W_se[off]) > 0.9
    assert np.isinf(e.W_se[~together]).all()
    assert np.isfinite(e.W_se[together]).all()
    assert e.verdicts["geometry"] == "none"


def test_information_of_sessions_is_added():
    rec, _ = circuit(phi=lambda x: x + 5)  # never silent
    recorded = np.ones((30, 18), bool)
    recorded[15:, 17] = False
    missing = replace(rec, rates=np.where(recorded[:, None], rec.rates, np.float32(np.nan)))
    found, _ = exchangeable._add_sessions(missing, ALPHA, Response("linear"), np.ones((18, 18), bool), None)
    first = settled(ALPHA, 250)
    u = np.where(recorded[:, None], state_of(rec.rates, ALPHA), 0)[:, first:].reshape(-1, 18)  # left out: 0
    x = np.column_stack([u, rec.velocity[:, first:].reshape(len(u), -1), np.ones(len(u))]).astype(float)
    exact = np.linalg.lstsq(x, rec.rates[:, first:].reshape(len(u), -1))[0]
    assert np.allclose(found.weights[:17, :17], exact[:17, :17], atol=0.1 * found.se[:17, :17].min())
    assert np.allclose(found.inputs(found.weights[:18]), found.weights[18:])
