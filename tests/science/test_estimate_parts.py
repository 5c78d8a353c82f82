"""Parts of the estimate and its intervals, each against an exact answer that a fault in the part changes."""

from types import SimpleNamespace

import numpy as np
import pytest

from nsi import response
from nsi.estimation import estimator, fitting, gate, intervals, missing, observations, regression
from nsi.estimation.fitting import Fit, Pilot
from nsi.estimation.kinetics import Kinetics, parabola
from nsi.estimation.signals import Block, Copies, Signals, state_of
from nsi.estimation.smoothing import Noise, Smoothed
from nsi.evaluation.weights import regress_on_state
from nsi.geometry import RING
from nsi.recordings import Recording

MEASURES = "W", "total", "gate"


def estimate_of(n=3):
    """An Estimate of n neurons whose standard errors are 1."""
    square, gate = np.ones((n, n)), np.ones((1, n, n))
    known = np.ones((n, n), bool)
    return estimator.Estimate(square, square, square, square, square, square, gate, gate, gate, known, known, 0.2, 0.0,
                              True, 1.0, 0.02, {"description": "fits"}, 0.025, {}, {}, None)  # fmt: skip


def part_of(kind, **attributes):
    """An object of a class with some of its attributes alone, in the place of a whole regression."""
    part = object.__new__(kind)
    vars(part).update(attributes)
    return part


# ---- calibration ------------------------------------------------------------------------------------------------


@pytest.fixture
def calibrated(monkeypatch):
    """`intervals.calibrate` of a simulation whose errors are known. Returns: result, errors over standard errors of W,
    total and gate, (n, n) each, and the arguments of the simulation."""
    rng, n, q = np.random.default_rng(0), 9, 12
    maps, weights = [rng.normal(size=(n, q)) for _ in MEASURES], rng.normal(size=(q, n))
    z, se = 1.3 * np.abs(rng.normal(size=(3, n, n))), rng.uniform(0.5, 2.0, (3, n, n))
    z[:, range(n), range(n)] = 50.0  # of neurons onto themselves; they count for the gate alone
    weights[:, 4], se[:, :, 4] = np.nan, np.inf  # of a neuron that is never active
    signs, passed = rng.choice([-1, 1], z.shape), []
    with np.errstate(invalid="ignore"):
        true = [L @ weights + sign * one * e for L, sign, one, e in zip(maps, signs, z, se, strict=True)]
    rec = SimpleNamespace(rates=np.ones((2, 3, n)))

    def simulate(*arguments):
        passed.extend(arguments)
        return SimpleNamespace(recording=rec, truth=lambda again: true)

    monkeypatch.setattr(intervals, "Simulated", simulate)
    variance = np.where(np.arange(n) == 4, np.nan, np.linspace(0.01, 0.09, n))
    plain = regression.LeastSquares(weights, variance, list(se))
    again = part_of(Fit, order=np.arange(n), q=q, unbiased=lambda neurons: plain, maps=maps)
    best = SimpleNamespace(weights=weights, heterogeneity={"copies": 0.4, "path": 3.0})
    fit = part_of(Fit, rec=rec, first=0, copies=None)
    result = intervals.calibrate(fit, lambda rec: again, best, variance, 7, None, 0.1)
    return result, np.delete(z, 4, -1), passed


def test_factors_bring_the_simulated_intervals_to_95_percent(calibrated):
    """The 95th percentile of |estimate - truth| / standard error over 1.96; W and total without the diagonal."""
    result, z, _ = calibrated
    off = np.delete(~np.eye(9, dtype=bool), 4, -1)
    for name, values in zip(MEASURES, (z[0][off], z[1][off], z[2].ravel()), strict=True):
        assert result["factors"][name] == pytest.approx(np.quantile(values, 0.95) / 1.96), name
        assert result["coverage"][name] == pytest.approx(np.mean(values < 1.96)), name
    assert result["factors"]["gate"] > 20 > 5 > result["factors"]["W"] > 1  # the diagonal's 50


def test_simulation_has_the_noise_and_the_heterogeneity_that_were_found(calibrated):
    """Half of the copies' variance among incoming weights, the median neuron's noise, and the hidden neurons' own."""
    result, _, (_, _, noise, seed, jitter, hidden) = calibrated
    assert noise == pytest.approx(np.sqrt(0.05))
    assert (seed, hidden) == (7, 0.1)
    on_half = Copies(1.0, 0.5, 0.3, 0.2, np.arange(6) % 2 == 0)
    assert intervals.jitter_of(SimpleNamespace(heterogeneity={"copies": 0.4}), on_half) == pytest.approx(0.2)
    assert jitter == result["jitter"] == pytest.approx(0.4 / np.sqrt(2))
    assert result["hidden_noise"] == pytest.approx(0.1 / np.sqrt(0.05))


def test_calibration_of_noisy_observations_only_ever_widens(monkeypatch):
    factors = {"W": 0.5, "total": 1.0, "gate": 1.7}
    monkeypatch.setattr(observations, "process_noise", lambda *_: 0.02)
    monkeypatch.setattr(observations, "calibrate", lambda *_: {"factors": factors, "coverage": {"W": 0.99}})
    fit, smoother = SimpleNamespace(places=np.zeros((3, 1))), SimpleNamespace(noise=SimpleNamespace(g=0.0))
    found = observations._calibrate(fit, smoother, None, 0)
    assert found == {"factors": {"W": 1.0, "total": 1.0, "gate": 1.7}, "coverage": {"W": 0.99}}


# ---- what residuals say -----------------------------------------------------------------------------------------


def test_structure_is_the_autocorrelation_of_used_residuals_a_synapse_later():
    """Mean over lags 5, 7 ... 19 of the products of used samples, over their mean square; trials are not joined."""
    rng, trials, steps, n, first = np.random.default_rng(0), 4, 40, 3, 6
    rec = SimpleNamespace(rates=np.zeros((trials, steps, n)))
    e = np.cumsum(rng.normal(size=(trials, steps - first, n)), 1).astype(np.float32)
    used = rng.random(e.shape) < 0.6
    flat = lambda a: a.reshape(-1, n)
    x, weights = np.ones((e[..., 0].size, 1), np.float32), np.array([[0.5, -0.3, np.nan]])
    samples = regression.Samples(x, flat(used), flat(e + np.nan_to_num(weights[0])).astype(np.float32), np.array([0]))
    fit = part_of(Fit, rec=rec, first=first, pieces=[samples])
    known, ratios = (slice(None), slice(None), slice(2)), []
    for lag in range(5, 20, 2):
        products = [e[k, t, j] * e[k, t + lag, j] for k, t, j in np.argwhere(used[known])
                    if t + lag < steps - first and used[k, t + lag, j]]  # fmt: skip
        ratios.append(np.mean(products))
    expected = np.mean(ratios) / np.mean(e[known][used[known]] ** 2)
    assert fit.residual_structure(weights) == pytest.approx(expected, rel=1e-4)


def test_share_that_innovations_predict_is_without_what_chance_predicts():
    """Of 40 neurons with 10 innovations among 30 columns and 300 samples: 0 where they do nothing, else their share."""
    rng, samples, q, n = np.random.default_rng(0), 300, 30, 40
    x = rng.normal(size=(samples, q)).astype(np.float32)
    block, weights = Block("noise", slice(19, 29), None, "noise"), rng.normal(size=(q, n))
    for size in (0.0, 0.2):
        weights[block.columns] = size * rng.choice([-1, 1], (10, n))
        y = (x @ weights + rng.normal(size=(samples, n))).astype(np.float32)
        samples_of = regression.Samples(x, np.ones(y.shape, bool), y, np.array([0]))
        pilot = part_of(Pilot, blocks=[block], samples=samples_of, order=np.arange(n), q=q)
        # chance alone lets 10 columns predict 10 / 300 of the variance
        assert pilot.measure_innovations() == pytest.approx(10 * size**2, abs=0.05 if size else 0.01)


@pytest.mark.parametrize(("structure", "said"), [(0.019, "fits"), (0.021, "does not fit")])
def test_residuals_structure_from_which_a_description_does_not_fit(structure, said, small, monkeypatch):
    monkeypatch.setattr(Fit, "residual_structure", lambda *_: structure)
    rec = Recording(small["rates"], small["velocity"], small["dt"], tau=small["tau"])
    found = estimator.estimate_clean(rec, None, RING, calibrated=False)
    assert found.verdicts["description"] == said
    assert np.isfinite(found.W_se).any() == (said == "fits")


def test_statistic_of_the_gate_is_the_f_of_two_regressions():
    """(RSS without - RSS with) / columns over RSS with / (samples - all regressors), the mean over neurons."""
    rng, samples, q, columns = np.random.default_rng(0), 90, 8, 4
    x, added = rng.normal(size=(samples, q)), rng.normal(size=(samples, 2 * columns)).astype(np.float32)
    data, expected = [], np.zeros((3, 2))
    for j in range(3):
        at = np.flatnonzero(rng.random(samples) < 0.3 + 0.3 * j)
        y = x[at].sum(1) + added[at].astype(float) @ (0.3 * np.arange(2 * columns)) + rng.normal(size=len(at))
        rss = lambda x, y=y: np.linalg.lstsq(x, y)[1][0]
        basis = np.linalg.qr(x[at])[0].T
        data.append((at, basis, y - basis.T @ (basis @ y)))
        for k in range(2):
            larger = np.column_stack([x[at], added[at, k * columns : (k + 1) * columns]])
            numerator = (rss(x[at]) - rss(larger)) / columns
            expected[j, k] = numerator / (rss(larger) / (len(at) - q - columns))
    np.testing.assert_allclose(gate.mean_f(data, added, columns), expected.mean(0), rtol=1e-5)


def test_gate_is_tested_on_currents_without_the_pulses(monkeypatch):
    """And on steps of which the rates show the current; the other regressors are the state, the path and 1."""
    rng, n = np.random.default_rng(0), 10
    rates, stimulus = rng.random((9, 200, n)).astype(np.float32), rng.normal(size=(9, 200, n)).astype(np.float32)
    rec = Recording(rates, rng.normal(size=(9, 200, 1)).astype(np.float32), 0.01, stimulus=stimulus)
    passed = []
    monkeypatch.setattr(gate, "mean_f", lambda data, added, columns: passed.extend(data) or np.zeros(1))
    gate.gate_test(rec, 0.5, response.TANH)
    later = lambda a: a[:, 16::3].reshape(-1, n)
    for j, (at, basis, left) in enumerate(passed[:n]):
        y = np.arctanh(later(rates)[at, j]) - later(stimulus)[at, j]
        np.testing.assert_allclose(left, y - (basis @ y) @ basis, atol=1e-4)
        assert 0.14 < later(rates)[at, j].min() < 0.2 < 0.9 < later(rates)[at, j].max() < 0.96
        u = later(state_of(rates, 0.5))[at].astype(float)
        for column in (*u.T, np.ones(len(at))):
            np.testing.assert_allclose((basis @ column) @ basis, column, atol=1e-4)


# ---- samples, sums and maps -------------------------------------------------------------------------------------


def test_samples_are_chosen_by_the_predicted_current():
    """From 5 standard deviations of the noise to 2, stimulus included, where the rate shows a current."""
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(4, 50, 6)).astype(np.float32), rng.normal(size=(6, 3))
    currents, known = rng.normal(size=(2, 4, 50, 3)).astype(np.float32)
    usable = rng.random(currents.shape) < 0.8
    kinetics = Kinetics(response.TANH, 0.2, 0.0, "multiplied connections", {})
    pilot = part_of(Pilot, _selection_weights=weights, _noise=0.1, kinetics=kinetics)
    _, samples = pilot.choose_samples(Signals(x, (), 0), (currents, known, usable))
    predicted = x @ weights + known
    expected = usable & (predicted > 0.5) & (predicted < 2)
    assert 0.1 < expected.mean() < 0.5
    np.testing.assert_array_equal(samples.used, expected.reshape(-1, 3))
    np.testing.assert_allclose(samples.y[samples.used], (currents - known)[expected], rtol=1e-6)


def test_clusters_are_of_so_many_trials_or_pieces_of_one():
    assert regression.cluster_starts(7, 10).tolist() == [0, 10, 20, 30, 40, 50, 60]
    assert regression.cluster_starts(7, 10, per_cluster=3).tolist() == [0, 30, 60]
    assert regression.cluster_starts(2, 10, cuts=4).tolist() == [0, 2, 5, 7, 10, 12, 15, 17]


def test_estimate_and_truth_are_projected_alike():
    """By the same ridge: the total effect and the gate of both are linear maps from states to currents."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(500, 6)) @ np.diag([9, 3, 1, 0.5, 0.1, 0.01]), rng.normal(size=(500, 4))
    fit = part_of(Fit, _projection=(np.column_stack([x, y]), fitting.second_moment_with_ridge(x)))
    np.testing.assert_allclose(fit.project(y), regress_on_state(x, y), rtol=1e-9)


def test_maps_read_total_and_gate_off_the_blocks():
    """Of copies, path and gate: the total has the states of both paths, the gate what copies' slopes pass on."""
    rng, n, k = np.random.default_rng(0), 8, 3
    u, v = rng.random((4, 60, n)).astype(np.float32), rng.normal(size=(4, 60, 2)).astype(np.float32)
    V, copies, first = np.linalg.qr(rng.normal(size=(n, k)))[0], Copies(1.5, 0.7, 0.3, 0.2), 10
    components = [("copies", (0, 1)), ("copies", (0, -1)), ("path", ()), ("gate", (1, 1))]
    blocks = [Block("direct", slice(0, n), None, "direct")]
    for name, component in components:
        start = blocks[-1].columns.stop
        blocks.append(Block(name, slice(start, start + k), V, name, component))
    q = blocks[-1].columns.stop + 1
    flat = lambda a: a[:, first:].reshape(-1, a.shape[-1]).astype(float)
    x = np.column_stack([flat(u), rng.normal(size=(200, q - n))])
    rec = Recording(u, v, 0.01)
    fit = part_of(Fit, rec=rec, first=first, q=q, blocks=blocks, copies=copies, geometry=RING, directions=V,
                  places=RING.places(n), _projection=(x, fitting.second_moment_with_ridge(x[:, :n])))  # fmt: skip
    direct, total, *gates = fit._maps()
    np.testing.assert_array_equal(direct, np.eye(n, q))
    expected = np.eye(n, q)
    expected[:, n : n + 3 * k] = regress_on_state(x[:, :n], x[:, n : n + 3 * k])
    np.testing.assert_allclose(total, expected, atol=1e-9)
    by_copies, by_gate = np.zeros((n, q)), np.zeros((n, q))
    for m, sign in ((0, 1), (1, -1)):
        h = np.maximum(0, np.tanh(x[:, :n] @ copies.kernel(RING, RING.places(n)) - 0.3 + sign * 0.2 * flat(v)[:, :1]))
        active = regress_on_state(x[:, :n], (1 - h**2) * (h > 0))
        by_copies[:, n + m * k : n + (m + 1) * k] = sign * 0.2 * active @ V
    by_gate[:, n + 3 * k : n + 4 * k] = V
    np.testing.assert_allclose(gates, [by_copies, by_gate], atol=1e-6)


def test_weights_of_noisy_observations_are_the_inverse_variance_of_what_they_regress():
    """target = x + (y - m) / m' phi'(x), whose variance is that of y over (m' phi')^2."""
    rng, trials, steps, n = np.random.default_rng(0), 20, 80, 12
    phase = np.cumsum(0.1 * rng.normal(size=(trials, steps)), 1)
    x = (1.2 * np.cos(phase[..., None] - RING.places(n)[:, 0]) - 0.2).astype(np.float32)
    r = np.maximum(0, np.tanh(x))
    noise = Noise("clipped", sd=0.1)
    y = noise.draw(r, rng)
    rec = Recording(y, rng.normal(size=(trials, steps, 1)).astype(np.float32), 0.01, tau=0.05)
    kinetics = Kinetics(response.TANH, 0.2, 0.0, "multiplied connections", {})
    smoothed = Smoothed(x, r, phase, 1e-3)
    fit = observations.Observed(observations.Observations(rec, y, smoothed, noise), kinetics, RING, RING.places(n))
    (samples,) = fit.pieces
    late = slice(fit.first, None)
    x, r, y = (a[:, late].reshape(-1, n).astype(float) for a in (x, r, y))
    used = samples.used
    np.testing.assert_array_equal(used, x > observations.LOWEST_CURRENT)
    h = 1e-4
    by_current = (noise.mean(np.tanh(x + h)) - noise.mean(np.tanh(x - h)))[used] / (2 * h)
    variance = noise.variance(r)[used] / by_current**2
    np.testing.assert_allclose(samples.weight[used] * variance, 1, rtol=1e-2)
    np.testing.assert_allclose(samples.y[used], x[used] + (y - noise.mean(r))[used] / by_current, atol=2e-3)


# ---- alpha, and what is not converged ---------------------------------------------------------------------------


def test_alpha_is_refined_to_the_top_with_the_error_of_its_likelihood(monkeypatch):
    """Of residuals whose mean square is least at .31, as a pilot of each alpha would leave them."""
    rng, steps, n = np.random.default_rng(0), 200, 4
    base, other = rng.normal(size=(2, 30, steps, n)).astype(np.float32)
    other -= (base * other).sum() / (base**2).sum() * base

    class Residuals:
        samples = None

        def __init__(self, rec, kinetics, *_):
            self.alpha = kinetics.alpha

        def residuals(self):
            e = base + np.float32(3 * (self.alpha - 0.31)) * other
            return e, np.ones(e.shape, bool), 0

    monkeypatch.setattr(estimator, "Pilot", Residuals)
    rec = Recording(np.zeros((30, 10, n), np.float32), np.zeros((30, 10, 1), np.float32), 0.01)
    found = estimator.refine_alpha(rec, Kinetics(response.TANH, 0.15, np.nan, "hidden neurons", {}), RING, None)
    likelihoods = fitting.compare_residuals({a: Residuals(None, SimpleNamespace(alpha=a)).residuals()
                                             for a in (0.29, 0.31, 0.33)})  # fmt: skip
    assert found.alpha == pytest.approx(0.31, abs=0.005)
    assert found.alpha_se == pytest.approx(parabola(likelihoods, 0.31, 0.02)[1], rel=0.05)


@pytest.mark.parametrize(("agreement", "said"), [(0.97, "cannot tell"), (0.99, "fits"), (np.nan, "cannot tell")])
def test_imputed_rates_that_do_not_settle_leave_no_interval(agreement, said, monkeypatch):
    monkeypatch.setattr(missing, "impute", lambda *_: (None, agreement))
    monkeypatch.setattr(missing, "estimate_clean", lambda *_: estimate_of())
    found = missing.estimate(SimpleNamespace(tau=None), None, RING)
    assert found.verdicts["description"] == said
    assert np.isfinite(found.W_se).all() == np.isfinite(found.gate_se).all() == (said == "fits")
    assert found.identifiable.any() == found.resolved.any() == (said == "fits")
