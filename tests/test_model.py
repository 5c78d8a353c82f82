"""The fitted network against independent implementations of its equation and of its gradient."""

import numpy as np
import pytest
import torch

import analysis
import fitting
import recording
from model import RNN, Buffers, phi


@pytest.fixture
def rnn():
    return RNN(4, 3, 1, alpha=0.3, init_scale=1.0, generator=torch.Generator().manual_seed(0)).double()


@pytest.fixture
def window():
    g = torch.Generator().manual_seed(1)
    make = lambda *shape: torch.rand(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    return {"v": make(9, 5, 1) * 2 - 1, "u_response": make(9, 5, 4), "stimulus": make(9, 5, 4)}


def test_step_against_numpy(rnn, window):
    W, W_in = rnn.W.detach().numpy(), rnn.W_in.detach().numpy()
    rnn.b.data.uniform_(-0.1, 0.2, generator=torch.Generator().manual_seed(2))
    u, v, stimulus = np.random.default_rng(0).random((5, 7)), window["v"][0].numpy(), window["stimulus"][0].numpy()
    expected = np.empty((5, 7))
    for k in range(5):
        for j in range(7):
            x = sum(u[k, i] * W[i, j] for i in range(7)) + rnn.b[j].item()
            x += v[k, 0] * W_in[0, j - 4] if j >= 4 else stimulus[k, j]
            expected[k, j] = max(0, np.tanh(x))
    r, after = rnn.step(torch.tensor(u), window["v"][0], window["stimulus"][0])
    np.testing.assert_allclose(r.detach(), expected, atol=1e-12)
    np.testing.assert_allclose(after.detach(), u + 0.3 * (expected - u), atol=1e-12)


@pytest.mark.parametrize("forcing", [0.0, 0.25])
def test_forward_is_step_repeated(rnn, window, forcing):
    a, state = rnn(**window, warmup=2, forcing=forcing)
    u = torch.cat([window["u_response"][0], torch.zeros(5, 3, dtype=torch.float64)], -1)
    for t in range(9):
        torch.testing.assert_close(state[t], u)
        r, u = rnn.step(u, window["v"][t], window["stimulus"][t])
        torch.testing.assert_close(phi(a[t]), r)
        if t < 8:
            pull = 1.0 if t < 2 else forcing
            u = torch.cat([u[:, :4] + pull * (window["u_response"][t + 1] - u[:, :4]), u[:, 4:]], -1)


@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize("forcing", [0.0, 0.25])
@pytest.mark.parametrize("replicas", [1, 2])
def test_gradient_against_finite_differences(window, warmup, forcing, replicas):
    models = [RNN(4, 3, 1, 0.3, 1.0, torch.Generator().manual_seed(k)).double() for k in range(replicas)]
    rnn = RNN.stack(models) if replicas > 1 else models[0]
    inputs = {k: torch.stack([x] * replicas, 1) if replicas > 1 else x for k, x in window.items()}

    def run(W, W_in, b):
        return torch.func.functional_call(
            rnn, {"W": W, "W_in": W_in, "b": b}, (), inputs | {"warmup": warmup, "forcing": forcing}
        )

    assert torch.autograd.gradcheck(run, (rnn.W, rnn.W_in, rnn.b))


def test_replicas_are_the_networks_they_were_stacked_from(window):
    models = [RNN(4, 3, 1, 0.3, 1.0, torch.Generator().manual_seed(k)).double() for k in range(3)]
    a, _ = RNN.stack(models)(**{k: torch.stack([x] * 3, 1) for k, x in window.items()}, warmup=2)
    for k, one in enumerate(models):
        torch.testing.assert_close(a[:, k], one(**window, warmup=2)[0])


def test_velocity_reaches_the_input_units_only(rnn, window):
    v = window["v"].clone().requires_grad_()
    a, _ = rnn(v, window["u_response"], warmup=8)
    (to_response,) = torch.autograd.grad(a[:1, :, :4].sum(), v, retain_graph=True)
    assert to_response.abs().max() == 0
    (to_input,) = torch.autograd.grad(a[0, :, 4:].sum(), v)
    torch.testing.assert_close(to_input[0], rnn.W_in.sum().expand(5, 1))
    assert RNN(4, 0, 2).W_in.shape == (2, 4)  # the control: into the response units


def test_analysis_runs_the_same_network(rec):
    rnn = RNN(40, 10, 1, rec.dt / rec.tau, 1.0, torch.Generator().manual_seed(0))
    some = recording.Recording(rec.rates[:2, :60], rec.velocity[:2, :60], rec.dt)
    u = analysis.synaptic_state(some.rates, rnn.alpha)
    a, _ = rnn(*(torch.tensor(x).swapaxes(0, 1) for x in (some.velocity, u)), warmup=5)
    rates = analysis.run_network(analysis.fits(rnn)[0], some, warmup=5)
    np.testing.assert_allclose(rates.swapaxes(0, 1), phi(a).detach(), atol=2e-5)


def by_steps(model, v, u, r, stimulus, args, forcing, penalty):
    """The loss of fitting.gradient, written out with the network's own step; one replica."""
    n, loss = model.n_response, 0.0
    state = torch.cat([u[0], torch.zeros(u.shape[1], model.b.shape[-1] - n, dtype=u.dtype)], -1)
    for t in range(len(v)):
        a = (state @ model.W + model.current(v[t], stimulus[t]))[:, :n]
        if t >= args.warmup:
            error = (phi(a) - r[t]).square()
            if args.loss == "matching":
                error = torch.log(torch.cosh(a.clamp(min=0))) - a * r[t]
            drive = state[:, n:] @ model.W[n:, :n]
            loss = loss + (error + penalty * drive.square()).mean() / args.window
        _, after = model.step(state, v[t], stimulus[t])
        if t + 1 < len(v):
            pull = 1.0 if t < args.warmup else forcing
            state = torch.cat([after[:, :n] + pull * (u[t + 1] - after[:, :n]), after[:, n:]], -1)
    return loss


@pytest.mark.parametrize("loss", ["matching", "mse"])
@pytest.mark.parametrize("forcing", [0.0, 0.25, 1.0])
def test_training_gradient_against_autograd(rnn, window, options, loss, forcing):
    args = options(loss=loss, warmup=2, window=7, batch=5)
    r = torch.rand(9, 5, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    batch = window["v"], window["u_response"], r, window["stimulus"]
    expected = by_steps(rnn, *batch, args, forcing, 0.3)
    gradients = torch.autograd.grad(expected, (rnn.W, rnn.W_in, rnn.b))
    buffers = Buffers()
    for look in (True, False):  # the second time in the buffers that the first left
        found = fitting.gradient(rnn, *batch, args, buffers, forcing, 0.3, look=look)
        if look:
            torch.testing.assert_close(found, expected.detach())
        for p, gradient in zip((rnn.W, rnn.W_in, rnn.b), gradients, strict=True):
            torch.testing.assert_close(p.grad, gradient)
    if forcing == 1:  # the same thing without a loop
        held = fitting.gradient(rnn, *batch, args, Buffers(), drive_penalty=0.3, held=True)
        torch.testing.assert_close(held, expected.detach())
        for p, gradient in zip((rnn.W, rnn.W_in, rnn.b), gradients, strict=True):
            torch.testing.assert_close(p.grad, gradient)


def test_training_gradient_of_replicas_is_that_of_each(window, options):
    args = options(warmup=2, window=7, batch=5)
    models = [RNN(4, 3, 1, 0.3, 1.0, torch.Generator().manual_seed(k)).double() for k in range(3)]
    batch = [window["v"], window["u_response"], window["u_response"] ** 2, window["stimulus"]]
    whole = RNN.stack(models)
    losses = fitting.gradient(whole, *(torch.stack([x] * 3, 1) for x in batch), args, Buffers(), 0.1, 0.3)
    for k, one in enumerate(models):
        torch.testing.assert_close(losses[k], fitting.gradient(one, *batch, args, Buffers(), 0.1, 0.3))
        for p, alone in zip(whole.parameters(), one.parameters(), strict=True):
            torch.testing.assert_close(p.grad[k], alone.grad)


def test_matching_loss_has_the_gradient_it_is_named_for():
    a = torch.linspace(-2, 2, 24, dtype=torch.float64).view(2, 3, 4).requires_grad_()
    r = torch.rand(2, 3, 4, dtype=torch.float64)
    fitting.window_loss(a, r).backward()
    torch.testing.assert_close(a.grad, (phi(a) - r).detach() / a.numel())


def test_silence_below_threshold():
    assert phi(torch.tensor(-1.0)) == 0
    assert phi(torch.tensor(0.5)) == pytest.approx(np.tanh(0.5))
