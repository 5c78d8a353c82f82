"""Neurons that were not recorded: who the units are, what is assumed of them, and how they are scored."""

import numpy as np
import pytest
import torch

import cann
import train
from model import RNN
from nsi import assumed, connectivity, doubts, gradient, prediction, record, recordings, solve, units, unrecorded
from nsi.circuits import CIRCUITS
from nsi.errors import BadInput
from nsi.geometry import RING
from nsi.network import Network, run, synaptic_state
from nsi.recordings import Recording
from nsi.run import checkpoint, second

DRIVEN = np.array([False, True, True])  # of three recorded units


@pytest.fixture
def who():
    """Three recorded units, two hidden response and three hidden input units, with every assumption but copies."""
    return units.make(3, 2, 3, DRIVEN, ("excited", "apart", "types", "inhibition"), favoured="even")


def model_of(who, replicas=2):
    generators = [torch.Generator().manual_seed(k) for k in range(replicas)]
    return RNN(0, 0, 1, 0.3, 1.0, generators, who).double()


def kept(who, W, W_in, b):
    """Whether a network keeps its assumptions, written out."""
    still, driven = ~who.driven, who.driven
    assert (W[..., still, :][..., driven] >= 0).all()
    assert (W[..., driven, :][..., driven] == 0).all()
    assert (W[..., 0, 0] <= 0).all()
    assert (W_in[..., still] == 0).all()
    for replica in range(len(b)):
        theirs, ours = np.array([1, 2]), np.array([5, 6, 7])  # recorded and hidden ones of the type
        assert np.allclose(b[replica, ours], b[replica, theirs].mean())
        assert np.allclose(np.abs(W_in[replica, 0, ours]), np.abs(W_in[replica, 0, theirs]).mean())


def test_units_stand_in_the_order_recorded_hidden_response_hidden_input(who):
    assert who.driven.tolist() == [False, True, True, False, False, True, True, True]
    assert who.hidden_inputs.tolist() == [False] * 5 + [True] * 3
    assert units.make(3).driven.all()  # the control
    assert units.make(3, inputs=2).driven.tolist() == [False, False, False, True, True]


def test_a_network_starts_and_stays_within_its_assumptions(who):
    model = model_of(who)
    kept(who, *(p.detach().numpy() for p in model.weights))
    g = torch.Generator().manual_seed(0)
    for _ in range(3):
        for p in model.weights:
            p.data += 0.1 * torch.randn(p.shape, generator=g, dtype=p.dtype) * (model.driven if p is model.W_in else 1)
        assumed.constrain(model)
        kept(who, *(p.detach().numpy() for p in model.weights))


def test_plain_units_are_not_constrained():
    model = RNN(4, 3, generators=(torch.Generator().manual_seed(0),))
    before = [p.detach().clone() for p in model.weights]
    assumed.constrain(model)
    assert model.free is None
    assert all(torch.equal(p, q) for p, q in zip(model.weights, before, strict=True))


@pytest.mark.parametrize("favoured", ["direct", "even"])
@pytest.mark.parametrize("forcing", [0.0, 0.25])
def test_gradient_is_that_of_autograd_but_for_absent_weights(who, favoured, forcing):
    model = model_of(who._replace(favoured=favoured))
    g = torch.Generator().manual_seed(1)
    make = lambda n: torch.rand(9, 2, 5, n, generator=g, dtype=torch.float64)  # noqa: E731
    v, u, r = make(1) * 2 - 1, make(3), make(3)
    loss = model.loss(v, u, r, warmup=2, forcing=forcing, penalty=0.3)
    W, W_in, b = torch.autograd.grad(loss.sum(), model.weights)
    found = gradient.gradient(
        model.weights, 3, 0.3, (v, u, r, None), model.driven, warmup=2, forcing=forcing, penalty=0.3,
        doubted=model.who.doubted, free=model.free,
    )  # fmt: skip
    torch.testing.assert_close(found[0], loss.detach())
    for mine, theirs in zip(found[1], (W * model.free, W_in * model.driven, b), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert (W * (1 - model.free)).abs().max() > 0  # autograd would have moved them


def test_doubted_drive_is_that_of_the_path_not_favoured(who):
    assert who.doubted == slice(0, 3)
    assert who._replace(favoured="direct").doubted == slice(3, None)
    assert who.penalised
    assert not who._replace(favoured="neither").penalised
    assert not units.make(3).penalised


@pytest.mark.parametrize(
    ("driven", "response", "inputs", "favour"),
    [
        (np.zeros(100, bool), 0, 100, "direct"),
        (np.ones(100, bool), 100, 0, "neither"),
        (np.arange(100) >= 50, 50, 50, "even"),
        (np.arange(110) >= 100, 0, 90, "direct"),
    ],
)
def test_defaults_follow_from_who_was_recorded(driven, response, inputs, favour):
    args = train.parse([])
    who = units.choose(args, len(driven), driven if driven.any() else None)
    assert (args.response_units, args.input_units, args.favour) == (response, inputs, favour)
    assert len(who.driven) == len(driven) + response + inputs
    args = train.parse(["--response-units", "3", "--input-units", "4", "--assume", "none", "--favour", "even"])
    who = units.choose(args, len(driven), driven)
    assert who.hidden_inputs.sum() == 4
    assert not who.bounded
    assert not who.types
    assert who.doubted == slice(0, len(driven))


@pytest.mark.parametrize(
    ("options", "driven", "dimensions", "assumed"),
    [
        ([], None, 1, units.USUAL),
        ([], None, 2, ""),
        ([], np.arange(100) >= 50, 1, ""),
        ([], np.arange(100) >= 90, 1, units.USUAL),
        ([], np.arange(100) >= 90, 2, ""),
        (["--assume", "none"], None, 1, ""),
        (["--rounds", "0"], None, 1, ""),
        (["--control"], None, 1, ""),
        (["--assume", "none", "--assume-hidden", "apart"], None, 1, "apart"),
    ],
)
def test_a_second_network_makes_the_assumptions_where_few_driven_neurons_are_recorded(
    options, driven, dimensions, assumed
):
    args = train.parse(options)
    who = units.choose(args, 100, driven, dimensions)
    assert args.assume_hidden == assumed
    if driven is None or assumed:
        assert not who.types
        assert not who.bounded


def test_second_network_starts_from_the_answer_and_keeps_its_assumptions(rec, windows, tmp_path):
    drawn = windows(rec, seeds=(0, 1))
    answer, who = RNN(40, 20, generators=drawn.generators).networks(), units.make(40, inputs=20)
    args = train.parse(["--out", str(tmp_path), "--updates", "20", "--lr", "1e-4", "--replicas", "2"])
    units.choose(args, 40, None)
    (tmp_path / "hidden.pt").write_text("an earlier fit's")
    found, said = second.infer(
        train.fit, RNN, args, who, answer, drawn, {"alpha": 0.2, "control": False, "input_units": 20}
    )
    assert said["hidden_assumed"] == units.USUAL
    for net, old in zip(found, answer, strict=True):
        assert np.abs(net.W[:40, :40] - old.W[:40, :40]).max() < 0.01
        assert (net.W[:40, 40:] >= 0).all()
        assert (net.W[40:, 40:] == 0).all()
        assert np.ptp(net.b[40:]) < 1e-6
        assert np.ptp(np.abs(net.W_in[0, 40:])) < 1e-6
    assert not np.array_equal(found[0].W[:40, 40:], found[1].W[:40, 40:])
    written = checkpoint.networks(tmp_path / "hidden.pt")[0]
    assert np.array_equal(written[1].W, found[1].W)
    args.assume_hidden = ""
    assert second.infer(train.fit, RNN, args, who, answer, drawn, {})[0] is answer
    assert not (tmp_path / "hidden.pt").exists()


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
    assert bool(list(doubts.late(rec, 0.2, RING, "excited,apart"))) == late
    assert not list(doubts.late(rec, 0.2, RING, "excited,types"))
    explained = doubts.speed(rec, 0.2, RING)
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
    explained = doubts.speed(rec, 0.2, RING)
    assert max(explained, key=explained.get) == 0.7
    assert doubts.speed(Recording(rec.rates[..., :5], rec.velocity, 0.01), 0.2, RING) == {}
    assert doubts.speed(Recording(rec.rates, 0 * rec.velocity, 0.01), 0.2, RING) == {}


def test_networks_that_disagree_on_hidden_units_are_doubted_where_something_is_claimed(data):
    rec = Recording(data["rates"], data["velocity"], data["dt"])
    W = np.zeros((2, 50, 50), np.float32)
    W[0, 0, 40:] = W[1, 20, 40:] = 1.0  # copies of one neuron, and of another across the ring
    W_in = 0.01 * (np.arange(50) >= 40).astype(np.float32)[None]
    nets = [Network(w, W_in, np.zeros(50, np.float32), 0.2, 40) for w in W]
    assert [*doubts.disagreeing(nets, rec, "excited")]
    assert not [*doubts.disagreeing(nets, rec, "")]
    assert not [*doubts.disagreeing([nets[0], nets[0]], rec, "excited")]
    assert not [*doubts.disagreeing(nets[:1], rec, "excited")]


def test_solving_keeps_bounds_and_absent_weights():
    """Least squares onto a neuron with one weight that would be negative and one that is absent: the others take over,
    as in a problem of non-negative least squares."""
    from scipy.optimize import nnls

    rng = np.random.default_rng(0)
    x = rng.random((200, 4))
    y = x @ np.array([1.0, -0.5, 2.0, 0.7])
    spread = np.array([1e3, 1e3, 1e3, 0.0])
    low, high = np.array([0.0, 0.0, 0.0, 0.0]), np.array([np.inf, np.inf, np.inf, 0.0])
    found = solve._within(x.T @ x, x.T @ y, spread, np.zeros(4), low, high)
    np.testing.assert_allclose(found[:3], nnls(x[:, :3], y)[0], atol=1e-5)
    assert found[3] == 0


def test_a_network_of_hidden_units_of_both_kinds_is_read_off(rec):
    """Held: the recorded driven neurons' known current, and the gate through hidden driven units alone."""
    rng, n = np.random.default_rng(0), 40
    driven = np.r_[np.arange(n) >= 30, np.zeros(5, bool), np.ones(6, bool)]
    W = 0.1 * rng.standard_normal((51, 51)).astype(np.float32)
    net = Network(W, (driven * 0.1).astype(np.float32)[None], np.zeros(51, np.float32), 0.2, n)
    held = connectivity.hold(net, rec)
    np.testing.assert_allclose(held.known, 0.1 * held.velocity * driven[:n], rtol=1e-5)
    moved = connectivity.gate_map(net, held)
    assert (moved[0, :, :5] == 0).all()
    assert np.abs(moved[0, :, 5:]).max() > 0
    np.testing.assert_allclose(connectivity.gate(net)[0], 0.1 * W[:n, 45:] @ W[45:, :n], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("seen", ["shifters", "half", 7])
def test_other_neurons_of_the_same_circuit_are_recorded(circuit, data, seen):
    found = record.record(data, seen, seed=3)
    n = found["rates"].shape[-1]
    assert n == {"shifters": 40, "half": 40, 7: 47}[seen]
    assert found["driven"].sum() == {"shifters": 40, "half": 20, 7: 7}[seen]
    rates = np.concatenate([found["rates"], found["hidden_rates"]], -1)
    before = np.concatenate([data["rates"], data["hidden_rates"]], -1)
    assert np.array_equal(np.sort(rates.max((0, 1))), np.sort(before.max((0, 1))))
    net = Network(found["true_W"], found["true_W_in"], found["true_b"], 0.2, n)
    assert ((found["true_W_in"][:, :n] != 0).any(0) == found["driven"]).all()
    u = synaptic_state(rates.astype(float), 0.2)[:, 60:90]  # the truth, in its new order, still drives the activity
    errors = [np.abs(r - rates[:, 60 + t]) for t, (_, r) in
              enumerate(run(net, found["velocity"][:, 60:90], u[:, 0], recorded=u, held=30))]  # fmt: skip
    assert np.mean(errors) < 0.02
    np.testing.assert_allclose(found["true_gate"], connectivity.gate(net))


def test_what_cannot_be_recorded_is_refused(data):
    gain = cann.simulate_recording(CIRCUITS["gain"](), trials=2, steps=20)
    for seen in ("shifters", "half", 3):
        with pytest.raises(BadInput, match="--record: expected compass"):
            record.record(gain, seen)
    with pytest.raises(BadInput, match="--record"):
        record.record(data, 1000)
    with pytest.raises(BadInput, match="pulses"):
        record.record(data | {"stimulus": np.zeros_like(data["rates"])}, "half")
    assert record.record(data, "compass") is data


@pytest.mark.parametrize("seen", ["compass", "half", 7])
def test_the_truth_matches_itself(data, seen):
    """One to one, whatever the order of its hidden units; its blocks too, whatever the scale of each."""
    found = record.record(data, seen)
    n, size = found["rates"].shape[-1], len(found["true_b"])
    rec = Recording(found["rates"], found["velocity"], found["dt"])
    order = np.r_[np.arange(n), n + np.random.default_rng(0).permutation(size - n)]
    scale = np.r_[np.ones(n), np.random.default_rng(1).uniform(0.5, 2, size - n)]
    W, W_in, b = (found[f"true_{k}"].astype(np.float32) for k in ("W", "W_in", "b"))
    net = Network(W[np.ix_(order, order)], W_in[:, order], b[order], 0.2, n)
    measures = unrecorded.measures(net, rec, {"W": W, "W_in": W_in, "hidden_rates": found["hidden_rates"]})
    assert measures["r_match"] > 0.98
    assert measures["r2_hidden"] > 0.95
    assert measures["r2_hidden_linear"] > 0.95
    assert ("r_match_response" in measures) == (seen == "half")
    pairs = unrecorded.of_hidden(net, rec, found["hidden_rates"], (W_in[:, n:] != 0).any(0))["pairs"]
    assert (order[n + pairs[:, 0]] - n == pairs[:, 1]).mean() > 0.9
    scaled = net._replace(W=net.W * scale / scale[:, None])
    blocks = unrecorded.blocks(scaled, W, np.stack([np.arange(size - n), order[n:] - n], 1))
    assert blocks["r_W_from_hidden"] == pytest.approx(1)
    assert blocks["r_W_to_hidden"] == pytest.approx(1)
    assert unrecorded.agreement([net, net._replace(W=W, W_in=W_in, b=b)], rec) == pytest.approx(1, abs=0.03)


def test_strangers_match_nothing_and_the_record_itself_predicts_copies(data):
    rec = Recording(data["rates"], data["velocity"], data["dt"])
    rng, n = np.random.default_rng(0), 40
    W = np.zeros((n + 10, n + 10), np.float32)
    W[:n, n:] = rng.standard_normal((n, 10))
    net = Network(W, np.zeros((1, n + 10), np.float32), np.zeros(n + 10, np.float32), 0.2, n)
    noise = unrecorded.of_hidden(net, rec, rng.random((20, 300, 10), np.float32))
    assert abs(noise["r_match"]) < 0.1
    assert noise["r2_hidden_baseline"] < 0.05
    copies = synaptic_state(data["rates"], 0.2)[..., :10] * np.float32(0.5)
    assert unrecorded.of_hidden(net, rec, copies)["r2_hidden_baseline"] > 0.99


def test_velocity_that_is_not_given_is_the_activity_own_turning(data, save):
    rec = recordings.load(save(data, velocity=None))
    assert rec.decoded
    assert any("velocity is not given" in sentence for sentence in recordings.outliers(rec))
    own, true = rec.velocity[:, 20:, 0].ravel(), data["velocity"][:, 19:-1, 0].ravel()
    assert np.corrcoef(own, true)[0, 1] > 0.85
    rates = data["rates"].copy()
    rates[:, 100:] = rates[:, 100:, ::-1]  # what comes after changes nothing before
    later = recordings.own_turning(rates, data["dt"])
    places = RING.find(data["rates"])
    assert np.isfinite(later).all()
    heading = RING.decode(data["rates"], places)
    np.testing.assert_allclose(rec.velocity[:, 1:], RING.difference(heading[:, 1:], heading[:, :-1]) / 0.01, atol=1e-3)


def test_who_is_driven_is_read_and_checked(data, save):
    driven = np.arange(40) >= 30
    rec = recordings.load(save(data, driven=driven))
    assert (rec.driven == driven).all()
    assert (rec.trials(slice(2)).driven == driven).all()
    assert recordings.load(save(data, driven=np.zeros(40, int))).driven is None
    for wrong, said in ((np.ones(39), "driven has shape"), (np.full(40, 2), "other than 0 and 1")):
        with pytest.raises(BadInput, match=said):
            recordings.load(save(data, driven=wrong))


def test_shifters_are_counted_among_driven_units(data):
    from nsi.tuning import shifter_measures

    found = record.record(data, "half")
    n = found["rates"].shape[-1]
    rec = Recording(found["rates"], found["velocity"], found["dt"])
    W, W_in, b = (found[f"true_{k}"].astype(np.float32) for k in ("W", "W_in", "b"))
    count = shifter_measures(Network(W, W_in, b, 0.2, n), rec, RING, RING.find(rec.rates))
    assert count["active_input_units"] <= 20
    assert prediction.predict(Network(W, W_in, b, 0.2, n), rec).shape[-1] == 80


def test_an_answer_that_runs_worse_than_what_training_left_is_doubted():
    assert not [*doubts.unfit([1.0, 1.3])]
    (sentence,) = doubts.unfit([1.0, 73.2])
    assert "73 times" in sentence
    assert "--input-units" in sentence
