"""The estimate of recordings whose circuit is known, and of recordings that say the same in another way."""

import functools
import os
import subprocess
import sys
from copy import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import cann
from nsi import estimation, response
from nsi.errors import BadInput
from nsi.estimation import copies, estimator, fitting, gate, refinement, signals
from nsi.estimation.kinetics import Kinetics, Likelihood, choose_kinetics
from nsi.estimation.signals import Copies
from nsi.evaluation.scores import true_effective_gate, true_total
from nsi.geometry import RING
from nsi.network import Network, run
from nsi.recordings import Recording, load
from nsi.simulation import circuits, observation, stimulation
from tests.tools import ROOT

KEYS = "rates", "velocity", "dt", "heading", "tau", "stimulus", "driven"
HIDDEN = Kinetics(response.TANH, 0.2, 0.0, "hidden neurons", {})
NAMES = "W", "total", "gate"


def simulate(circuit, seed=3, trials=20, steps=300, **more):
    """A recording of a circuit. Returns: Recording, and the true W, total and gate under these names."""
    data = cann.simulate_recording(circuit, seed, trials, steps, **more)
    rec = Recording(**{k: data[k] for k in KEYS if k in data})
    truth = {k: data[f"true_{k}"] for k in ("W", "W_in", "gate")} | {"hidden_rates": data["hidden_rates"]}
    return rec, truths(truth, rec)


def truths(truth, rec):
    """W, total and gate of a circuit whose hidden rates are known."""
    n, alpha = rec.rates.shape[-1], rec.dt / rec.tau if rec.tau else 1.0
    total, effective = true_total(truth, rec.rates, alpha), true_effective_gate(truth, rec)
    return SimpleNamespace(W=truth["W"][:n, :n], total=total, gate=effective)


COPIES = Copies(gain=1.5, width=0.35, threshold=0.6, drive=0.15)


@functools.cache
def simulate_copies(seed=0, hidden_noise=0.0, n=20, trials=30, steps=400):
    """The estimator's own model: two sheets of copies, one for each sign of the velocity, send the bump displaced.

    With at most as many neurons as leading directions, the signals span it exactly. Returns: Recording, truth."""
    rng, places, net = np.random.default_rng(seed), RING.places(n), circuits.ring(n, n).network
    W, b = net.W.copy(), net.b.copy()
    W[:n, n : 2 * n] = W[:n, 2 * n :] = COPIES.kernel(RING, places)
    b[n:] = -COPIES.threshold
    net = Network(W, np.sign(net.W_in) * COPIES.drive, b, 0.2, n)
    settle, velocity = 100, stimulation.random_velocity(rng, trials, steps, 0.01)
    u = np.pad(RING.bump(places, rng.uniform(-np.pi, np.pi, (trials, 1))), [(0, 0), (0, 2 * n)])
    sd = np.repeat([0.02, hidden_noise], [n, 2 * n])
    noise = lambda _: sd * rng.standard_normal(u.shape)
    rates = np.stack([r for _, r in run(net, np.pad(velocity, [(0, 0), (settle, 0), (0, 0)]), u, noise)], 1)[:, settle:]
    rec = Recording(rates[..., :n].astype(np.float32), velocity.astype(np.float32), 0.01, tau=0.05)
    return rec, truths({"W": W, "W_in": net.W_in, "hidden_rates": rates[..., n:]}, rec)


def simulate_response(phi, weights, n=24, trials=30, steps=300):
    """A ring of neurons with response function phi, known pulses, and a velocity that multiplies connections.

    weights: cosine, inhibition and threshold of the ring. Returns: Recording."""
    rng, (cosine, inhibition, b) = np.random.default_rng(1), weights
    apart = RING.places(n)[:, 0] - RING.places(n)
    W, W_gain = (cosine * np.cos(apart) - inhibition) / n, 0.15 * np.sin(apart) / n
    velocity = stimulation.random_velocity(rng, trials, steps + 100, 0.01)
    stimulus = stimulation.Pulses(0.3).draw(rng, trials, steps + 100, range(n), 0.01)
    u, rates = 0.5 * RING.bump(RING.places(n), rng.uniform(-np.pi, np.pi, (trials, 1))), []
    for t in range(steps + 100):
        noise = 0.02 * rng.standard_normal(u.shape)
        rates.append(phi(u @ W + b + velocity[:, t] * (u @ W_gain) + stimulus[:, t] + noise))
        u = u + 0.2 * (rates[-1] - u)
    late = lambda a: np.asarray(a, np.float32)[:, 100:]
    return Recording(late(np.stack(rates, 1)), late(velocity), 0.01, tau=0.05, stimulus=late(stimulus))


@functools.cache
def simulate_ring():
    return simulate(circuits.ring(24, 24), trials=30)


@functools.cache
def estimate_ring():
    return estimation.estimate(simulate_ring()[0], calibrated=False)


@functools.cache
def estimate_holding():
    """A recording that determines its copies well, so that nothing of the estimate is left to rounding. Returns:
    Recording, Estimate."""
    rec = simulate(circuits.holding(24, 24), trials=60)[0]
    return rec, estimation.estimate(rec, calibrated=False)


def fit(rec, kinetics=HIDDEN):
    return estimation.Fit(rec, estimation.Pilot(rec, kinetics, RING, RING.places(rec.rates.shape[-1])))


def agree(found, true):
    """Correlation, and slope of the estimate on the truth."""
    return np.corrcoef(np.ravel(found), np.ravel(true))[0, 1], np.vdot(found, true) / np.vdot(true, true)


def apart(a, b, name):
    """The median difference of two unbiased estimates, in standard errors of the second."""
    difference, se = getattr(a, f"{name}_unbiased") - getattr(b, f"{name}_unbiased"), getattr(b, f"{name}_se")
    return np.median(np.abs(difference)[np.isfinite(se)] / se[np.isfinite(se)])


# ---- what is recovered ------------------------------------------------------------------------------------------


def test_copies_without_noise_are_recovered():
    """Of the model's own circuit: weights, total and gate within their errors, and the copies' parameters."""
    rec, truth = simulate_copies()
    found = fit(rec)
    plain, best = found.estimates()
    for L, se, name in zip(found.maps, plain.se, NAMES, strict=True):
        true = np.reshape(getattr(truth, name), se.shape)
        r, slope = agree(L @ best.weights, true)
        assert r > 0.9998, name
        assert slope == pytest.approx(1, abs=0.01), name
        assert 0.85 < np.std((L @ plain.weights - true) / se) < 1.2, name
    np.testing.assert_allclose(found.copies[:4], COPIES[:4], rtol=0.05)
    assert np.sqrt(np.median(plain.variance)) == pytest.approx(0.02, rel=0.02)


def test_many_neurons_are_described_by_fewer_regressors_and_copies(monkeypatch):
    """Where only predictions matter: the copies found are the same, and so are the weights."""
    rec, _ = simulate_copies(n=64, trials=20)
    each = [fit(rec)]
    for module in (fitting, signals):
        monkeypatch.setattr(module, "MAX_DIRECT", 48)
    monkeypatch.setattr(copies, "MAX_COPIES", 32)
    each.append(fit(rec))
    np.testing.assert_allclose(each[1].copies[:4], each[0].copies[:4], rtol=0.1)
    a, b = (one.unbiased() for one in each)
    assert np.median(np.abs(a.weights[:64] - b.weights[:64]) / a.se[0]) < 0.2


def test_published_gain_network_without_a_warning():
    rec, truth = simulate(circuits.gain(36), trials=30)
    assert rec.tau is None
    found = estimation.estimate(rec, calibrated=False)
    assert agree(found.W, truth.W)[0] > 0.99
    r, slope = agree(found.gate, truth.gate)
    assert r > 0.98
    assert 0.9 < slope < 1.1
    assert found.alpha > 0.95
    assert found.scale == 1
    assert not found.alpha_known
    assert {k: found.verdicts[k] for k in ("mechanism", "response", "gate")} == {
        "mechanism": "multiplied connections", "response": "rectified tanh", "gate": "found"}  # fmt: skip


def test_ring_with_hidden_shifters():
    """Its hidden neurons are not the model's: spread otherwise, and with noise of their own."""
    found, truth = estimate_ring(), simulate_ring()[1]
    for name, least in (("W", 0.999), ("total", 0.999), ("gate", 0.995)):
        r, slope = agree(getattr(found, name), getattr(truth, name))
        assert r > least, name
        assert slope == pytest.approx(1, abs=0.05), name
    assert found.verdicts == {
        "mechanism": "hidden neurons", "response": "rectified tanh", "gate": "found", "geometry": "a ring",
        "description": "fits"}  # fmt: skip
    assert (found.alpha, found.alpha_se, found.alpha_known) == (pytest.approx(0.2), 0, True)


@pytest.mark.slow
def test_hidden_neurons_that_excite_each_other_are_described():
    """With pulses. Copies that do not excite each other have W 1.16 times too large, the gate 1.23 times."""
    rec, truth = simulate(circuits.coupled(24, 24), 3, 20, 400, amplitude=4.0)
    found = estimation.estimate(rec)
    for name in NAMES:
        r, slope = agree(getattr(found, name), getattr(truth, name))
        assert r > 0.999, name
        assert slope == pytest.approx(1, abs=0.03), name
    assert np.mean(coverage(found, truth, "W")) > 0.9
    assert found.verdicts["description"] == "fits"
    among = found.network.W[24:48, 24:48]
    assert among.sum(0) == pytest.approx(0.35, abs=0.1)
    assert not found.network.W[24:48, 48:].any()


def test_nothing_is_claimed_of_hidden_neurons_that_excite_each_other_without_pulses():
    """Noise lasts longer among them than their copies' noise is taken to: W is too large."""
    rec, _ = simulate(circuits.coupled(24, 24), 2)
    found = estimation.estimate(rec, calibrated=False)
    assert found.verdicts["description"] == "cannot tell"
    assert np.isinf(found.W_se).all()


def test_alpha_is_found_where_tau_is_missing():
    rec, _ = simulate(circuits.ring(20, 10))
    found = estimation.estimate(replace(rec, tau=None), calibrated=False)
    assert found.alpha == pytest.approx(0.2, abs=0.04)
    assert found.alpha_se > 0
    assert not found.alpha_known


def test_scale_of_the_rates_is_found():
    rec, truth = simulate_ring()
    scaled = replace(rec, rates=np.float32(0.82) * rec.rates)
    found = estimation.estimate(scaled, calibrated=False)
    assert found.scale == pytest.approx(1 / 0.82, abs=0.02)
    assert agree(found.W, truth.W)[0] > 0.99


@pytest.mark.parametrize(
    ("chosen", "weights"),
    [
        (response.Response("linear"), (4, 3, 0.3)),
        (response.Response("softplus", 1.0, 8.0), (4.6, 3, 0.3)),
        (response.TANH, (6, 3, 0.3)),
    ],
)
def test_response_function_is_found(chosen, weights):
    found = choose_kinetics(simulate_response(chosen.phi, weights), 0.2)
    assert found.verdicts == {"response": str(chosen), "mechanism": "multiplied connections"}


def test_likelihoods_are_of_rates_that_show_the_current():
    """A step before between a fifth of the highest rate, its 99.9th percentile, and just below it; never of padding."""
    rec, _ = simulate_ring()
    rec = replace(rec, lengths=np.repeat([200, 300], 15))
    likelihood, top = Likelihood(rec, (0.2,)), np.quantile(rec.rates[rec.valid], 0.999)
    between = (rec.rates > 0.2 * top) & (rec.rates < 0.97 * top)
    expected = between[:, 39:-1] & (rec.rates[:, 40:] > 0) & rec.valid[:, 40:, None]
    np.testing.assert_array_equal(likelihood.used(), expected[:, :: likelihood.every])


def test_unit_of_the_rates_does_not_choose_alpha():
    """A unit adds a constant to the log likelihood of each sample: all alphas have the same samples."""
    rec, _ = simulate_ring()
    linear, leads = response.Response("linear"), []
    for unit in (1.0, 100.0):
        likelihood = Likelihood(replace(rec, rates=np.float32(unit) * rec.rates))
        for alpha in (0.05, 1.0):
            likelihood.evaluate(alpha, "multiplied connections", [linear])
        slow, fast = (likelihood.best(alpha=alpha)[1].sum() for alpha in (0.05, 1.0))
        leads.append(fast - slow)
    assert leads[1] == pytest.approx(leads[0], rel=1e-3)


# ---- is there a gate --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("circuit", [circuits.ring(24, 12), circuits.gain(24), circuits.holding(24, 12)])
def test_gate_is_found_in_twenty_trials(circuit):
    rec, _ = simulate(circuit, seed=5)
    assert gate.gate_test(rec, rec.dt / rec.tau if rec.tau else 1.0, response.TANH)[0] == "found"


def test_no_gate_is_found_with_the_velocity_of_other_trials():
    """At most in one of twenty; and p values are spread over all of 0 to 1."""
    (rec, _), p = simulate(circuits.ring(18, 9), steps=250), []
    for seed in range(20):
        order = gate._derangement(np.random.default_rng(100 + seed), len(rec.rates))
        p.append(gate.gate_test(replace(rec, velocity=rec.velocity[order]), 0.2, response.TANH, seed)[1])
    assert sum(value <= gate.MAX_P_FOUND for value in p) <= 1
    assert 0.3 < np.mean(p) < 0.7


BOUNDS = [(39, "found"), (38, "cannot tell"), (5, "cannot tell"), (4, "not found")]


@pytest.mark.parametrize(("permutations", "verdict"), BOUNDS)
def test_p_values_at_which_the_verdict_changes(permutations, verdict, monkeypatch):
    """A clear gate has the least p value that there is, 1 / (1 + permutations): bounds are .025 and .2."""
    monkeypatch.setattr(gate, "PERMUTATIONS", permutations)
    assert gate.gate_test(simulate_ring()[0], 0.2, response.TANH) == (verdict, pytest.approx(1 / (1 + permutations)))


def test_no_warning_about_a_gate_without_velocity():
    rec = simulate_ring()[0]
    still = replace(rec, velocity=0 * rec.velocity)
    assert gate.gate_test(still, 0.2, response.TANH) == ("cannot tell", 1.0)


# ---- intervals --------------------------------------------------------------------------------------------------


def coverage(found, truth, name):
    z = np.abs(getattr(found, f"{name}_unbiased") - getattr(truth, name)) / getattr(found, f"{name}_se")
    z = z[~np.eye(z.shape[-1], dtype=bool)] if name != "gate" else z
    return z[np.isfinite(z)] < 1.96


@pytest.mark.parametrize("kind", ["gain", "copies"])
def test_intervals_hold_the_truth(kind):
    """95 % of it, within what a few recordings can show: halved standard errors hold about 70 %, doubled ones all."""
    inside = {name: [] for name in NAMES}
    for seed in (100, 101, 102) if kind == "gain" else (100, 101):
        rec, truth = simulate(circuits.gain(24), seed, 30, 400) if kind == "gain" else simulate_copies(seed, 0.02)
        found = estimation.estimate(rec, alpha=1.0 if kind == "gain" else None)
        for name in NAMES:
            inside[name].append(coverage(found, truth, name).ravel())
        assert found.calibration["factors"].keys() == set(NAMES)
    for name, covered in inside.items():
        assert 0.9 < np.mean(np.concatenate(covered)) < 0.992, name


@pytest.mark.parametrize("shifters", [12, 24])
def test_copies_are_as_many_as_explain_the_currents_best(shifters):
    """Of few neurons it matters: with one copy on each of 24 places, r of 12 shifters' gate is 0.990 here."""
    rec, truth = simulate(circuits.ring(24, shifters), trials=40, steps=500)
    found = fit(rec)
    centres = found.copies.centres
    assert (24 if centres is None else centres.sum()) == shifters
    best = found.estimates()[1]
    for L, name in zip(found.maps, NAMES, strict=True):
        r, slope = agree(L @ best.weights, np.reshape(getattr(truth, name), (24, 24)))
        assert r > 0.995
        assert slope == pytest.approx(1, abs=0.1)


def test_single_gates_are_found_where_pulses_show_all_directions():
    """Connections that the velocity multiplies by pairs' own factors: they lie in no few directions of the states."""
    circuit, rng = circuits.gain(40), np.random.default_rng(0)
    factors = 1 + 0.5 * rng.standard_normal((40, 40))
    circuit = circuit._replace(network=circuit.network._replace(W_gain=factors * circuit.network.W_gain))
    rec, truth = simulate(circuit, trials=30, steps=400, amplitude=4.0)
    found = estimation.estimate(rec, alpha=1.0, calibrated=False)
    assert 0.92 < coverage(found, truth, "gate").mean() < 0.98
    assert agree(found.gate, truth.gate) == (pytest.approx(1, abs=0.05),) * 2


def test_calibration_widens_intervals_by_its_factors():
    found = copy(estimate_ring())
    before = {name: getattr(found, f"{name}_se").copy() for name in NAMES}
    found.calibrate({"factors": {"W": 1.3, "total": 1.5, "gate": 2.0}})
    for name, factor in (("W", 1.3), ("total", 1.5), ("gate", 2.0)):
        np.testing.assert_allclose(getattr(found, f"{name}_se"), factor * before[name])


def test_standard_errors_are_as_large_as_the_noise():
    """With pulses the regressors hardly depend on the noise, so that twice the noise makes twice the error."""
    errors = {}
    for noise in (0.02, 0.04):
        rec, _ = simulate(circuits.ring(24, 12), noise=noise, amplitude=1.0)
        errors[noise] = np.median(fit(rec).unbiased().se[0])
    assert errors[0.04] / errors[0.02] == pytest.approx(2, abs=0.4)


def test_identifiable_weights_have_intervals_narrower_than_the_weights():
    """A half-width of 1.96 standard errors, against the r.m.s. weight."""
    W = np.array([[3.0, 4.0], [0.0, 5.0]])
    limit = np.sqrt(50 / 4) / 1.96
    se = np.array([[0.99, 1.01], [0.0, np.inf]]) * limit
    np.testing.assert_array_equal(estimator.identifiable(W, np.nan_to_num(se, posinf=np.inf)),
                                  [[True, False], [True, False]])  # fmt: skip


def test_resolved_weights_have_errors_below_half_their_spread():
    """The spread of weights about their profile, without what the standard errors themselves add."""
    rng, n = np.random.default_rng(0), 60
    places, spread = RING.places(n), 0.2
    for size, expected in ((0.46, True), (0.54, False)):
        se = np.full((n, n), size * spread)
        W = np.cos(places - places[:, 0]) + spread * rng.standard_normal((n, n)) + se * rng.standard_normal((n, n))
        found = estimator.resolved(W, se, np.ones((n, n), bool), RING, places)
        assert (found == (expected & ~np.eye(n, dtype=bool))).all()


def test_noise_of_hidden_neurons_is_taken_out_of_the_residuals():
    """Their synapses filter it: residuals four steps apart correlate at .18 unless innovations are regressors."""
    residuals, used, _ = fit(simulate_copies(1, 0.1)[0]).pilot.residuals()
    both = used[:, 4:] & used[:, :-4]
    alike = (residuals[:, 4:] * residuals[:, :-4])[both].mean() / (residuals[used] ** 2).mean()
    assert abs(alike) < 0.12


@pytest.mark.parametrize("hidden_noise", [0.0, 0.06])
def test_noise_of_hidden_neurons_is_found(hidden_noise):
    """By what innovations predict; it is the calibration's, relative to recorded neurons' 0.02."""
    rec, _ = simulate_copies(1, hidden_noise)
    found = estimation.estimate(rec, geometry=RING).calibration["hidden_noise"]
    assert found == pytest.approx(hidden_noise / 0.02, abs=0.8)


def test_an_estimate_whose_simulation_falls_silent_claims_no_interval():
    """An alpha that is wrong: the circuit that it implies holds no bump, so that nothing is estimated of it."""
    rec, _ = simulate(circuits.ring(30, 15), 100, 16, 300)
    found = estimation.estimate(rec, alpha=0.7, geometry=RING)
    assert found.verdicts["description"] == "does not fit"
    assert not np.isfinite(found.W_se).any()


def test_trials_shorter_than_a_state_takes_to_settle_and_one_long_session():
    rec, _ = simulate_copies(n=12, trials=80, steps=35)
    assert estimation.estimate(rec, geometry=RING).calibration
    long, _ = simulate_copies(n=12, trials=1, steps=5001)
    cut = fitting.shorten(long)
    assert cut.rates.shape == (3, 1667, 12)
    assert cut.valid.sum() == 5001
    np.testing.assert_array_equal(cut.rates[cut.valid], long.rates[0])
    np.testing.assert_array_equal(cut.velocity[cut.valid], long.velocity[0])


def test_neurons_whose_sums_do_not_fit_into_memory_are_estimated_the_same(monkeypatch):
    rec, _ = simulate_copies()
    whole = fit(rec)
    all_at_once, some = whole.estimates(), whole.unbiased(whole.choose_neurons(5))
    for name, value in {"SUMS_BYTES": 0, "MIN_NEURONS": 8, "GROUP_BYTES": 0, "MIN_GROUP": 3}.items():
        monkeypatch.setattr(fitting, name, value)
    parts = fit(rec)
    assert (len(parts.groups), len(parts.sums.xx)) == (7, 8)
    for a, b in zip(all_at_once, parts.estimates(), strict=True):
        np.testing.assert_allclose(a.weights[:20], b.weights[:20], atol=0.05 * np.abs(b.weights[:20]).max())
    a, b, known = all_at_once[0], parts.unbiased(), np.isfinite(some.variance)
    np.testing.assert_allclose(a.weights, b.weights, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(a.se[2], b.se[2], rtol=1e-4)
    assert known.sum() == 5
    np.testing.assert_allclose(some.weights[:, known], a.weights[:, known], rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_into_memory_is_refused_before_it_is_begun(monkeypatch):
    monkeypatch.setattr(fitting.os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 25_000}.get)
    with pytest.raises(BadInput, match=r"24 neurons and 9000 samples, .* about 0\.\d GB .* has 0\.1; expected"):
        estimation.estimate(simulate_ring()[0])


# ---- recordings as they come ------------------------------------------------------------------------------------


def check_shapes(found, n, D, claimed=True):
    """claimed: whether intervals are, or none is."""
    arrays = found.arrays()
    for name in NAMES:
        shape = (D, n, n) if name == "gate" else (n, n)
        best, unbiased, se = (arrays[name + kind] for kind in ("", "_unbiased", "_se"))
        assert best.shape == unbiased.shape == se.shape == shape
        assert np.isfinite(best).all()
        known = np.isfinite(se)  # of neurons that are hardly ever active nothing is known
        if not claimed:
            assert not known.any()
            continue
        assert known.mean() > 0.5
        assert (np.isfinite(unbiased) == known).all()
        assert (se[known] > 0).all()
    assert arrays["identifiable"].dtype == arrays["resolved"].dtype == bool
    assert arrays["identifiable"].shape == arrays["resolved"].shape == (n, n)
    assert {"alpha", "alpha_se", "scale"} < arrays.keys()


def test_stimulus_is_taken_off_and_padding_ignored():
    """Pulses of half the bump's size; trials of unequal length, with noise in the place of what is missing."""
    rec, truth = simulate(circuits.ring(24, 12), trials=30, steps=400, amplitude=0.5)
    lengths = np.random.default_rng(0).integers(250, 401, 30)
    padded = replace(rec, lengths=lengths, rates=rec.rates.copy())
    padded.rates[~padded.valid] = 0
    padded = replace(padded, velocity=np.where(padded.valid[..., None], rec.velocity, 0).astype(np.float32))
    found = estimation.estimate(padded, calibrated=False)
    check_shapes(found, 24, 1)
    assert agree(found.W, truth.W)[0] > 0.995
    error = np.abs(found.W_unbiased - truth.W)[~np.eye(24, dtype=bool)]
    assert np.median(error) < 0.15 * np.sqrt(np.mean(truth.W**2))
    wrong = fit(replace(padded, stimulus=None)).unbiased()
    assert np.nanmedian(wrong.variance) > 4 * found.noise**2


def test_driven_neurons_that_were_recorded():
    """All but a few shifters are hidden; velocity's own weights onto those that are recorded are in the network."""
    data = observation.record_neurons(cann.simulate_recording(circuits.ring(24, 12), 3, 30, 300), 8)
    rec = Recording(**{k: data[k] for k in KEYS if k in data})
    found = estimation.estimate(rec, calibrated=False)
    check_shapes(found, 32, 1, claimed=False)
    assert found.verdicts["description"] == "cannot tell"
    n, driven = 32, rec.driven
    assert driven.sum() == 8
    assert (found.network.W_in[0, :n][~driven] == 0).all()
    assert agree(found.network.W_in[0, :n], data["true_W_in"][0, :n])[0] > 0.98


def test_shifters_alone():
    data = observation.record_neurons(cann.simulate_recording(circuits.ring(24, 12), 3, 30, 300), "shifters")
    rec = Recording(**{k: data[k] for k in KEYS if k in data})
    check_shapes(estimation.estimate(rec, calibrated=False), 24, 1, claimed=False)


def test_two_velocities_on_a_ring():
    """Their product is what turns the bump, which is no gate of either."""
    rec, truth = simulate(circuits.product(24), trials=30, steps=400)
    found = estimation.estimate(rec, calibrated=False)
    check_shapes(found, 24, 2)
    assert found.verdicts["mechanism"] == "multiplied connections"
    assert agree(found.W, truth.W)[0] > 0.99
    products = {tuple(powers): G for powers, G in found.network.products}
    true = circuits.product(24).network.products[0][1]
    assert agree(products[1, 1], true)[0] > 0.99


def test_heading_is_not_read_nor_any_truth(tmp_path):
    """Headings at random, and a file whose truth is nonsense, change no bit of the estimate."""
    rec, found = simulate_ring()[0], estimate_ring()
    rng = np.random.default_rng(0)
    arrays = {k: getattr(rec, k) for k in ("rates", "velocity", "dt", "tau")}
    nonsense = {"true_W": rng.random((48, 48)), "true_gate": rng.random((1, 24, 24)), "hidden_rates": rec.rates}
    np.savez(tmp_path / "mine.npz", **arrays, **nonsense, heading=rng.uniform(-3, 3, rec.velocity.shape))
    again = estimation.estimate(load(tmp_path / "mine.npz"), calibrated=False)
    for key, value in found.arrays().items():
        np.testing.assert_array_equal(again.arrays()[key], value, err_msg=key)


def test_copies_are_refined_only_where_the_evidence_determines_them(monkeypatch):
    pilot = estimation.Pilot(simulate_ring()[0], HIDDEN, RING, RING.places(24))
    assert refinement.refine(pilot) is pilot  # 24 neurons, 30 trials
    monkeypatch.setattr(refinement, "DETERMINED_SD", 1.0)
    refined = refinement.refine(pilot, steps=1)
    assert refined.copies != pilot.copies
    assert pilot.scales is None
    assert refined.scales is not None


def test_neurons_in_another_order_are_estimated_the_same():
    rec, found = estimate_holding()
    order = np.random.default_rng(0).permutation(24)
    again = estimation.estimate(replace(rec, rates=rec.rates[..., order]), calibrated=False)
    back = np.argsort(order)
    for name in NAMES:
        for kind in ("", "_unbiased", "_se"):
            value = getattr(again, name + kind)
            setattr(again, name + kind, value[..., back[:, None], back])
        assert apart(again, found, name) < 0.02
        assert agree(getattr(again, name), getattr(found, name)) == (pytest.approx(1, abs=0.01),) * 2


def test_mirror_image_is_estimated_as_the_mirror_image():
    """Neurons in reverse order, and velocity the other way round."""
    rec, found = estimate_holding()
    again = estimation.estimate(replace(rec, rates=rec.rates[..., ::-1], velocity=-rec.velocity), calibrated=False)
    for name, sign in (("W", 1), ("total", 1), ("gate", -1)):
        for kind in ("", "_unbiased"):
            setattr(again, name + kind, sign * getattr(again, name + kind)[..., ::-1, ::-1])
        assert apart(again, found, name) < 0.02
        assert agree(getattr(again, name), getattr(found, name)) == (pytest.approx(1, abs=0.01),) * 2


@pytest.mark.parametrize(("setting", "used"), [(None, {1}), ("2", {2})])
def test_one_thread_unless_the_environment_says_otherwise(setting, used):
    code = (
        "import nsi, threadpoolctl; from nsi.estimation import observations as o\n"
        "def say(*args): print({pool['num_threads'] for pool in threadpoolctl.threadpool_info()}); raise SystemExit\n"
        "o.find_noise = say; nsi.estimate(nsi.simulate('ring', trials=2, steps=200))"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    environment |= {"OMP_NUM_THREADS": setting} if setting else {}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout == f"{used}\n", done.stderr


THREADS = """
import sys; from nsi import estimation, recordings
estimation.estimate(recordings.load(sys.argv[1]), calibrated=False).save(sys.argv[2])
"""


@pytest.mark.slow
def test_number_of_threads_changes_nothing(tmp_path):
    """Of the estimate, but for rounding: at most .02 standard errors."""
    rec, found = estimate_holding()[0], {}
    np.savez(tmp_path / "mine.npz", **{k: getattr(rec, k) for k in ("rates", "velocity", "dt", "tau")})
    for threads in "1", "2":
        count = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)
        command = [sys.executable, "-c", THREADS, tmp_path / "mine.npz", tmp_path / f"{threads}.npz"]
        subprocess.run(command, check=True, cwd=ROOT, env=os.environ | count)
        found[threads] = SimpleNamespace(**np.load(tmp_path / f"{threads}.npz"))
    for name in NAMES:
        assert apart(found["2"], found["1"], name) < 0.02
