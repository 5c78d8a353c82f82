"""A session with clocks, headings and rates as users have them: cut into trials, or refused in one sentence."""

import numpy as np
import pytest

from nsi.errors import BadInput
from nsi.recordings import clocks, sessions

DT, STEPS = 0.01, 12000
TIME = np.arange(STEPS) * DT
VELOCITY = 2 * np.sin(1.3 * TIME) + np.cos(0.31 * TIME)  # rad/s
HEADING = np.cumsum(VELOCITY) * DT
RATES = np.exp(3 * (np.cos(HEADING[:, None] - np.arange(12) * np.pi / 6) - 1))
RNG = np.random.default_rng(0)
KEPT = np.arange(STEPS) % 100 != 50


def longer(x, value, at):
    x = np.array(x)
    x[at] = value
    return x


@pytest.mark.parametrize(
    "time",
    [
        TIME,
        list(TIME),
        TIME[:, None],
        TIME + 1.7e9,
        (TIME + 70000).astype(np.float32),  # steps of 8 ms
        (TIME + 300000).astype(np.float32),  # steps of 31 ms
        TIME + RNG.normal(0, 0.002, STEPS),
        TIME + RNG.uniform(-0.004, 0.004, STEPS),
        np.repeat(TIME[::2], 2),
        np.repeat(TIME[::3], 3),
        np.round(TIME * 64) / 64,
        longer(TIME, np.nan, [1000, 5000, 5001]),
        longer(TIME, 1e308, [7000]),
        np.datetime64("2021-01-01") + (1e6 * TIME).round().astype("timedelta64[us]"),
        np.ma.masked_array(TIME, np.arange(STEPS) == 3000),
    ],
    ids=["plain", "list", "column", "unix", "f32", "f32-coarser", "jitter", "uniform-jitter", "twice", "held", "64-Hz",
         "nan", "huge", "dates", "masked"],
)  # fmt: skip
def test_clock_of_even_frames_keeps_every_sample(time):
    data = sessions.cut(time, RATES, HEADING)
    assert data["dt"] == pytest.approx(DT, rel=1e-3)
    assert data["lengths"].tolist() == [1000] * 12
    np.testing.assert_allclose(
        data["velocity"][:, 1:-1, 0].ravel(), VELOCITY.reshape(12, -1)[:, 1:-1].ravel(), atol=0.05
    )
    assert data["rates"].max() == pytest.approx(0.8, rel=0.01)


@pytest.mark.parametrize("jitter", [0, 0.001])
def test_single_lost_frames_are_bridged_and_counted(jitter, capsys):
    time = TIME + RNG.normal(0, jitter, STEPS)
    data = sessions.cut(time[KEPT], RATES[KEPT], HEADING[KEPT] % (2 * np.pi))
    assert data["lengths"].tolist() == [1000] * 12
    np.testing.assert_allclose(data["velocity"][3, 1:-1, 0], VELOCITY[3001:3999], atol=0.1)
    out, error = capsys.readouterr()
    assert "118.8 of 118.8 s kept (100 %) in 12 trials" in out
    assert "120 lost frames are bridged" in error


def test_share_that_is_kept_is_printed(capsys):
    there = (TIME < 50) | (TIME > 51) & (TIME < 52) | (TIME > 60)
    sessions.cut(TIME[there], RATES[there], HEADING[there])
    assert "session: 110 of 111 s kept (99.1 %) in 11 trials, time step 0.01 s" in capsys.readouterr().out


def test_session_is_cut_where_a_clock_starts_again(capsys):
    time = np.r_[TIME[:6300], TIME[:5700]]
    data = sessions.cut(time, RATES, HEADING)
    assert data["lengths"].tolist() == [1000] * 6 + [300] + [1000] * 5 + [700]
    assert "goes back once, from 62.99 to 0 s at sample 6300" in capsys.readouterr().err


def test_frames_written_twice_are_left_out(capsys):
    at = np.arange(100, STEPS, 500)
    data = sessions.cut(*(np.insert(x, at, x[at], 0) for x in (TIME, RATES, HEADING)))
    assert data["lengths"].tolist() == [1000] * 12
    np.testing.assert_allclose(data["velocity"][3, 1:-1, 0], VELOCITY[3001:3999], atol=0.05)
    assert "24 of 12024 samples" in capsys.readouterr().err


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_bridged_or_cut(value, capsys):
    heading = longer(longer(HEADING, value, [2500]), value, slice(5000, 5100))
    rates = np.where(RNG.random(RATES.shape) < 0.001, value, RATES)
    data = sessions.cut(TIME, rates, heading)
    assert data["lengths"].sum() == pytest.approx(STEPS - 100, abs=1)
    assert all(np.isfinite(x).all() for x in data.values())
    assert " of 12000 samples have no finite rates or course" in capsys.readouterr().err


@pytest.mark.parametrize("value", [0.0, -1.0, HEADING[3000] % (2 * np.pi)])
def test_heading_of_a_lost_tracker_is_cut_out(value, capsys):
    data = sessions.cut(TIME, RATES, longer(HEADING % (2 * np.pi), value, slice(3000, 9000)))
    assert data["lengths"].sum() == pytest.approx(STEPS - 6000, abs=1)
    assert "as where a tracker lost the animal" in capsys.readouterr().err


def test_an_animal_that_stands_still_is_kept(capsys):
    heading = np.interp(TIME, [0, 50, 58, 120], [0, 90, 90, 200])
    assert sessions.cut(TIME, RATES, heading)["lengths"].sum() == STEPS
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("every", [5, 25])
def test_heading_that_is_tracked_less_often_is_interpolated(every, capsys):
    heading = np.repeat(HEADING[::every], every)[:STEPS]
    data = sessions.cut(TIME, RATES, heading)
    assert data["lengths"].sum() == STEPS
    np.testing.assert_allclose(data["velocity"][3, 50:-50, 0], VELOCITY[3050:3950], atol=0.4)
    assert f"changes only at every {every} samples" in capsys.readouterr().err


def test_silent_and_sparse_neurons_are_scaled_without_a_division_by_zero(capsys):
    rates = RATES.copy()
    rates[:, 3] = rates[:, 4] = 0
    rates[[50, 9000], 4] = 1
    data = sessions.cut(TIME, rates, HEADING, smooth=0.06)
    assert not data["rates"][..., 3].any()
    assert data["rates"][..., 4].max() == pytest.approx(0.8)
    error = capsys.readouterr().err
    assert "rates of neuron 3 are never above 0" in error
    assert "rates of neuron 4 reach" in error


@pytest.mark.parametrize("shape", [(-1, 1), (1, -1)])
def test_heading_may_be_a_column(shape):
    assert sessions.cut(TIME, RATES.tolist(), HEADING.reshape(shape))["lengths"].sum() == STEPS


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"time": TIME * 1000}, "goes on by 10 .* divide by 1000 if it is in ms$"),
        ({"time": (TIME * 1e6).astype(np.int64)}, "goes on by 1e.04 .* divide by 1e.06 if it is in µs$"),
        ({"time": np.arange(STEPS)}, "if it counts frames, divide it by their rate$"),
        ({"time": TIME / 86400}, "expected seconds"),
        ({"time": TIME[::-1]}, "falls at 11999 of 11999 steps; .* reverse time"),
        ({"time": RNG.permutation(TIME)}, "falls at .* expected seconds that rise$"),
        ({"time": 0 * TIME}, "is 0 at all of 12000 steps"),
        ({"time": np.nan * TIME}, "0 finite values"),
        ({"time": (TIME + 1.7e9).astype(np.float32)}, "too coarse"),
        ({"time": np.r_[TIME[:6000], 60 + 2 * TIME[:6000]]}, "by 0.01 s a step in some parts .* by 0.02 s"),
        ({"time": ["a"] * STEPS}, "something else than numbers"),
        ({"heading": np.full(STEPS, "a")}, "heading has something else than real numbers"),
        ({"rates": RATES.T}, "transpose rates$"),
        ({"rates": RATES[:-1]}, r"\(11999, 12\) .* do not agree"),
        ({"rates": RATES[:, 0]}, "do not agree"),
        ({"rates": RATES[:, :0]}, "expected neurons"),
        ({"rates": RATES - 1}, "negative values"),
        ({"rates": longer(RATES, np.nan, (slice(None), 3))}, "neuron 3 are not finite .* leave it out"),
        ({"rates": [[1, 2], [3]]}, "rows of unequal length"),
        ({"heading": np.stack([HEADING] * 2, -1)}, r"heading has shape \(12000, 2\)"),
        ({"heading": np.rad2deg(HEADING) % 360}, "as degrees do .* np.deg2rad"),
        ({"heading": HEADING / 2 / np.pi % 1}, "goes from .* expected rad"),
        ({"heading": np.nan * HEADING}, "no stretch of 2 s .* 12000 of 12000 samples have no finite"),
        ({"time": TIME[:2], "rates": RATES[:2], "heading": HEADING[:2]}, "no stretch of 2 s"),
        ({"time": TIME[:1], "rates": RATES[:1], "heading": HEADING[:1]}, "1 finite values"),
        ({"time": [], "rates": np.zeros((0, 3)), "heading": []}, "0 finite values"),
        ({"smooth": 1e9}, "expected 0 <= shortest"),
        ({"longest": np.inf}, "expected 0 <= shortest"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_in_a_sentence(changes, says):
    with pytest.raises(BadInput, match=says) as refusal:
        sessions.cut(**({"time": TIME, "rates": RATES, "heading": HEADING} | changes))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("factor", [1, 100])
def test_box_and_speed_of_a_path_are_printed_and_implausible_ones_named(factor, capsys):
    place = factor * (0.5 + 0.4 * np.stack([np.sin(0.5 * TIME), np.cos(0.3 * TIME)], -1))
    data = sessions.cut_path(TIME, RATES, longer(place, -factor, slice(5000, 5100)), 0.5)
    assert data["lengths"].sum() == STEPS - 100
    out, error = capsys.readouterr()
    assert f"a box of {0.8 * factor:.3g} x {0.8 * factor:.3g} m" in out
    assert ("cm or pixels" in error) == (factor == 100)
    assert "lost the animal" in error


def test_many_short_stretches_take_no_more_memory_than_is_allowed(monkeypatch):
    there = (np.arange(STEPS) > 6000) | (np.arange(STEPS) % 30 < 20)
    time, rates, heading = (x[there] for x in (TIME, RATES, HEADING))
    monkeypatch.setattr(sessions.files, "MAX_BYTES", 10**6)
    with pytest.raises(BadInput, match="expected a smaller `longest`"):
        sessions.cut(time, rates, heading, longest=1e6, shortest=0.1)


def test_frame_numbers_of_a_clock_that_loses_frames_at_random():
    kept = RNG.random(STEPS) > 0.05
    time = (TIME + RNG.normal(0, 0.001, STEPS))[kept]
    frames = clocks.number_frames(time)
    assert frames.dt == pytest.approx(DT, rel=1e-3)
    true = np.flatnonzero(kept)
    for piece in np.unique(frames.piece[frames.piece >= 0]):
        mine = frames.piece == piece
        off = frames.number[mine] - true[mine]
        assert (off == np.median(off)).mean() > 0.99
