"""What a network predicts: against its truth, against padding, and beside predictions without a network."""

import numpy as np
import pytest

from nsi.estimation import estimate
from nsi.evaluation import prediction
from nsi.geometry import RING
from nsi.network import Network, predict
from nsi.recordings import Recording
from nsi.recordings.turning import measure_turning


@pytest.fixture(scope="module")
def truth(data):
    """The network that made the data."""
    return Network(*(np.float32(data[k]) for k in ("true_W", "true_W_in", "true_b")), 0.2, 40)


def test_loss_of_the_truth_is_the_noise_floor(truth, rec):
    """The network that made the data predicts them better than any fit of a few updates."""
    assert truth.W_in.shape == (1, 80)
    error = prediction.window_error(truth, rec, 30, 20)
    assert error < 5e-4
    wrong = truth._replace(W=truth.W * np.float32(0.9))
    assert prediction.window_error(wrong, rec, 30, 20) > 2 * error
    errors = prediction.heading_error(truth, rec, RING, RING.find(rec.rates), seconds=2.0)
    assert errors.shape == (4, 20)  # 300 steps: starts a fifth of a second apart, 220 steps needed
    assert errors.mean() < 0.03


def test_padding_changes_nothing(rec, fit):
    """Measures of trials cut to unequal lengths and padded, against those of the cut trials by themselves."""
    lengths = np.where(np.arange(20) % 2, 300, 200)
    padded = Recording(*(a * (np.arange(300) < lengths[:, None])[..., None] for a in (rec.rates, rec.velocity)), rec.dt)
    padded.lengths = lengths
    halves = [Recording(rec.rates[k::2, :n], rec.velocity[k::2, :n], rec.dt) for k, n in ((0, 200), (1, 300))]
    found, places = fit(padded, updates=40).networks()[0], RING.places(40)
    wrong = prediction.heading_error(found, padded, RING, places, seconds=1.0)
    apart = [prediction.heading_error(found, half, RING, places, seconds=1.0) for half in halves]
    np.testing.assert_allclose(wrong[: len(apart[0]), ::2], apart[0], atol=1e-5)
    assert np.isnan(wrong[len(apart[0]) :, ::2]).all()
    np.testing.assert_allclose(wrong[:, 1::2], apart[1], atol=1e-5)
    errors = [prediction.window_error(found, half, 5, 45) for half in halves]
    assert prediction.window_error(found, padded, 5, 45) == pytest.approx(np.average(errors, weights=[4, 6]), rel=1e-5)
    garbage = Recording(padded.rates + ~padded.valid[..., None], padded.velocity, rec.dt, lengths=lengths)
    one, two = (estimate(r, alpha=0.2, calibrated=False).arrays() for r in (padded, garbage))
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])
    tables = [prediction.heading_table(found, r, RING, places) for r in (padded, garbage)]
    assert tables[0] == tables[1]


def test_five_seconds_are_five_seconds(truth, rec):
    """Whatever the time step, a free run of some seconds ends at that time; in trials too short there is none."""
    slow = Recording(rec.rates, rec.velocity, 0.1)  # 30 s a trial
    for seconds, steps in ((5.0, 50), (0.5, 5)):
        found = prediction.heading_error(truth, slow, RING, RING.places(40), seconds)
        free = predict(truth, slow, 20, 0, 21 + steps)[:, -1, :40]
        expected = RING.distance(*(RING.decode(r, RING.places(40)) for r in (free, slow.rates[:, 20 + steps])))
        np.testing.assert_allclose(found[0], expected, atol=1e-6)
    assert prediction.heading_error(truth, rec, RING, RING.places(40), 5.0).size == 0  # trials of 3 s


def test_heading_table_has_predictions_without_a_network(truth, rec):
    table = prediction.heading_table(truth, rec, RING, RING.places(40))
    assert list(table) == ["0.25", "0.5", "1", "2", "5"]
    assert table["5"] == {"error": None, "integrator": None, "stay": None, "samples": 0}  # trials of 3 s
    for seconds in ("0.25", "0.5", "1", "2"):
        row = table[seconds]
        assert row["samples"] > 20
        assert row["error"] < 0.05
        assert row["integrator"] < row["stay"]
    assert table["0.25"]["stay"] < table["1"]["stay"]
    assert table["0.25"]["samples"] > table["2"]["samples"]


def test_an_interval_over_trials_holds_the_mean_in_95_of_100_cases():
    """Of samples that go together within a trial, of which trials have unlike numbers."""
    rng, covered = np.random.default_rng(0), []
    for _ in range(1000):
        x = 0.3 + 0.5 * rng.standard_normal(8) + 0.2 * rng.standard_normal((6, 8))
        x[rng.integers(2, 6) :, :4] = np.nan
        low, high = prediction.interval_over_trials(x)
        covered.append(low < 0.3 < high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.025)
    assert prediction.interval_over_trials(np.where(np.arange(8) < 2, x, np.nan)) is None


def test_heading_differences_are_of_the_table(truth, rec):
    table, differences = prediction.heading_scores(truth, rec, RING, RING.places(40))
    assert table == prediction.heading_table(truth, rec, RING, RING.places(40))
    assert differences["5"] == {"integrator": None, "stay": None, "trials": 0}
    for seconds in ("0.25", "0.5", "1", "2"):
        row, interval = table[seconds], differences[seconds]["stay"]
        assert interval[0] < row["error"] - row["stay"] < interval[1] < 0
        assert np.mean(interval) == pytest.approx(row["error"] - row["stay"])
        assert differences[seconds]["trials"] == len(rec.rates)


def moving(gain=0.9, lag=2):
    """A recording whose bump turns with `gain` of the velocity, `lag` steps late."""
    rng = np.random.default_rng(0)
    v = np.repeat(rng.normal(0, 1.5, (6, 60)), 5, axis=1)
    moved = gain * 0.02 * np.cumsum(np.roll(v, lag, 1), 1) + rng.uniform(0, 6, (6, 1))
    rates = np.exp(2 * np.cos(moved[..., None] - RING.places(16)[:, 0]) - 2).astype(np.float32)
    return Recording(rates, v[..., None].astype(np.float32), 0.02)


@pytest.mark.parametrize(("gain", "lag"), [(0.9, 3), (-0.5, 1), (1.0, 6)])
def test_turning_finds_gain_and_lag_of_the_activity(gain, lag):
    """Activity at step t + 1 minus step t is moved by the velocity of step t + 1 - lag."""
    found = measure_turning(moving(gain, lag), RING, RING.places(16))
    assert found["slope"] == pytest.approx(gain, abs=0.01)
    assert found["r"] == pytest.approx(np.sign(gain), abs=0.01)
    assert found["lag"] == pytest.approx((lag - 1) * 0.02)


def test_turning_is_none_of_activity_that_stays():
    still = moving(gain=0)
    assert measure_turning(still, RING, RING.places(16)) == {"slope": None, "r": None, "lag": None} or (
        abs(measure_turning(still, RING, RING.places(16))["slope"]) < 1e-3
    )
    unrelated = moving()
    unrelated.velocity = np.roll(unrelated.velocity, 1, 0)
    assert abs(measure_turning(unrelated, RING, RING.places(16))["slope"]) < 0.3


def test_silence_has_no_angle_and_is_left_out(truth, rec):
    """Trials that are silent after 2 s are scored as those that end there, not as those that stay at angle 0."""
    assert np.isnan(RING.decode(np.zeros((2, 40)), RING.places(40))).all()
    early = np.arange(300) < 200
    silent = Recording(rec.rates * early[:, None], rec.velocity, rec.dt)
    ended = Recording(silent.rates, rec.velocity * early[:, None], rec.dt, lengths=np.full(20, 200))
    places = RING.places(40)
    tables = [prediction.heading_table(truth, r, RING, places) for r in (silent, ended)]
    assert tables[0]["1"]["samples"] == tables[1]["1"]["samples"] == 2 * 20
    for k, v in tables[1]["1"].items():
        assert tables[0]["1"][k] == pytest.approx(v, abs=1e-6)
    assert tables[0]["5"]["error"] is None
    nobody = truth._replace(W=0 * truth.W, W_in=0 * truth.W_in, b=truth.b - 1)  # a network that falls silent
    assert prediction.heading_table(nobody, rec, RING, places)["1"]["error"] == pytest.approx(np.pi / 2, abs=0.4)


def test_turning_is_found_at_any_lag_and_in_any_unit():
    for gain, lag in ((0.9, 2), (0.9, -10), (np.pi / 180, 0)):
        recording = moving(gain, lag)
        found = measure_turning(recording, RING, RING.places(16))
        assert found["slope"] == pytest.approx(gain, rel=0.05)
        assert found["r"] > 0.97
        assert found["lag"] == pytest.approx(0.02 * lag, abs=0.021)
        assert "heading" not in found
    recording.heading = RING.decode(recording.rates, RING.places(16))
    assert measure_turning(recording, RING, RING.places(16))["heading"]["slope"] == pytest.approx(gain, rel=0.05)
    recording.velocity = np.ones_like(recording.velocity)
    assert measure_turning(recording, RING, RING.places(16)) == {"slope": None, "r": None, "lag": None}
