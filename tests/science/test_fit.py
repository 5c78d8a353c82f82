"""The fit: what it learns, what it never sees, and that it repeats itself."""

import copy

import numpy as np
import pytest
import torch

import cann
import train
from model import RNN
from nsi import recordings
from nsi.evaluation import prediction
from nsi.evaluation.scores import network_scores
from nsi.geometry import RING
from nsi.recordings import Recording
from nsi.run.watch import Watch
from nsi.simulation import circuits
from nsi.training import bptt
from tests.tools import call


def weights(model):
    return b"".join(p.detach().numpy().tobytes() for p in model.parameters())


def test_fit_recovers_a_small_circuit(fit):
    circuit = circuits.ring(n=40, shifters=20)
    data = cann.simulate_recording(circuit, seed=5, trials=40, steps=400)
    rec = Recording(data["rates"], data["velocity"], data["dt"], tau=data["tau"])
    found = fit(rec, updates=150, batch=50, window=40, warmup=10, lr=1e-2).networks()[0]
    truth = {"W": circuit.network.W, "gate": circuit.network.gate()}
    scores = network_scores(found, truth, RING, RING.places(40))
    assert scores["r_W_near"] > 0.97
    assert scores["r_gate"] > 0.95
    assert scores["r_product"] < 0.6  # unsigned, left and right cancel


def thrice(data, save):
    """A data file with its truth, without it, and with another."""
    lies = {
        "true_W": -7 * data["true_W"], "true_gate": data["true_gate"] * 0, "true_b": data["true_b"] - 1,
        "true_W_in": 3 * data["true_W_in"], "hidden_rates": data["hidden_rates"] + 1,
        "held_out_rates": data["rates"] + 1,
    }  # fmt: skip
    return (
        save(data, held_out_rates=data["rates"]),
        save({k: v for k, v in data.items() if k not in recordings.TRUTH}, "bare.npz"),
        save(data, "lies.npz", **lies),
    )


def test_truth_is_never_read(data, rec, fit, save, monkeypatch):
    paths = thrice(data, save)
    with_truth, without, _ = paths
    assert "W" in recordings.load_truth(with_truth, rec)
    assert recordings.load_truth(without, rec) == {}
    np.testing.assert_array_equal(recordings.load_truth(with_truth, rec)["held_out_rates"], data["rates"])
    monkeypatch.setattr(recordings, "load_truth", lambda *_: pytest.fail("a fit read what it is scored on"))
    loaded = [recordings.load(path) for path in paths]
    fitted = [fit(one) for one in loaded]
    assert weights(fitted[0]) == weights(fitted[1]) == weights(fitted[2])
    chosen = []
    for model, one in zip(fitted, loaded, strict=True):
        silent = [net._replace(W=0 * net.W) for net in model.networks()]
        chosen.append(prediction.select_networks({"trained": model.networks(), "hidden": silent}, one, 5, 20)[1:])
    assert chosen[0] == chosen[1] == chosen[2]


def test_truth_and_held_out_trials_change_nothing_that_a_run_leaves(save, tmp_path, monkeypatch, capsys):
    """From reading the file to the intervals: the same bytes with the truth, without it and with another, and with
    other rates in the held-out trial."""
    small = ["--updates", 4, "--batch", 4, "--window", 20, "--input-units", 6, "--wandb", "disabled", "--no-report"]
    little, left = cann.simulate_recording(circuits.ring(n=10, shifters=5), seed=1, trials=12, steps=200), []
    *paths, lies = thrice(little, save)
    rates = np.concatenate([little["rates"][:9], little["rates"][:1], little["rates"][10:]])  # of every tenth trial
    with np.load(lies) as file:
        paths.append(save(dict(file), "lies.npz", rates=rates))
    for path in paths:
        out = tmp_path / path.stem
        status, error = call(train, monkeypatch, capsys, "--data", path, "--out", out, *small)
        assert status == 0, error
        model = torch.load(out / "model.pt", weights_only=True)["model"]
        left.append(([model[k].numpy().tobytes() for k in model], (out / "connectivity.npz").read_bytes()))
    assert left[0] == left[1] == left[2]
    with np.load(out / "connectivity.npz") as file:
        assert np.isfinite(file["W_se"]).any()  # something was estimated


def test_same_seed_same_bytes(rec, fit):
    assert weights(fit(rec, seed=3)) == weights(fit(rec, seed=3))
    assert weights(fit(rec, seed=3)) != weights(fit(rec, seed=4))


def test_replicas_are_fits_with_consecutive_seeds(rec, fit):
    for k, one in enumerate(fit(rec, seed=3, replicas=3).networks()):
        alone = fit(rec, seed=3 + k).networks()[0]
        np.testing.assert_allclose(one.W, alone.W, atol=1e-5)
        np.testing.assert_allclose(one.W_in, alone.W_in, atol=1e-5)
        np.testing.assert_allclose(one.b, alone.b, atol=1e-5)


def test_updates_are_adam_on_the_gradient_of_the_plain_loop(rec, fit, windows):
    """Forcing and penalty fade, the optimiser is torch's, the gradient autograd's: the same weights."""
    fitted = fit(rec, updates=6, input_units=10, forcing=0.2, drive_penalty=0.05)
    some = windows(rec)
    plain = RNN(40, 10, 1, 0.2, 0.03, some.generators)
    some = windows(rec)
    RNN(40, 10, 1, 0.2, 0.03, some.generators)  # draws from the generators as a fit does
    adam = torch.optim.Adam(plain.parameters(), 6e-3, (0.9, 0.99))
    cycle = torch.optim.lr_scheduler.OneCycleLR(adam, 6e-3, 6)
    for update in range(6):
        fade = 1 - update / 6
        batch = some.at(some.draw())
        adam.zero_grad()
        plain.loss(batch, warmup=5, forcing=fade * 0.2, penalty=fade * 0.05).sum().backward()
        plain.W_in.grad *= plain.driven
        adam.step()
        cycle.step()
    for mine, theirs in zip(fitted.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)
    assert (fitted.W_in[..., :40] == 0).all()


def test_replicas_at_once_have_the_gradients_of_each_alone(rec, fit, windows):
    model, some = fit(rec, updates=2, replicas=3), windows(rec, seeds=range(3))
    objective = bptt.Objective(40, 0.2, some.warmup, model.driven)
    one_by_one, at_once = (bptt.Gradient(model.weights, objective, some) for _ in range(2))
    at_once.batched = True  # as on a GPU
    drawn = some.draw()
    for found, expected in zip(at_once(drawn, 0.1, 0.003), one_by_one(drawn, 0.1, 0.003), strict=True):
        torch.testing.assert_close(list(found), list(expected), atol=1e-6, rtol=1e-4)


class RecordingWatch(Watch):
    """Keeps the weights and the state of training at every third update and at the end."""

    def __init__(self):
        self.kept = []

    def keeps(self, update, last):
        return update % 3 == 0 or update == last

    def keep(self, model, training):
        self.kept.append(copy.deepcopy((model.state_dict(), training)))


@pytest.mark.parametrize("replicas", [1, 2])
def test_resumed_fit_gives_the_same_bytes(rec, fit, replicas):
    watch = RecordingWatch()
    whole = fit(rec, updates=7, replicas=replicas, hook=watch)
    assert [training["updates"] for _, training in watch.kept] == [3, 6, 7]
    again, training = watch.kept[0]
    assert weights(fit(rec, updates=7, replicas=replicas, weights=again, training=training)) == weights(whole)
    assert training["seconds"] > 0


def test_published_estimator(rec, windows):
    """Mean squared error of a network that starts with silent input units and Glorot's weights, and runs freely."""
    model = RNN(40, 40, 1, 0.2, 1.0, (torch.Generator().manual_seed(0),))
    assert model.W.std().item() == pytest.approx(np.sqrt(2 / 160), rel=0.02)
    some = windows(rec, warmup=0)
    v, u, r, _ = some.at(some.draw())
    published = bptt.Objective(40, 0.2, 0, model.driven, loss="mse")
    loss, found = bptt.gradient(model.weights, (v, u, r, None), published)
    state, expected = torch.cat([u[0], torch.zeros(1, 8, 40)], -1), 0.0
    for t in range(20):
        _, rate, state = model.step(state, v[t])
        expected = expected + (rate[..., :40] - r[t]).square().mean() / 20
    torch.testing.assert_close(loss[0], expected.detach())
    W, W_in, b = torch.autograd.grad(expected, model.weights)
    for mine, theirs in zip(found, (W, W_in * model.driven, b), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("trials", [1, 4, 25])
def test_held_out_trials_are_set_aside(trials):
    rates = np.random.default_rng(0).random((trials, 100, 3), np.float32)
    train_on, held_out, index = recordings.split(Recording(rates, rates, 0.01))
    assert len(index) == len(held_out.rates) == {1: 1, 4: 1, 25: 2}[trials]
    training, testing = ({x.tobytes() for x in part.rates} for part in (train_on, held_out))
    assert not training & testing
    assert len(training) + len(testing) == (10 if trials == 1 else trials)
