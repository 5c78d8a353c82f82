"""The fit: what it learns, what it never sees, and that it repeats itself."""

import contextlib

import numpy as np
import pytest
import torch

import analysis
import cann
import fitting
import recording
import train
import uncertainty
from model import RNN, Buffers


def weights(model):
    return b"".join(p.detach().numpy().tobytes() for p in model.parameters())


def test_fit_recovers_a_small_circuit(options, fit):
    net = cann.shifter_network(n=40, n_shifters=20)
    data = cann.simulate_recording(net, seed=5, trials=40, steps=400)
    rec = recording.Recording(data["rates"], data["velocity"], data["dt"], tau=data["tau"])
    model = fit(rec, options(updates=150, batch=50, window=40, warmup=10, lr=1e-2))
    found = analysis.fits(model)[0]
    scores = analysis.connectivity_scores(found, {"W": net.W, "gate": net.gate}, None)
    assert scores["r_W_near"] > 0.97
    assert scores["r_gate"] > 0.95
    assert scores["r_product"] < 0.6  # unsigned, left and right cancel


def test_truth_is_never_read(data, rec, save, options, fit, monkeypatch):
    with_truth = save(data, held_out_rates=data["rates"])
    without = save({k: v for k, v in data.items() if k not in recording.TRUTH}, "bare.npz")
    lies = save(
        data,
        "lies.npz",
        true_W=-7 * data["true_W"],
        true_gate=data["true_gate"] * 0,
        hidden_rates=data["hidden_rates"] + 1,
        held_out_rates=data["rates"] + 1,
    )
    fitted = [weights(fit(recording.load(path), options())) for path in (with_truth, without, lies)]
    assert fitted[0] == fitted[1] == fitted[2]
    assert "W" in recording.load_truth(with_truth, rec)
    assert recording.load_truth(without, rec) == {}
    np.testing.assert_array_equal(recording.load_held_out(with_truth, rec), data["rates"])
    for loader in ("load_truth", "load_held_out"):
        monkeypatch.setattr(recording, loader, lambda *_: pytest.fail("a fit read what it is scored on"))
    model, args = fit(recording.load(with_truth), options()), options()
    refined, _ = train.polished(model, recording.load(with_truth), args)
    found = train.errors(refined, recording.load(with_truth), args, torch.device("cpu"))
    again = train.errors(
        train.polished(model, recording.load(lies), args)[0], recording.load(lies), args, torch.device("cpu")
    )
    assert all(np.array_equal(found[k], again[k]) for k in found)


def test_same_seed_same_bytes(rec, options, fit):
    assert weights(fit(rec, options(seed=3))) == weights(fit(rec, options(seed=3)))
    assert weights(fit(rec, options(seed=3))) != weights(fit(rec, options(seed=4)))


def test_replicas_are_fits_with_consecutive_seeds(rec, options, fit):
    together = analysis.fits(fit(rec, options(seed=3, replicas=3)))
    for k, one in enumerate(together):
        alone = analysis.fits(fit(rec, options(seed=3 + k)))[0]
        np.testing.assert_allclose(one.W, alone.W, atol=1e-5)
        np.testing.assert_allclose(one.W_in, alone.W_in, atol=1e-5)


class EagerGraph:
    """Stands for a CUDA graph where there is no GPU: what it captures is run, not replayed, from then on."""

    def __init__(self):
        self.replayed = 0

    def replay(self):
        self.replayed += 1
        self.again()


def test_captured_gradients_are_the_eager_ones(rec, options, fit, monkeypatch):
    eager = fit(rec, options(updates=8))
    graphs, calls = [], []
    run = fitting.Gradient.run

    def counted(self, *inputs):
        calls.append(inputs)
        if graphs and len(calls) == fitting.Gradient.EAGER + 1:  # while capturing, kernels are recorded, not run
            graphs[0].again = lambda: run(self, *inputs)
            return torch.zeros(1)
        return run(self, *inputs)

    monkeypatch.setattr(fitting.Gradient, "run", counted)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: graphs.append(EagerGraph()) or graphs[0])
    monkeypatch.setattr(torch.cuda, "graph", contextlib.nullcontext)
    made = fitting.Gradient.__init__
    monkeypatch.setattr(
        fitting.Gradient, "__init__", lambda self, *more: made(self, *more) or setattr(self, "captures", True)
    )
    for p, same in zip(fit(rec, options(updates=8)).parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(p, same, atol=1e-5, rtol=0)
    assert graphs[0].replayed == 8 - fitting.Gradient.EAGER
    assert len(calls) == fitting.Gradient.EAGER + 1


def test_resumed_fit_gives_the_same_bytes(rec, options, fit, monkeypatch):
    monkeypatch.setattr(fitting, "CHECKPOINT_EVERY", 3)
    states = []
    whole = fit(rec, options(updates=7), save=lambda s: states.append({k: _copy(v) for k, v in s.items()}))
    assert [s["updates"] for s in states] == [3, 6, 7]
    assert weights(fit(rec, options(updates=7), state=states[0])) == weights(whole)


def _copy(value):
    if isinstance(value, dict):
        return {k: _copy(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_copy(v) for v in value]
    return value.clone() if isinstance(value, torch.Tensor) else value


def test_published_estimator(rec, options):
    """Mean squared error of a network that starts with silent input units and Glorot's weights, and runs freely."""
    args = options(loss="mse", warmup=0, init_scale=1.0)
    model = RNN(40, 40, 1, 0.2, args.init_scale, torch.Generator().manual_seed(0))
    assert model.W.std().item() == pytest.approx(np.sqrt(2 / 160), rel=0.02)
    windows = fitting.Windows(rec, 0.2, args, [torch.Generator().manual_seed(0)], torch.device("cpu"))
    v, u, r, _ = windows.at(windows.draw())
    loss = fitting.gradient(model, v, u, r, None, args, Buffers())
    state, expected = torch.cat([u[0], torch.zeros(8, 40)], -1), 0.0
    for t in range(args.window):
        rate, state = model.step(state, v[t])
        expected = expected + (rate[:, :40] - r[t]).square().mean() / args.window
    torch.testing.assert_close(loss, expected.detach())
    for p, theirs in zip(model.parameters(), torch.autograd.grad(expected, list(model.parameters())), strict=True):
        torch.testing.assert_close(p.grad, theirs)


def test_bootstrap_draws_other_trials_for_each_replica(rec, options):
    args = options(bootstrap=True, replicas=3)
    generators = [torch.Generator().manual_seed(k) for k in range(3)]
    windows = fitting.Windows(rec, 0.2, args, generators, torch.device("cpu"))
    drawn = [set(pool.tolist()) for pool in windows.pools]
    assert all(len(pool) == len(rec.rates) for pool in windows.pools)
    assert all(len(d) < len(rec.rates) for d in drawn)  # some twice, some not at all
    assert drawn[0] != drawn[1] != drawn[2]
    rates = torch.as_tensor(rec.rates)
    _, _, r, _ = windows.at(windows.draw())
    for k in range(3):
        for window in r[:, k].unbind(1):
            assert any((rates[trial] == window[0]).all(-1).any() for trial in drawn[k])


def test_windows_stay_within_trials(options):
    trial, step = np.meshgrid(np.arange(6), np.arange(60), indexing="ij")
    rates = np.stack([trial, step], -1).astype(np.float32)
    rec = recording.Recording(rates, rates[..., :1].copy(), 0.01, stimulus=rates)
    args = options(batch=200, replicas=2)
    windows = fitting.Windows(rec, 0.2, args, [torch.Generator().manual_seed(k) for k in range(2)], torch.device("cpu"))
    v, _, r, stimulus = windows.at(windows.draw())
    assert r.shape == (25, 2, 200, 2)
    assert (r[..., 0] == r[:1, ..., 0]).all()  # one trial each
    assert (r[1:, ..., 1] - r[:-1, ..., 1] == 1).all()  # consecutive steps
    assert r[0, ..., 1].min() == 15  # the state's start is forgotten first: 3 / alpha steps
    assert r[-1, ..., 1].max() == 59
    assert torch.equal(stimulus, r)
    assert torch.equal(v[..., 0], r[..., 0])


def test_windows_stay_before_the_padding(options):
    """Trials of 60, 40 and 26 steps: every window of 25 that fits is drawn, and none beyond; 20 steps are too few."""
    trial, step = np.meshgrid(np.arange(4), np.arange(60), indexing="ij")
    rates = np.stack([trial, step], -1).astype(np.float32)
    rec = recording.Recording(
        rates, rates[..., :1], 0.01, lengths=np.array([60, 40, 26, 20]), fly=np.array([1, 0, 1, 0])
    )
    generators = [torch.Generator().manual_seed(0)]
    windows = fitting.Windows(rec, 0.2, options(batch=2000), generators, "cpu")
    _, _, r, _ = windows.at(windows.draw())
    assert (r[..., 0] == r[:1, ..., 0]).all()
    for k, (first, last) in enumerate([(15, 35), (15, 15), (1, 1)]):
        assert set(r[0, r[0, :, 0] == k, 1].tolist()) == set(range(first, last + 1))
    assert r[..., 0].max() == 2
    pools = {
        tuple(sorted(fitting.Windows(rec, 0.2, options(bootstrap=True), generators, "cpu").pools[0].tolist()))
        for _ in range(20)
    }
    assert pools == {(0, 0, 2, 2), (0, 1, 2), (1, 1)}  # flies are drawn whole


def test_padding_changes_nothing(rec, options, fit):
    """Measures of trials cut to unequal lengths and padded, against those of the cut trials by themselves."""
    lengths = np.where(np.arange(20) % 2, 300, 200)
    padded = recording.Recording(
        *(a * (np.arange(300) < lengths[:, None])[..., None] for a in (rec.rates, rec.velocity)), rec.dt
    )
    padded.lengths = lengths
    halves = [recording.Recording(rec.rates[k::2, :n], rec.velocity[k::2, :n], rec.dt) for k, n in ((0, 200), (1, 300))]
    found, angles = analysis.fits(fit(padded, options(updates=40)))[0], analysis.ring_angles(40)
    wrong = analysis.heading_error(found, padded, angles, steps=100)[0]
    apart = [analysis.heading_error(found, half, angles, steps=100)[0] for half in halves]
    np.testing.assert_allclose(wrong[: len(apart[0]), ::2], apart[0], atol=1e-5)
    assert np.isnan(wrong[len(apart[0]) :, ::2]).all()
    np.testing.assert_allclose(wrong[:, 1::2], apart[1], atol=1e-5)
    errors = [analysis.window_error(found, half, 5, 45) for half in halves]
    assert analysis.window_error(found, padded, 5, 45) == pytest.approx(np.average(errors, weights=[4, 6]), rel=1e-5)
    garbage = recording.Recording(padded.rates + ~padded.valid[..., None], padded.velocity, rec.dt, lengths=lengths)
    for a, b in zip(*(uncertainty.estimate(found, r) for r in (padded, garbage)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_rotated_windows_turn_rates_and_states_alike(rec, options):
    windows = [
        fitting.Windows(rec, 0.2, options(rotate=rotate, batch=30), [torch.Generator().manual_seed(0)], "cpu")
        for rotate in (False, True)
    ]
    plain, turned = (some.at(some.draw()) for some in windows)
    turns = [next(s for s in range(40) if torch.equal(plain[2][:, k].roll(-s, -1), turned[2][:, k])) for k in range(30)]
    assert len(set(turns)) > 10
    for k, turn in enumerate(turns):
        assert torch.equal(plain[1][:, k].roll(-turn, -1), turned[1][:, k])
    assert torch.equal(plain[0], turned[0])


@pytest.mark.parametrize("trials", [1, 4, 25])
def test_held_out_trials_are_set_aside(trials):
    rates = np.random.default_rng(0).random((trials, 100, 3), np.float32)
    train_on, held_out, index = train.split_trials(recording.Recording(rates, rates, 0.01))
    assert len(index) == len(held_out.rates) == {1: 1, 4: 1, 25: 2}[trials]
    seen, kept = ({x.tobytes() for x in part.rates} for part in (train_on, held_out))
    assert not seen & kept
    assert len(seen) + len(kept) == (10 if trials == 1 else trials)


def test_stimulus_reaches_the_response_units(rec, options):
    model = RNN(40, 10, 1, 0.2, 1.0, torch.Generator().manual_seed(0))
    stimulus = torch.rand(3, 40)
    gained = model.current(torch.zeros(3, 1), stimulus) - model.current(torch.zeros(3, 1))
    torch.testing.assert_close(gained, torch.cat([stimulus, torch.zeros(3, 10)], -1))


def test_loss_of_the_truth_is_the_noise_floor(data, rec, net, options):
    """The network that made the data predicts them better than any fit of a few updates."""
    truth = analysis.Fit(*(np.float32(data[k]) for k in ("true_W", "true_W_in", "true_b")), 0.2, 40)
    assert truth.W_in.shape == (1, 80)
    error = analysis.window_error(truth, rec, 30, 20)
    assert error < 5e-4
    wrong = truth._replace(W=truth.W * np.float32(0.9))
    assert analysis.window_error(wrong, rec, 30, 20) > 2 * error
    angles = analysis.place_on_ring(rec.rates)
    errors, steps = analysis.heading_error(truth, rec, angles, steps=200, warmup=50)
    assert steps == 200
    assert errors.mean() < 0.03
