"""The next experiment: its standard errors come true, its pulses spare the bump, and what cannot be used is refused."""

import numpy as np
import pytest
import torch

import cann
from nsi import design, recordings
from nsi.errors import BadInput
from nsi.estimation import estimate
from nsi.recordings import Recording
from nsi.run import checkpoint
from nsi.simulation import stimulation
from nsi.simulation.circuits import ring
from nsi.simulation.stimulation import Pulses
from tests.tools import GOOD, call

N = 24
OFF = ~np.eye(N, dtype=bool)
PLAN = Pulses(4.0, 0.2, 0.4, 0.5, True)
FEW = [Pulses(3.0, 0.2, 0.3, 0.5, True), PLAN, Pulses(12.0, 0.1, 0.5, 0.5, True)]


@pytest.fixture(scope="module")
def circuit():
    return ring(N, N // 2)


@pytest.fixture(scope="module")
def data(circuit):
    return cann.simulate_recording(circuit, seed=1, trials=20, steps=300)


@pytest.fixture(scope="module")
def fitted(circuit):
    """The circuit itself in the place of a fit."""
    net = circuit.network
    return net._replace(W=np.float32(net.W), W_in=np.float32(net.W_in), b=np.float32(net.b))


@pytest.fixture(scope="module")
def pilot(fitted, rec):
    return design.PilotExperiment(fitted, rec, trials=20, steps=400)


@pytest.fixture(scope="module")
def tried(pilot):
    return list(design.choose(pilot, plans=FEW))


def test_pilot_estimates_its_noise(pilot):
    assert pilot.noise == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("plan", [design.RANDOM, PLAN], ids=["random", "spread"])
def test_expected_standard_errors_are_those_reached(plan, pilot, circuit):
    """Those of the estimate, on a recording with other velocities and noise."""
    stimulus = pilot.draw(plan)
    data = cann.simulate_recording(circuit, seed=7, trials=20, steps=400, amplitude=stimulus[:20])
    played = Recording(data["rates"], data["velocity"], data["dt"], None, data["tau"], data["stimulus"])
    reached = estimate(played, calibrated=False).W_se
    rates = pilot.run(stimulus)
    expected = pilot.standard_errors(rates, stimulus)
    assert np.median((reached / expected)[OFF]) == pytest.approx(1, abs=0.25)


def test_twice_the_trials_have_standard_errors_root_two_smaller_or_less(fitted, rec):
    few, many = (design.PilotExperiment(fitted, rec, trials, steps=300).expect(PLAN).median for trials in (10, 20))
    assert 1.3 < few / many < 3  # with few patterns of pulses, weights go together


def test_recommended_plan_keeps_to_the_disturbance_and_has_smaller_errors(tried, pilot):
    random = tried[0][1]
    plan, expected = design.best(tried, random.disturbance)
    assert expected.disturbance <= random.disturbance
    assert expected.stronger <= design.MAX_DISTURBANCE_RATIO * random.disturbance
    assert expected.median < random.median / np.sqrt(2)  # half the trials
    assert tried[-1][1].disturbance > 1  # the bump is lost
    assert tried[-1][1].se is None
    none = pilot.disturbance(pilot.run())
    assert none == pytest.approx(0, abs=1e-6)
    assert plan.weakest * plan.amplitude == pilot.draw(plan)[pilot.draw(plan) > 0].min().round(1)


def test_a_disturbance_that_no_plan_keeps_to_is_refused(tried):
    with pytest.raises(BadInput, match=r"further than 0\.001 rad"):
        design.best(tried, 0.001)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.7])
def test_spread_pulses_leave_no_side_out(share):
    order = np.random.default_rng(0).permutation(40)
    chosen = stimulation.choose_spread(np.random.default_rng(1), 500, order, share)
    assert (chosen.sum(1) == 40 * share).all()
    assert np.abs(chosen.mean(0) - share).max() < 0.1
    side = np.exp(2j * np.pi * np.arange(40) / 40)
    any_ = np.random.default_rng(1).random((500, 40)) < share
    torque = lambda chosen: np.abs(chosen[:, order] @ side).mean()
    assert torque(chosen) < torque(any_) / 2


# ---- the command ------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(fitted, data, save, tmp_path):
    """A finished run, of the circuit itself, and its recording."""
    path = save({k: data[k] for k in ("rates", "velocity", "dt", "tau")}, "pilot.npz")
    return finished(fitted, path, tmp_path), path


def finished(net, path, tmp_path):
    """The folder of a run that has fitted a network to a recording."""
    options = {"alpha": 0.2, "control": False, "input_units": N, "data": path.name}
    options["data_sha256"] = recordings.digest(recordings.load(path))
    weights = {k: torch.as_tensor(getattr(net, k))[None] for k in checkpoint.NAMES}
    checkpoint.write(tmp_path / "run" / "model.pt", weights, options, {"updates": 1})
    return tmp_path / "run"


def test_command_writes_a_stimulus_that_the_simulator_plays(folder, circuit, tmp_path, monkeypatch, capsys):
    run, path = folder
    monkeypatch.setattr(design, "candidates", lambda depth: FEW[:2])
    monkeypatch.setitem(cann.CIRCUITS, "ring", lambda: circuit)
    options = run, "--data", path, "--trials", 4, "--steps", 300
    monkeypatch.setattr("sys.argv", ["design.py", *map(str, options)])
    design.main()
    out, warned = capsys.readouterr()
    assert "without pulses" in warned  # the pilot was passive
    assert warned.count("\n") == 1
    last = out.splitlines()[-1]
    assert last.startswith("to use it: ")
    assert f"python cann.py --stimulus {run / 'stimulus.npz'} --trials 4 --steps 300" in last
    out, more = tmp_path / "next.npz", ["--trials", 4, "--steps", 300]
    assert call(cann, monkeypatch, capsys, "--out", out, "--stimulus", run / "stimulus.npz", *more) == (0, "")
    with np.load(run / "stimulus.npz") as file:
        np.testing.assert_array_equal(recordings.load(out).stimulus, file["stimulus"])
    status, error = call(cann, monkeypatch, capsys, "--out", out, "--stimulus", run / "stimulus.npz", "--trials", 5)
    assert status == 2
    assert "stimulus has shape (4, 300, 24)" in error
    assert "expected numbers of shape (5, 1000, 24)" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--trials", 0], "--trials: expected a whole number of at least 1"),
        (["--disturbance", 0], "--disturbance: expected a number above 0"),
        (["--out", "next.txt"], "--out: expected a name that ends in .npz"),
        ([], "give --data FILE"),
    ],
)
def test_what_cannot_be_used_is_reported(folder, arguments, expected, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    status, error = call(design, monkeypatch, capsys, folder[0], *arguments)
    assert status == 2
    assert expected in error
    assert error.count("\n") == 1


def test_a_fit_that_does_not_follow_its_recording_is_refused(fitted, data, save, tmp_path, monkeypatch, capsys):
    still = fitted._replace(W_in=np.zeros_like(fitted.W_in))
    run = finished(still, save({k: data[k] for k in ("rates", "velocity", "dt")}), tmp_path)
    status, error = call(design, monkeypatch, capsys, run, "--data", tmp_path / "mine.npz")
    assert status == 2
    assert "expected a fit that follows its recording" in error
    assert error.count("\n") == 1
    assert not (run / "stimulus.npz").exists()


def test_another_recording_is_refused(folder, save, monkeypatch, capsys):
    status, error = call(design, monkeypatch, capsys, folder[0], "--data", save(GOOD))
    assert status == 2
    assert "is not the recording" in error


@pytest.mark.parametrize(
    ("dt", "says"), [(0.025, "dt is 0.025 s; expected the circuit's, 0.01 s"), ([0.01], "of shape")]
)
def test_a_stimulus_of_another_time_step_is_refused(dt, says, save, circuit, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(cann.CIRCUITS, "ring", lambda: circuit)
    path = save({"stimulus": np.ones((2, 60, N)), "dt": dt})
    out = tmp_path / "new" / "next.npz"
    status, error = call(cann, monkeypatch, capsys, "--stimulus", path, "--trials", 2, "--steps", 60, "--out", out)
    assert status == 2
    assert says in error
    assert error.count("\n") == 1
    assert not out.parent.exists()


@pytest.mark.parametrize("text", ["-1", "loud", "stimulus.txt"])
def test_stimulus_that_is_neither_number_nor_file(text, monkeypatch, capsys):
    status, error = call(cann, monkeypatch, capsys, "--stimulus", text)
    assert status == 2
    assert "--stimulus: expected" in error


def test_stimulus_file_without_stimulus(save, monkeypatch, capsys):
    status, error = call(cann, monkeypatch, capsys, "--stimulus", save(GOOD))
    assert status == 2
    assert "has no key 'stimulus'" in error
