"""Recordings changed: velocity of other trials, and neurons placed by the heading that is given."""

import numpy as np
import pytest

from nsi import geometry, recordings
from nsi.errors import BadInput
from nsi.geometry import RING
from nsi.recordings import Recording


def recording_of(lengths, steps=60):
    """Velocities (trials, steps, 1) that say which trial and step they are of."""
    trials = len(lengths)
    velocity = (np.arange(trials)[:, None] * 1000 + np.arange(steps) + 1)[..., None].astype(np.float32)
    velocity[np.arange(steps) >= np.array(lengths)[:, None]] = 0
    return Recording(np.ones((trials, steps, 3), np.float32), velocity, 0.01, lengths=np.array(lengths))


@pytest.mark.parametrize("lengths", [[60] * 5, [60, 20, 40, 30, 50], [60, 20]])
def test_shuffled_velocity_is_of_other_trials(lengths):
    rec = recording_of(lengths)
    shuffled = recordings.shuffled(rec, seed=0)
    sources = np.where(shuffled.velocity > 0, shuffled.velocity // 1000, np.nan)[..., 0]
    for k, length in enumerate(lengths):
        assert not (sources[k] == k).any()
        assert np.isfinite(sources[k]).sum() == min(length, sum(lengths) - length)
    if len(set(lengths)) == 1:
        assert sorted(sources[:, 0]) == list(range(5))  # each is used once, and whole
        assert (sources == sources[:, :1]).all()
    assert np.array_equal(recordings.shuffled(rec, 0).velocity, shuffled.velocity)
    assert len(lengths) < 3 or not np.array_equal(recordings.shuffled(rec, 1).velocity, shuffled.velocity)
    assert shuffled.rates is rec.rates


def test_shuffled_velocity_of_one_trial_is_of_another_time():
    rec = recording_of([50])
    velocity = recordings.shuffled(rec, 0).velocity[0, :, 0]
    assert velocity[:50].tolist() == [*range(26, 51), *range(1, 26)]
    assert not velocity[50:].any()


def test_unevenly_tuned_neurons_are_placed_by_the_heading():
    """Nineteen neurons, most on one side, of widths and rates as a mouse's differ."""
    rng = np.random.default_rng(0)
    preferred = np.r_[rng.normal(1, 0.4, 12), rng.uniform(-np.pi, np.pi, 7)]
    v = np.repeat(rng.normal(0, 1.5, (10, 60)), 5, axis=1)
    heading = 0.02 * np.cumsum(v, 1)[..., None] + rng.uniform(0, 6, (10, 1, 1))
    rates = rng.uniform(0.2, 1, 19) * np.exp(rng.uniform(1, 6, 19) * (np.cos(heading - preferred) - 1))
    rec = Recording(rates.astype(np.float32), v[..., None], 0.02, heading=heading)
    places = geometry.places_of(rec, RING)
    assert RING.distance(places, preferred[:, None]).mean() < 0.1
    assert RING.distance(RING.find(rates), preferred[:, None]).mean() > 0.5
    rec.heading = None
    assert np.array_equal(geometry.places_of(rec, RING), RING.find(rec.rates))


def test_evenly_tuned_neurons_keep_their_places(rec):
    assert np.array_equal(geometry.places_of(rec, RING), RING.places(40))
    turned = Recording(rec.rates[..., ::-1], rec.velocity, rec.dt, heading=rec.heading)  # clockwise
    places = geometry.places_of(turned, RING)
    assert geometry.decoding_error(turned, RING, places) < 0.05
    assert sorted(np.round(places[:, 0] * 40 / 2 / np.pi).astype(int) % 40) == list(range(40))


def test_two_components_have_one_heading(data, save):
    velocity = np.concatenate([data["velocity"], 0 * data["velocity"]], -1)
    more = {"velocity": velocity, "true_W_in": None, "true_gate": None}
    assert recordings.load(save(data, **more)).heading.shape == (20, 300, 1)
    both = recordings.load(save(data, **more, heading=np.repeat(data["heading"], 2, -1)))
    assert both.heading.shape == (20, 300, 2)
    with pytest.raises(recordings.BadInput, match="heading has shape"):
        recordings.load(save(data, **more, heading=np.repeat(data["heading"], 3, -1)))


def test_neurons_that_a_trial_did_not_record_are_missing(data, save):
    recorded = np.ones((20, 40), int)
    recorded[:10, 7] = 0
    rates = data["rates"].copy()
    rates[:10, :, 7] = np.nan
    rec = recordings.load(save(data, rates=rates, recorded=recorded))
    assert (np.isfinite(rec.rates).all(1) == recorded).all()
    assert np.isfinite(recordings.load(save(data, recorded=np.ones((20, 40)))).rates).all()
    rates[12, 3, 7] = np.inf
    for wrong, said in (({"rates": rates, "recorded": recorded}, "trial 12, step 3"),
                        ({"recorded": recorded[5:]}, "recorded has shape"),
                        ({"recorded": 2 * recorded}, "other than 0"), ({"recorded": 0 * recorded}, "without any"),
                        ):  # fmt: skip
        with pytest.raises(BadInput, match=said):
            recordings.load(save(data, **wrong))
