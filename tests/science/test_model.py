"""The fitted network against independent implementations of its equation and of its gradient."""

import numpy as np
import pytest
import torch

from model import RNN
from nsi import response
from nsi.network import predict, synaptic_state
from nsi.recordings import Recording
from nsi.training import bptt, losses


def network(replicas=1, n_input=3, n_velocity=1):
    generators = [torch.Generator().manual_seed(k) for k in range(replicas)]
    return RNN(4, n_input, n_velocity, alpha=0.3, init_scale=1.0, generators=generators).double()


@pytest.fixture
def rnn():
    return network()


@pytest.fixture
def window():
    """Nine steps of five windows, without a replica axis."""
    g = torch.Generator().manual_seed(1)
    make = lambda *shape: torch.rand(*shape, generator=g, dtype=torch.float64)
    return {"v": make(9, 5, 1) * 2 - 1, "u_recorded": make(9, 5, 4), "stimulus": make(9, 5, 4)}


def stacked(window, replicas=1):
    """The same windows for each replica."""
    return {k: torch.stack([x] * replicas, 1) for k, x in window.items()}


def test_step_against_numpy(rnn, window):
    rnn.b.data.uniform_(-0.1, 0.2, generator=torch.Generator().manual_seed(2))
    W, W_in, b = (p.detach().numpy()[0] for p in (rnn.W, rnn.W_in, rnn.b))
    u, v, stimulus = np.random.default_rng(0).random((5, 7)), window["v"][0].numpy(), window["stimulus"][0].numpy()
    expected, current = np.empty((5, 7)), np.empty((5, 7))
    for k in range(5):
        for j in range(7):
            x = sum(u[k, i] * W[i, j] for i in range(7)) + b[j]
            x += v[k, 0] * W_in[0, j] if j >= 4 else stimulus[k, j]
            current[k, j], expected[k, j] = x, max(0, np.tanh(x))
    a, r, after = rnn.step(torch.tensor(u)[None], window["v"][0][None], window["stimulus"][0][None])
    np.testing.assert_allclose(a[0].detach(), current, atol=1e-12)
    np.testing.assert_allclose(r[0].detach(), expected, atol=1e-12)
    np.testing.assert_allclose(after[0].detach(), u + 0.3 * (expected - u), atol=1e-12)


@pytest.mark.parametrize("forcing", [0.0, 0.25])
def test_forward_is_step_repeated(rnn, window, forcing):
    window = stacked(window)
    a, state = rnn(**window, warmup=2, forcing=forcing)
    u = torch.cat([window["u_recorded"][0], torch.zeros(1, 5, 3, dtype=torch.float64)], -1)
    for t in range(9):
        torch.testing.assert_close(state[t], u)
        current, r, u = rnn.step(u, window["v"][t], window["stimulus"][t])
        torch.testing.assert_close(a[t], current)
        torch.testing.assert_close(losses.rate(a[t]), r)
        if t < 8:
            pull = 1.0 if t < 2 else forcing
            u = torch.cat([u[..., :4] + pull * (window["u_recorded"][t + 1] - u[..., :4]), u[..., 4:]], -1)


@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize("forcing", [0.0, 0.25])
@pytest.mark.parametrize("replicas", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_forward_against_finite_differences(window, warmup, forcing, replicas):
    rnn, inputs = network(replicas), stacked({k: x[:, :2] for k, x in window.items()}, replicas)

    def run(W, W_in, b):
        more = {"warmup": warmup, "forcing": forcing}
        return torch.func.functional_call(rnn, {"W": W, "W_in": W_in, "b": b}, (), inputs | more)

    assert torch.autograd.gradcheck(run, (rnn.W, rnn.W_in, rnn.b))


@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize("forcing", [0.0, 0.25])
@pytest.mark.parametrize("replicas", [1, 2])
def test_fast_loop_is_the_plain_one_and_its_gradient_that_of_autograd(window, warmup, forcing, replicas):
    """bptt.unroll against RNN.forward, and unroll_backward for any loss of currents and states."""
    rnn, window = network(replicas), stacked(window, replicas)
    a, u = rnn(**window, warmup=warmup, forcing=forcing)
    g = torch.Generator().manual_seed(7)
    to_a, to_u = (torch.randn(x.shape, generator=g, dtype=torch.float64) for x in (a, u))
    (expected,) = torch.autograd.grad((to_a * a).sum() + (to_u * u).sum(), rnn.W)
    with torch.no_grad():
        W, two_a = rnn.W, 2 * (window["v"] @ rnn.W_in + rnn.b.unsqueeze(-2))
        two_a[..., :4] += 2 * window["stimulus"]
        along = bptt.Forcing(4, warmup, forcing), 0.3, bptt.Buffers()
        s, states = bptt.unroll(W, two_a, window["u_recorded"], *along)
        torch.testing.assert_close(two_a / 2, a.detach())
        torch.testing.assert_close(2 * s - 1, losses.rate(a.detach()))
        torch.testing.assert_close(states, u.detach())
        found = bptt.unroll_backward(to_a.clone(), to_u, W, (s, states), *along)
    torch.testing.assert_close(found, expected)


def test_replicas_know_nothing_of_each_other(window):
    three = network(3)
    a, u = three(**stacked(window, 3), warmup=2)
    for k in range(3):
        one = network()
        for mine, theirs in zip(one.parameters(), three.parameters(), strict=True):
            mine.data.copy_(theirs.data[k : k + 1])
        alone = one(**stacked(window), warmup=2)
        torch.testing.assert_close(a[:, k], alone[0][:, 0])
        torch.testing.assert_close(u[:, k], alone[1][:, 0])
    first = network()
    torch.testing.assert_close(three.W[0], first.W[0])  # and each starts where it would alone
    torch.testing.assert_close(three.W_in[0], first.W_in[0])


def test_velocity_reaches_the_input_units_only(rnn, window):
    window = stacked(window)
    v = window["v"].clone().requires_grad_()
    a, _ = rnn(v, window["u_recorded"], warmup=8)
    (to_response,) = torch.autograd.grad(a[:1, ..., :4].sum(), v, retain_graph=True)
    assert to_response.abs().max() == 0
    (to_input,) = torch.autograd.grad(a[0, ..., 4:].sum(), v)
    torch.testing.assert_close(to_input[0, 0], rnn.W_in.sum().expand(5, 1))
    assert (rnn.W_in[..., :4] == 0).all()
    assert (rnn.W_in[..., 4:] != 0).all()
    control = RNN(4, 0, 2)  # into the response units
    assert control.W_in.shape == (1, 2, 4)
    assert (control.W_in != 0).all()


def test_stimulus_reaches_the_response_units():
    rnn = RNN(40, 10, 1, 0.2, 1.0, (torch.Generator().manual_seed(0),))
    stimulus, u, v = torch.rand(1, 3, 40), torch.zeros(1, 3, 50), torch.zeros(1, 3, 1)
    gained = rnn.step(u, v, stimulus)[0] - rnn.step(u, v)[0]
    torch.testing.assert_close(gained, torch.cat([stimulus, torch.zeros(1, 3, 10)], -1))


def test_prediction_runs_the_same_network(rec):
    rnn = RNN(40, 10, 1, rec.dt / rec.tau, 1.0, (torch.Generator().manual_seed(0),))
    some = Recording(rec.rates[:2, :60], rec.velocity[:2, :60], rec.dt)
    u = synaptic_state(some.rates, rnn.alpha)
    a, _ = rnn(*(torch.tensor(x).swapaxes(0, 1).unsqueeze(1) for x in (some.velocity, u)), warmup=5)
    rates = predict(rnn.networks()[0], some, warmup=5)
    np.testing.assert_allclose(rates.swapaxes(0, 1), losses.rate(a[:, 0]).detach(), atol=2e-5)


def by_steps(rnn, v, u, r, stimulus, warmup, forcing, penalty, loss):
    """The loss, written out with the network's own step; one replica."""
    n, value = rnn.n_response, 0.0
    state = torch.cat([u[0], torch.zeros(*u.shape[1:-1], rnn.b.shape[-1] - n, dtype=u.dtype)], -1)
    for t in range(len(v)):
        a, _, after = rnn.step(state, v[t], stimulus[t])
        if t >= warmup:
            a = a[..., :n]
            error = (losses.rate(a) - r[t]).square()
            if loss == "matching":
                error = torch.log(torch.cosh(a.clamp(min=0))) - a * r[t]
            drive = state[..., n:] @ rnn.W[..., n:, :n]
            value = value + (error + penalty * drive.square()).mean() / (len(v) - warmup)
        if t + 1 < len(v):
            pull = 1.0 if t < warmup else forcing
            state = torch.cat([after[..., :n] + pull * (u[t + 1] - after[..., :n]), after[..., n:]], -1)
    return value


def batch_of(window, replicas=1):
    """Velocity, state, rates and stimulus."""
    r = torch.rand(9, 5, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    window = stacked(window | {"r": r}, replicas)
    return window["v"], window["u_recorded"], window["r"], window["stimulus"]


@pytest.mark.parametrize("loss", ["matching", "mse"])
@pytest.mark.parametrize("forcing", [0.0, 0.25, 1.0])
def test_training_gradient_against_autograd(rnn, window, loss, forcing):
    batch = batch_of(window)
    expected = by_steps(rnn, *batch, 2, forcing, 0.3, loss)
    torch.testing.assert_close(rnn.loss(batch, warmup=2, forcing=forcing, penalty=0.3, kind=loss)[0], expected)
    W, W_in, b = torch.autograd.grad(expected, rnn.weights)
    gradients = W, W_in * (torch.arange(7) >= 4), b
    buffers, objective = bptt.Buffers(), bptt.Objective(4, 0.3, 2, rnn.driven.double(), loss=loss)
    for log in (True, False):  # the second time in the buffers that the first left
        value, found = bptt.gradient(rnn.weights, batch, objective, forcing, 0.3, log, buffers)
        assert log == (value is not None)
        if log:
            torch.testing.assert_close(value[0], expected.detach())
        for mine, theirs in zip(found, gradients, strict=True):
            torch.testing.assert_close(mine, theirs)
    if forcing == 1:  # the same thing without a loop
        value, found = bptt.gradient(rnn.weights, batch, objective._replace(clamped=True), penalty=0.3)
        torch.testing.assert_close(value[0], expected.detach())
        for mine, theirs in zip(found, gradients, strict=True):
            torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("forcing", [0.0, 0.1])
@pytest.mark.parametrize("control", [False, True])
def test_training_gradient_in_single_precision_is_that_of_the_plain_loop(rec, windows, forcing, control):
    """As a fit runs it: float32, windows of a recording, penalty or none; to 1e-5 of the largest gradient."""
    seeds = (0, 1)
    rnn = RNN(40, 0 if control else 20, 1, 0.2, 1.0, [torch.Generator().manual_seed(k) for k in seeds])
    some = windows(rec, seeds=seeds)
    batch, penalty = some.at(some.draw()), None if control else 0.003
    plain = rnn.loss(batch, warmup=some.warmup, forcing=forcing, penalty=penalty or 0.0)
    W, W_in, b = torch.autograd.grad(plain.sum(), rnn.weights)
    objective = bptt.Objective(40, 0.2, some.warmup, rnn.driven)
    loss, found = bptt.gradient(rnn.weights, batch, objective, forcing, penalty)
    torch.testing.assert_close(loss, plain.detach(), atol=1e-5, rtol=1e-5)
    for mine, theirs in zip(found, (W, W_in * rnn.driven, b), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5 * theirs.abs().max().item(), rtol=1e-5)


@pytest.mark.parametrize("loss", ["matching", "mse"])
@pytest.mark.parametrize("penalty", [None, 0.3])
@pytest.mark.parametrize(("forcing", "clamped"), [(0.0, False), (0.25, False), (0.0, True)])
def test_training_gradient_against_finite_differences(rnn, window, loss, penalty, forcing, clamped):
    """Central differences of the loss that `gradient` itself reports, weight by weight."""
    weights, batch = [p.detach().clone() for p in rnn.weights], batch_of(window)
    settings = bptt.Objective(4, 0.3, 2, loss=loss, clamped=clamped), forcing, penalty
    value = lambda: bptt.gradient(weights, batch, *settings)[0].item()
    _, found = bptt.gradient(weights, batch, *settings)
    for p, mine in zip(weights, found, strict=True):
        numerical = torch.empty_like(p)
        for k in range(p.numel()):
            at = p.view(-1)[k].item()
            p.view(-1)[k] = at + 1e-6
            above = value()
            p.view(-1)[k] = at - 1e-6
            numerical.view(-1)[k] = (above - value()) / 2e-6
            p.view(-1)[k] = at
        torch.testing.assert_close(mine, numerical, atol=1e-8, rtol=1e-5)


def test_gradient_leaves_alone_what_the_velocity_may_not_enter(rnn, window):
    _, (_, W_in, _) = bptt.gradient(rnn.weights, batch_of(window), bptt.Objective(4, 0.3, 2, rnn.driven.double()))
    assert (W_in[..., :4] == 0).all()
    assert (W_in[..., 4:] != 0).any()


def test_training_gradient_of_replicas_is_that_of_each(window):
    rnn, batch = network(3), batch_of(window, 3)
    settings = bptt.Objective(4, 0.3, 2), 0.1, 0.3
    losses, found = bptt.gradient(rnn.weights, batch, *settings)
    for k in range(3):
        one, its_batch = [p[k] for p in rnn.weights], [x[:, k] for x in batch]  # without a replica axis
        loss, alone = bptt.gradient(one, its_batch, *settings)
        torch.testing.assert_close(losses[k], loss)
        for mine, theirs in zip(found, alone, strict=True):
            torch.testing.assert_close(mine[k], theirs)


def test_matching_loss_has_the_gradient_it_is_named_for():
    a = torch.linspace(-2, 2, 24, dtype=torch.float64).view(2, 3, 4).requires_grad_()
    r = torch.rand(2, 3, 4, dtype=torch.float64)
    losses.matching(a, r).sum().backward()
    torch.testing.assert_close(a.grad, (losses.rate(a) - r).detach())
    expected = torch.log(torch.cosh(a.clamp(min=0))) - a * r
    torch.testing.assert_close(losses.matching(a, r), expected)


def test_response_function_and_its_twins():
    x = np.linspace(-2, 2, 41)
    r = response.phi(x)
    np.testing.assert_allclose(r, [max(0, np.tanh(a)) for a in x])
    t = torch.tensor(x, requires_grad=True)
    np.testing.assert_allclose(losses.rate(t).detach(), r)
    np.testing.assert_allclose(2 * losses.half_rate(2 * t.detach(), torch.empty_like(t)) - 1, r, atol=1e-15)
    active = np.abs(x) > 1e-9  # at 0 there is none
    numerical = (response.phi(x + 1e-6) - response.phi(x - 1e-6)) / 2e-6
    np.testing.assert_allclose(response.slope(r)[active], numerical[active], atol=1e-8)
    slopes = losses.slope(torch.tensor(1 + r) / 2, torch.empty(41).double())
    np.testing.assert_allclose(slopes[active], numerical[active], atol=1e-7)


def test_silence_below_threshold():
    assert losses.rate(torch.tensor(-1.0)) == 0
    assert losses.rate(torch.tensor(0.5)) == pytest.approx(np.tanh(0.5))
