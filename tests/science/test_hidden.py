"""Hidden neurons: the units that stand for them, constraints on these, and scores."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import cann
import train
from model import RNN
from nsi import recordings
from nsi.errors import BadInput
from nsi.evaluation.weights import clamp, gate_map
from nsi.geometry import RING
from nsi.hidden import constraints, diagnostics, matching, units
from nsi.network import Network, predict, run, synaptic_state
from nsi.recordings import Recording, quality
from nsi.run import connections
from nsi.simulation import observation
from nsi.simulation.circuits import CIRCUITS
from nsi.training import bptt, clamped, losses

DRIVEN = np.array([False, True, True])  # of three recorded units


@pytest.fixture
def kinds():
    """Three recorded units, two hidden response and three hidden input units, with every constraint but copies."""
    return units.make_units(3, 2, 3, DRIVEN, ("excited", "apart", "types", "inhibition"))


def model_of(kinds, replicas=2):
    generators = [torch.Generator().manual_seed(k) for k in range(replicas)]
    return RNN(0, 0, 1, 0.3, 1.0, generators, kinds).double()


def kept(kinds, W, W_in, b):
    """Whether a network keeps its constraints, written out."""
    still, driven = ~kinds.driven, kinds.driven
    assert (W[..., still, :][..., driven] >= 0).all()
    assert (W[..., driven, :][..., driven] == 0).all()
    assert (W[..., 0, 0] <= 0).all()
    assert (W_in[..., still] == 0).all()
    for replica in range(len(b)):
        theirs, ours = np.array([1, 2]), np.array([5, 6, 7])  # recorded and hidden ones of the type
        assert np.allclose(b[replica, ours], b[replica, theirs].mean())
        assert np.allclose(np.abs(W_in[replica, 0, ours]), np.abs(W_in[replica, 0, theirs]).mean())


def test_units_stand_in_the_order_recorded_hidden_response_hidden_input(kinds):
    assert kinds.driven.tolist() == [False, True, True, False, False, True, True, True]
    assert kinds.hidden_inputs.tolist() == [False] * 5 + [True] * 3
    assert units.make_units(3).driven.all()  # the control
    assert units.make_units(3, inputs=2).driven.tolist() == [False, False, False, True, True]


def test_a_network_starts_and_stays_within_its_constraints(kinds):
    model = model_of(kinds)
    kept(kinds, *(p.detach().numpy() for p in model.weights))
    g = torch.Generator().manual_seed(0)
    for _ in range(3):
        for p in model.weights:
            p.data += 0.1 * torch.randn(p.shape, generator=g, dtype=p.dtype) * (model.driven if p is model.W_in else 1)
        constraints.project(model)
        kept(kinds, *(p.detach().numpy() for p in model.weights))


def test_plain_units_are_not_constrained():
    model = RNN(4, 3, generators=(torch.Generator().manual_seed(0),))
    before = [p.detach().clone() for p in model.weights]
    constraints.project(model)
    assert model.free is None
    assert all(torch.equal(p, q) for p, q in zip(model.weights, before, strict=True))


@pytest.mark.parametrize("forcing", [0.0, 0.25])
def test_gradient_is_that_of_autograd_but_for_absent_weights(kinds, forcing):
    model = model_of(kinds)
    g = torch.Generator().manual_seed(1)
    make = lambda n: torch.rand(9, 2, 5, n, generator=g, dtype=torch.float64)
    v, u, r = make(1) * 2 - 1, make(3), make(3)
    loss = model.loss((v, u, r, None), warmup=2, forcing=forcing, penalty=0.3)
    W, W_in, b = torch.autograd.grad(loss.sum(), model.weights)
    objective = bptt.Objective(3, 0.3, 2, model.driven, model.free)
    found = bptt.gradient(model.weights, (v, u, r, None), objective, forcing, penalty=0.3)
    torch.testing.assert_close(found[0], loss.detach())
    for mine, theirs in zip(found[1], (W * model.free, W_in * model.driven, b), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert (W * (1 - model.free)).abs().max() > 0  # autograd would have moved them


@pytest.mark.parametrize(
    ("options", "driven", "dimensions", "chosen"),
    [
        ([], None, 1, (0, 100, units.DEFAULT_CONSTRAINTS)),
        ([], None, 2, (0, 100, "")),
        ([], np.ones(100, bool), 1, (100, 0, f"{units.DEFAULT_CONSTRAINTS},copies")),
        ([], np.arange(100) >= 50, 1, (50, 50, f"{units.DEFAULT_CONSTRAINTS},copies")),
        ([], np.arange(110) >= 100, 1, (0, 90, units.DEFAULT_CONSTRAINTS)),
        (["--input-units", "4", "--set", "constraints=none"], None, 1, (0, 4, "")),
        (["--control"], None, 1, (0, 100, "")),
        (["--response-units", "3", "--set", "constraints=apart"], None, 1, (3, 100, "apart")),
    ],
)
def test_hidden_units_follow_from_which_neurons_were_recorded(options, driven, dimensions, chosen):
    settings = train.parse(options)[1]
    found = units.choose_units(100 if driven is None else len(driven), driven, dimensions, settings)
    assert tuple(found[name] for name in ("response_units", "input_units", "constraints")) == chosen


def test_hidden_units_are_trained_with_the_given_weights_under_the_constraints(rec, net):
    """Given weights stay to the bit; the others are trained, from small random ones."""
    W, b = net.W[:40, :40].astype(float), net.b[:40].astype(float)
    W[:, 7], b[7] = np.nan, np.nan
    settings = train.parse(["--updates", "10", "--replicas", "2", "--alpha", "0.2", "--set", "lr=1e-4", "--set",
                            "window=20"])[1]  # fmt: skip
    chosen = {"response_units": 0, "input_units": 20, "forcing": 0.1, "constraints": units.DEFAULT_CONSTRAINTS}
    found = train.fit_hidden(W, b, rec, replace(settings, **chosen))
    for one in found:
        fixed = np.isfinite(W)
        assert np.array_equal(one.W[:40, :40][fixed], W.astype(np.float32)[fixed])
        assert 0 < np.abs(one.W[:40, 7]).max() < 0.1
        assert (one.W[:40, 40:] >= 0).all()
        assert (one.W[40:, 40:] == 0).all()
        assert np.ptp(one.b[40:]) < 1e-6
        assert np.ptp(np.abs(one.W_in[0, 40:])) < 1e-6
    assert not np.array_equal(found[0].W[:40, 40:], found[1].W[:40, 40:])


def test_weights_are_given_to_a_network_only_where_it_can_have_them(net):
    found = SimpleNamespace(W=net.W[:40, :40], scale=1.0, alpha=0.2, verdicts={"description": "fits"}, network=net)
    W, b = connections.weights_for_networks(found, 0.2)
    assert np.array_equal(W, net.W[:40, :40])
    assert np.array_equal(b, net.b[:40])
    silent = SimpleNamespace(**(vars(found) | {"W": net.W[:40, :40] * (np.arange(40) > 0)}))
    W, b = connections.weights_for_networks(silent, 0.2)
    assert np.isnan(W).any(0).tolist() == np.isnan(b).tolist() == [True] + [False] * 39
    for changes in ({"scale": 1.2}, {"alpha": 1.0}, {"verdicts": {"description": "cannot tell"}}, {"network": None}):
        other = SimpleNamespace(**(vars(found) | changes))
        assert np.isnan(connections.weights_for_networks(other, 0.2)[0]).all(), changes


@pytest.mark.parametrize("name", ["inhibited", "coupled", "mixed"])
def test_each_circuit_breaks_one_assumption_alone(name):
    net = CIRCUITS[name]().network
    to, among = net.W[:100, 100:], net.W[100:, 100:]
    assert (to.min() < 0) == (name == "inhibited")
    assert (among != 0).any() == (name == "coupled")
    assert (np.ptp(net.b[100:]) > 0.1) == (name == "mixed")


@pytest.mark.parametrize(
    ("name", "late"), [("ring", False), ("holding", False), ("inhibited", False), ("coupled", True)]
)
def test_velocity_that_acts_late_speaks_against_shifters_that_are_apart(name, late):
    circuit = CIRCUITS[name](n=40, shifters=20)
    data = cann.simulate_recording(circuit, seed=2, trials=6, steps=400)
    rec = Recording(data["rates"], data["velocity"], data["dt"])
    assert bool(list(diagnostics.late(rec, 0.2, RING, "excited,apart"))) == late
    assert not list(diagnostics.late(rec, 0.2, RING, "excited,types"))
    explained = diagnostics.speed(rec, 0.2, RING)
    assert (explained[0.7] > explained[1.0]) == late
    assert max(explained.values()) > 0.9


def test_speed_of_a_filter_is_found():
    """A bump that an input moves through a filter 0.7 times as fast as its own synapse."""
    rng = np.random.default_rng(0)
    v = rng.standard_normal((4, 500, 1))
    driven = synaptic_state(v, 0.14)
    angle = np.zeros((4, 500, 1))
    for t in range(499):  # the state follows the bump, which is ahead of it by what the input says
        angle[:, t + 1] = angle[:, t] + 0.2 * driven[:, t]
    bump = np.exp(2 * np.cos(angle + driven - RING.places(16)[:, 0]) - 2)
    rec = Recording(bump.astype(np.float32), v.astype(np.float32), 0.01)
    explained = diagnostics.speed(rec, 0.2, RING)
    assert max(explained, key=explained.get) == 0.7
    assert diagnostics.speed(Recording(rec.rates[..., :5], rec.velocity, 0.01), 0.2, RING) == {}
    assert diagnostics.speed(Recording(rec.rates, 0 * rec.velocity, 0.01), 0.2, RING) == {}


def test_networks_that_disagree_on_hidden_units_are_doubted_where_something_is_claimed(data):
    rec = Recording(data["rates"], data["velocity"], data["dt"])
    W = np.zeros((2, 50, 50), np.float32)
    W[0, 0, 40:] = W[1, 20, 40:] = 1.0  # copies of one neuron, and of another across the ring
    W_in = 0.01 * (np.arange(50) >= 40).astype(np.float32)[None]
    nets = [Network(w, W_in, np.zeros(50, np.float32), 0.2, 40) for w in W]
    assert [*diagnostics.disagreeing(nets, rec, "excited")]
    assert not [*diagnostics.disagreeing(nets, rec, "")]
    assert not [*diagnostics.disagreeing([nets[0], nets[0]], rec, "excited")]
    assert not [*diagnostics.disagreeing(nets[:1], rec, "excited")]


def test_a_network_of_hidden_units_of_both_kinds_is_read_off(rec):
    """The gate runs through hidden driven units alone."""
    rng, n = np.random.default_rng(0), 40
    driven = np.r_[np.arange(n) >= 30, np.zeros(5, bool), np.ones(6, bool)]
    W = 0.1 * rng.standard_normal((51, 51)).astype(np.float32)
    net = Network(W, (driven * 0.1).astype(np.float32)[None], np.zeros(51, np.float32), 0.2, n)
    clamped = clamp(net, rec)
    moved = gate_map(net, clamped)
    assert (moved[0, :, :5] == 0).all()
    assert np.abs(moved[0, :, 5:]).max() > 0
    np.testing.assert_allclose(net.gate()[0], 0.1 * W[:n, 45:] @ W[45:, :n], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("recorded", ["shifters", "half", 7])
def test_other_neurons_of_the_same_circuit_are_recorded(circuit, data, recorded):
    found = observation.record_neurons(data, recorded, seed=3)
    n = found["rates"].shape[-1]
    assert n == {"shifters": 40, "half": 40, 7: 47}[recorded]
    assert found["driven"].sum() == {"shifters": 40, "half": 20, 7: 7}[recorded]
    rates = np.concatenate([found["rates"], found["hidden_rates"]], -1)
    before = np.concatenate([data["rates"], data["hidden_rates"]], -1)
    assert np.array_equal(np.sort(rates.max((0, 1))), np.sort(before.max((0, 1))))
    net = Network(found["true_W"], found["true_W_in"], found["true_b"], 0.2, n)
    assert ((found["true_W_in"][:, :n] != 0).any(0) == found["driven"]).all()
    u = synaptic_state(rates.astype(float), 0.2)[:, 60:90]  # the truth, in its new order, still drives the activity
    errors = [np.abs(r - rates[:, 60 + t]) for t, (_, r) in
              enumerate(run(net, found["velocity"][:, 60:90], u[:, 0], recorded=u, clamped=30))]  # fmt: skip
    assert np.mean(errors) < 0.02
    np.testing.assert_allclose(found["true_gate"], net.gate())


def test_what_cannot_be_recorded_is_refused(data):
    gain = cann.simulate_recording(CIRCUITS["gain"](), trials=2, steps=20)
    for recorded in ("shifters", "half", 3):
        with pytest.raises(BadInput, match="--record: expected compass"):
            observation.record_neurons(gain, recorded)
    with pytest.raises(BadInput, match="--record"):
        observation.record_neurons(data, 1000)
    with pytest.raises(BadInput, match="pulses"):
        observation.record_neurons(data | {"stimulus": np.zeros_like(data["rates"])}, "half")
    assert observation.record_neurons(data, "compass") is data


@pytest.mark.parametrize("recorded", ["compass", "half", 7])
def test_the_truth_matches_itself(data, recorded):
    """One to one, whatever the order of its hidden units; its blocks too, whatever the scale of each."""
    found = observation.record_neurons(data, recorded)
    n, size = found["rates"].shape[-1], len(found["true_b"])
    rec = Recording(found["rates"], found["velocity"], found["dt"])
    order = np.r_[np.arange(n), n + np.random.default_rng(0).permutation(size - n)]
    scale = np.r_[np.ones(n), np.random.default_rng(1).uniform(0.5, 2, size - n)]
    W, W_in, b = (found[f"true_{k}"].astype(np.float32) for k in ("W", "W_in", "b"))
    net = Network(W[np.ix_(order, order)], W_in[:, order], b[order], 0.2, n)
    measures = matching.measures(net, rec, {"W": W, "W_in": W_in, "hidden_rates": found["hidden_rates"]})
    assert measures["r_match"] > 0.98
    assert measures["r2_hidden"] > 0.95
    assert measures["r2_hidden_linear"] > 0.95
    assert ("r_match_response" in measures) == (recorded == "half")
    pairs = matching.of_hidden(net, rec, found["hidden_rates"], (W_in[:, n:] != 0).any(0))["pairs"]
    assert (order[n + pairs[:, 0]] - n == pairs[:, 1]).mean() > 0.9
    scaled = net._replace(W=net.W * scale / scale[:, None])
    blocks = matching.blocks(scaled, W, np.stack([np.arange(size - n), order[n:] - n], 1))
    assert blocks["r_W_from_hidden"] == pytest.approx(1)
    assert blocks["r_W_to_hidden"] == pytest.approx(1)
    assert matching.agreement([net, net._replace(W=W, W_in=W_in, b=b)], rec) == pytest.approx(1, abs=0.03)


def test_short_trials_are_compared_after_a_quarter_of_them(data):
    """Too short for the steps that are left out of others."""
    W, W_in, b = (data[f"true_{k}"].astype(np.float32) for k in ("W", "W_in", "b"))
    net = Network(W, W_in, b, 0.2, data["rates"].shape[-1])
    rec = Recording(data["rates"][:, :40], data["velocity"][:, :40], data["dt"])
    assert matching.agreement([net, net], rec) == pytest.approx(1)


def test_no_share_of_a_variance_that_is_0_is_explained():
    assert np.isnan(matching.explained(np.ones((9, 2)), np.zeros((9, 2))))


def test_strangers_match_nothing_and_the_record_itself_predicts_copies(data):
    rec = Recording(data["rates"], data["velocity"], data["dt"])
    rng, n = np.random.default_rng(0), 40
    W = np.zeros((n + 10, n + 10), np.float32)
    W[:n, n:] = rng.standard_normal((n, 10))
    net = Network(W, np.zeros((1, n + 10), np.float32), np.zeros(n + 10, np.float32), 0.2, n)
    noise = matching.of_hidden(net, rec, rng.random((20, 300, 10), np.float32))
    assert abs(noise["r_match"]) < 0.1
    assert noise["r2_hidden_baseline"] < 0.05
    copies = synaptic_state(data["rates"], 0.2)[..., :10] * np.float32(0.5)
    assert matching.of_hidden(net, rec, copies)["r2_hidden_baseline"] > 0.99


def test_velocity_that_is_not_given_is_the_activity_own_turning(data, save):
    rec = recordings.load(save(data, velocity=None))
    assert rec.decoded
    assert any("velocity is not given" in sentence for sentence in quality.check_outliers(rec))
    own, true = rec.velocity[:, 20:, 0].ravel(), data["velocity"][:, 19:-1, 0].ravel()
    assert np.corrcoef(own, true)[0, 1] > 0.85
    rates = data["rates"].copy()
    rates[:, 100:] = rates[:, 100:, ::-1]  # what comes after changes nothing before
    later = recordings.own_turning(rates, data["dt"])
    places = RING.find(data["rates"])
    assert np.isfinite(later).all()
    heading = RING.decode(data["rates"], places)
    np.testing.assert_allclose(rec.velocity[:, 1:], RING.difference(heading[:, 1:], heading[:, :-1]) / 0.01, atol=1e-3)


def test_driven_neurons_are_read_and_checked(data, save):
    driven = np.arange(40) >= 30
    rec = recordings.load(save(data, driven=driven))
    assert (rec.driven == driven).all()
    assert (rec.trials(slice(2)).driven == driven).all()
    assert recordings.load(save(data, driven=np.zeros(40, int))).driven is None
    for wrong, said in ((np.ones(39), "driven has shape"), (np.full(40, 2), "other than 0 and 1")):
        with pytest.raises(BadInput, match=said):
            recordings.load(save(data, driven=wrong))


def test_shifters_are_counted_among_driven_units(data):
    from nsi.evaluation.tuning import shifter_measures

    found = observation.record_neurons(data, "half")
    n = found["rates"].shape[-1]
    rec = Recording(found["rates"], found["velocity"], found["dt"])
    W, W_in, b = (found[f"true_{k}"].astype(np.float32) for k in ("W", "W_in", "b"))
    count = shifter_measures(Network(W, W_in, b, 0.2, n), rec, RING, RING.find(rec.rates))
    assert count["active_input_units"] <= 20
    assert predict(Network(W, W_in, b, 0.2, n), rec).shape[-1] == 80


def test_estimated_weights_that_run_worse_than_trained_ones_are_named():
    of = lambda *errors: [*diagnostics.poorly_predicting({"trained": [1.0] * len(errors), "hidden": errors})]
    assert not of(1.3)
    assert not of(73.0, 1.3)  # one replica's training may fail
    (sentence,) = of(73.2)
    assert "73 times" in sentence
    assert not [*diagnostics.poorly_predicting({"trained": [1.0]})]  # a control


@pytest.mark.parametrize("stimulated", [False, True])
def test_the_gradient_without_a_loop_is_that_of_autograd(stimulated):
    """Recorded units clamped, hidden ones without connections among each other; on all steps, and on every third."""
    W = 0.1 * np.random.default_rng(0).standard_normal((4, 4))
    model = RNN(0, 0, 2, 0.3, 1.0, [torch.Generator().manual_seed(0)], units.make_units(4, 0, 6, None, ("apart",), W))
    g = torch.Generator().manual_seed(1)
    v, *recorded = (torch.rand(20, 1, 5, size, generator=g) for size in (2, 4, 4, 4))
    u, r, stimulus = recorded if stimulated else (*recorded[:2], None)
    for every in (1, 3):
        steps = torch.arange(6, 20, every)
        a, _ = model(v, u, warmup=20, stimulus=stimulus)
        loss = losses.matching(a[steps, ..., :4], r[steps]).mean()
        W_grad, W_in, b = torch.autograd.grad(loss, model.weights)
        batch = [None if x is None else x[:, 0] for x in (v, u, r, stimulus)]
        K = clamped.synapse(20, steps, 0.3)
        value, found = clamped.clamped_gradient([p[0] for p in model.weights], 4, K, batch, steps, model.free)
        torch.testing.assert_close(value, loss.detach())
        for mine, theirs in zip(found, (W_grad * model.free, W_in * model.driven, b), strict=True):
            torch.testing.assert_close(mine, theirs[0])


@pytest.mark.parametrize(("to_profile", "to_weight"), [(0.0, 0.0), (0.75, 0.6), (1e12, 1.0), (np.inf, None)])
def test_heterogeneity_is_relative_to_all_of_the_weights(to_profile, to_weight):
    """S.d. about the profile over the r.m.s. of profile and deviations together."""
    names = ("verdicts", "gate_p", "alpha", "alpha_se", "alpha_known", "scale", "noise", "measurement_noise",
             "calibration", "decay", "decay_se", "turning_lag")  # fmt: skip
    prior = {"heterogeneity": {"direct": to_profile}}
    described = connections.describe(SimpleNamespace(**dict.fromkeys(names), prior=prior))["heterogeneity"]
    assert described is None if to_weight is None else described == pytest.approx(to_weight)
