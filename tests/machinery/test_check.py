"""A user's recording with one ordinary mistake each: what is said of it, and that nothing is said of a clean one."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

import cann
import train
from experiments.mouse import read
from nsi import recordings
from nsi.recordings import activity, quality
from nsi.simulation import circuits, simulate, stimulation
from nsi.simulation.heterogeneity import vary_weights
from nsi.simulation.stimulation import Velocity
from tests.tools import GOOD, ROOT, TINY, call

LENGTH = 60  # steps of a window with its warm-up


@pytest.fixture
def said(save):
    """What is said of a recording. Returns: a function that gives the sentences; keywords as for `find_warnings`."""

    def read(data, **more):
        path = save(data)
        rec = recordings.load(path)
        alpha = rec.dt / rec.tau if rec.tau else 0.2
        return list(quality.find_warnings(rec, path, alpha, LENGTH, **more))

    return read


def wrapped(angle):
    return np.angle(np.exp(1j * angle)).astype("f4")


def rolled(steps):
    """The velocity late by so many steps, the activity being cut where it comes round."""
    return lambda d: {"velocity": np.roll(d["velocity"], steps, 1)}


def padded(d, lengths=None):
    """Trials that end early, followed by zeros."""
    trials, steps, _ = d["rates"].shape
    ends = np.random.default_rng(0).integers(steps // 2, steps - 20, trials)
    live = (np.arange(steps) < ends[:, None])[..., None]
    arrays = {k: np.where(live, d[k], 0) for k in ("rates", "velocity", "heading")}
    return arrays | ({"lengths": ends} if lengths else {})


def without(steps, d):
    keep = np.delete(np.arange(d["rates"].shape[1]), steps)
    return {k: d[k][:, keep] for k in ("rates", "velocity", "heading", "hidden_rates")}


def changed(d, key, where, value):
    array = d[key].copy()
    array[where] = value
    return {key: array}


def exchanged(d):
    """The velocity of three trials, exchanged."""
    return changed(d, "velocity", [2, 5, 11], d["velocity"][[5, 11, 2]])


MISTAKES = {
    "deg/s": (lambda d: {"velocity": np.rad2deg(d["velocity"])}, ["0.017", "deg/s", "rad/s", "0.01745"]),
    "per frame": (lambda d: {"velocity": d["velocity"] * d["dt"]}, ["rad per step", "rad/s: multiply it by 100"]),
    "deg per frame": (lambda d: {"velocity": np.rad2deg(d["velocity"]) * d["dt"]}, ["deg per step", "1.745"]),
    "heading": (lambda d: {"velocity": d["heading"]}, ["velocity: the recorded activity does not turn with it"]),
    "wrapped": (
        lambda d: {"velocity": np.gradient(d["heading"], d["dt"], axis=1)},
        ["does not turn with it", "unwrap the heading"],
    ),
    "speed": (lambda d: {"velocity": np.abs(d["velocity"])}, ["does not turn with it", "speed without direction"]),
    "linear": (
        lambda d: {"velocity": np.random.default_rng(0).gamma(2, 1, d["velocity"].shape)},
        ["does not turn with it", "r "],
    ),
    "other trials": (lambda d: {"velocity": np.roll(d["velocity"], 1, 0)}, ["does not turn with it", "other trials"]),
    "three exchanged": (exchanged, ["trial 2, 5, 11 does not turn with it"]),
    "constant": (lambda d: {"velocity": np.ones_like(d["velocity"])}, ["velocity is 1 throughout"]),
    "constant second component": (
        lambda d: {"velocity": np.concatenate([np.roll(d["velocity"], 1, 0), 0 * d["velocity"]], -1)},
        ["does not turn with it", "other trials"],
    ),
    "second component": (
        lambda d: {"velocity": np.concatenate([d["rates"][..., :1], d["velocity"]], -1)},
        ["component 1 of velocity"],
    ),
    "50 ms late": (rolled(5), ["0.05 s before it", "earlier, 5 steps"]),
    "200 ms late": (rolled(20), ["0.2 s before it", "earlier, 20 steps"]),
    "500 ms late": (rolled(50), ["0.5 s before it", "50 steps"]),
    "200 ms early": (rolled(-20), ["0.2 s after it", "later, 20 steps"]),
    "padding": (padded, ["rates is 0 in all neurons at the end of 20 of 20 trials", "`lengths`"]),
    "spikes/s": (lambda d: {"rates": 80 * d["rates"]}, ["spikes/s", "scale each neuron"]),
    "tiny": (lambda d: {"rates": 0.05 * d["rates"]}, ["rates reaches 0.04", "scale each neuron"]),
    "counts": (lambda d: {"rates": np.round(4 * d["rates"])}, ["whole numbers up to 4", "counts", "smooth"]),
    "unequal": (lambda d: {"rates": d["rates"] * np.linspace(0.05, 1, 40)}, ["scale each neuron"]),
    "baseline": (lambda d: {"rates": 0.7 * d["rates"] + 0.3}, ["constant baseline", "subtract it"]),
    "dead": (lambda d: changed(d, "rates", (..., 5), 0), ["neuron 5 is 0 throughout"]),
    "twins": (lambda d: changed(d, "rates", (..., 6), d["rates"][..., 5]), ["the same values of neuron 6 as of 5"]),
    "cut off": (lambda d: {"rates": np.minimum(d["rates"], 0.3)}, ["as if cut off there"]),
    "outlier": (lambda d: changed(d, "rates", (3, 20, 5), 1000), ["rates[3, 20, 5]", "remove them"]),
    "gaps closed up": (lambda d: without(np.r_[100:160], d), ["jumps", "step 100", "`lengths`"]),
    "one session": (
        lambda d: {k: d[k].reshape(1, -1, d[k].shape[-1]) for k in ("rates", "velocity", "heading", "hidden_rates")},
        ["jumps", "cut the trials there"],
    ),
    "short trials": (
        lambda d: {"lengths": np.where(np.arange(20) % 19 == 0, 300, 45)},
        ["2 of 20 trials", "hold a window of 60 steps"],
    ),
    "tau in ms": (lambda d: {"tau": 50.0}, ["tau is 50 s", "alpha = dt / tau is 0.0002"]),
    "dt in ms": (lambda d: {"dt": 10.0, "tau": None}, ["dt is 10 s", "divide it by 1000"]),
    "heading in degrees": (lambda d: {"heading": np.rad2deg(d["heading"])}, ["expected heading in rad"]),
    "heading reversed": (lambda d: {"heading": -d["heading"]}, ["heading turns against velocity"]),
}


def scaled(rates):
    """As the warning of other units advises."""
    return np.clip(0.8 * rates / np.quantile(rates, 0.99, (0, 1)), 0, None)


def delayed(d, steps, neurons):
    """Some neurons late, by trials cut where that comes round."""
    rates = np.where(neurons, np.roll(d["rates"], steps, 1), d["rates"])
    return {k: d[k][:, steps:] for k in ("velocity", "heading", "hidden_rates")} | {"rates": rates[:, steps:]}


def drifting(d, steps):
    """The velocity ever later from trial to trial."""
    each = np.linspace(0, steps, len(d["velocity"])).astype(int)
    return {"velocity": np.stack([np.roll(v, k, 0) for v, k in zip(d["velocity"], each, strict=True)])}


def frozen(heading, step):
    """The heading of each trial stays what it is at a step."""
    return np.where(np.arange(heading.shape[1])[:, None] > step, heading[:, [step]], heading)


def sliding(d):
    """Trials cut from others so that they overlap."""
    cut = lambda x: np.stack([trial[k : k + 150] for trial in x[:8] for k in range(0, 151, 50)])
    return {k: cut(d[k]) for k in ("rates", "velocity", "heading", "hidden_rates")}


def rng(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


STEP, TRIAL, NEURON = np.arange(300)[:, None], np.arange(20)[:, None, None], np.arange(40)
SOME, ORDER = NEURON % 3 == 0, np.random.default_rng(3).permutation(40)
COMMON = np.abs(rng((20, 300, 1)))
PARTS = {
    "lost in trials": (lambda d: {"velocity": d["velocity"] * (STEP < 210)}, ["exactly 0 at 30%", "210 to 299"]),
    "lost trials": (lambda d: {"velocity": d["velocity"] * (TRIAL % 5 > 0)}, ["exactly 0 at 20%", "trial 0, 5"]),
    "masked": (lambda d: {"velocity": d["velocity"] * (rng((20, 300, 1)) < 1)}, ["exactly 0 at 16%", "interpolate it"]),
    "stuck": (lambda d: {"velocity": frozen(d["velocity"], 200)}, ["does not change", "33% of the steps"]),
    "movement": (
        lambda d: {"rates": scaled(d["rates"] + 0.15 * np.abs(d["velocity"]))},
        ["far from where the activity points", "before scaling"],
    ),
    "common noise": (lambda d: {"rates": scaled(d["rates"] + 0.2 * COMMON)}, ["far from where the activity points"]),
    "common gain": (lambda d: {"rates": 0.4 * d["rates"] * (0.2 + COMMON)}, ["all active neurons rise and fall"]),
    "bleached": (lambda d: {"rates": d["rates"] * np.exp(-TRIAL / 20)}, ["all neurons together reach", "trials"]),
    "fading": (lambda d: {"rates": d["rates"] * np.exp(-STEP / 300)}, ["together reach", "of each trial"]),
    "baseline": (lambda d: {"rates": 0.8 * d["rates"] + 0.1 * (TRIAL > 9)}, ["rise by 0.09", "trials 10 to 19"]),
    "lost neurons": (
        lambda d: {"rates": d["rates"] * ~(SOME & (TRIAL > 9))},
        ["14 of 40 neurons (neuron 0, 3, 6, 9, 12 and 9 more)", "hardly in another"],
    ),
    "order": (
        lambda d: {"rates": np.where(TRIAL > 9, d["rates"][..., ORDER], d["rates"])},
        ["fire together with other neurons", "their order"],
    ),
    "shifted": (
        lambda d: {"rates": np.where(TRIAL > 9, np.roll(d["rates"], 12, -1), d["rates"])},
        ["points 1.9 rad elsewhere in trials 10 to 19"],
    ),
    "half late": (lambda d: delayed(d, 15, NEURON % 2 == 1), ["20 of 40 neurons", "s after the others"]),
    "gain": (lambda d: {"velocity": d["velocity"] * np.where(TRIAL > 9, 1.5, 1)}, ["by 0.66", "trials 10 to 19"]),
    "growing gain": (lambda d: {"velocity": d["velocity"] * (1 + TRIAL / 20)}, ["times as fast", "little by little"]),
    "sign": (lambda d: {"velocity": d["velocity"] * np.where(TRIAL > 9, -1, 1)}, ["against it", "trials 10 to 19"]),
    "clock": (lambda d: drifting(d, 30), ["its clock drifts", "no single shift"]),
    "offset": (lambda d: {"velocity": d["velocity"] + 1}, ["constant offset", "subtract 1"]),
    "offset later": (lambda d: {"velocity": d["velocity"] + (TRIAL > 9)}, ["its zero has moved", "trials 10 to 19"]),
    "others' heading": (lambda d: {"heading": np.roll(d["heading"], 1, 0)}, ["heading does not turn with velocity"]),
    "still heading": (lambda d: {"heading": 0 * d["heading"] + 1}, ["heading does not change"]),
    "stuck heading": (lambda d: {"heading": frozen(d["heading"], 150)}, ["heading of steps 150 to"]),
    "late heading": (lambda d: {"heading": np.roll(d["heading"], 20, 1)}, ["heading's clock", "steps earlier"]),
    "repeats": (
        lambda d: {k: d[k][np.r_[:10, :10]] for k in ("rates", "velocity", "heading", "hidden_rates")},
        ["the same stretches", "100% of the held-out trials"],
    ),
    "overlap": (sliding, ["the same stretches", "do not overlap"]),
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_parts_that_differ_are_reported(name, data, said):
    change, expected = PARTS[name]
    found = said(data | change(data))
    together = "\n".join(found)
    assert all(words in together for words in expected), together
    assert len(found) == 1, together
    if "heading" in name:
        assert "mine.npz: velocity" not in together


def test_neighbours_that_are_late_are_named_where_they_blur_the_decoded_place(said):
    data = cann.simulate_recording(circuits.quadratic(n=40), 0, 40, 400)
    (found,) = said(data | delayed(data, 15, NEURON < 20))
    assert "20 of 40 neurons (neuron 0, 1, 2" in found
    assert "s after the others" in found


@pytest.mark.parametrize("circuit", [circuits.quadratic(n=40), circuits.grid(n=12)], ids=["quadratic", "grid"])
def test_neurons_that_are_shifted_later_are_named_by_the_heading(circuit, said):
    data = cann.simulate_recording(circuit, 0, 20, 400)
    shifted = np.roll(data["rates"], data["rates"].shape[-1] // 4, -1)
    (found,) = said(data | {"rates": np.where(TRIAL > 9, shifted, data["rates"])})
    assert "relative to heading the activity points 1." in found
    assert "trials 10 to 19" in found


def test_no_factor_is_named_where_it_is_unsure(data, said):
    noisy = 0.02 * (data["velocity"] + 0.8 * np.roll(data["velocity"], 1, 0))
    (found,) = said(data | {"velocity": noisy})
    assert "times as fast as velocity" in found
    assert "multiply" not in found


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_reported_with_its_remedy(name, data, said):
    change, expected = MISTAKES[name]
    found = said(data | change(data))
    assert all(sentence.startswith("mine.npz: ") and "\n" not in sentence for sentence in found)
    together = "\n".join(found)
    assert all(words in together for words in expected), together
    assert len(found) <= 2, together


@pytest.mark.parametrize("name", ["deg/s", "50 ms late", "other trials", "gaps closed up", "padding", "tiny", "counts"])
def test_it_is_reported_without_a_heading_too(name, data, said):
    change, expected = MISTAKES[name]
    found = "\n".join(said(data | change(data) | {"heading": None}))
    assert all(words in found for words in expected), found


CLEAN = {
    "ring": ({}, {}),
    "ten trials": ({}, {"trials": 10, "steps": 1000}),
    "stimulated": ({}, {"amplitude": 4.0}),
    "noisy": ({}, {"noise": 0.1}),
    "jittered": ({"jitter": 0.3}, {}),
    "sparse": ({"sparse": 0.5}, {}),
    "pulses": ({}, {"amplitude": 12.0}),
    "one session": ({}, {"trials": 1, "steps": 6000}),
    "slow": ({}, {"motion": Velocity(0.3), "trials": 20}),
}


@pytest.mark.parametrize("name", ["gain", "holding", "quadratic", "even", *CLEAN])
def test_no_warning_about_a_clean_recording(name, said):
    circuit, (change, more) = circuits.CIRCUITS.get(name, circuits.ring)(50), CLEAN.get(name, ({}, {}))
    circuit = vary_weights(circuit, np.random.default_rng(0), **change)
    data = cann.simulate_recording(circuit, **{"trials": 12, "steps": 400} | more)
    assert said(data) == []
    assert said(data | {"heading": None}) == []
    order = np.random.default_rng(1).permutation(data["rates"].shape[-1])
    assert said({k: data[k] for k in ("velocity", "dt")} | {"rates": data["rates"][..., order]}) == []


def counted(rates, hertz, width, seed=0):
    """Rates of spikes, smoothed and scaled."""
    spikes = np.random.default_rng(seed).poisson(rates * hertz * 0.01)
    return scaled(gaussian_filter1d(spikes.astype(float), width, axis=1))


UNUSUAL = {
    "spikes of few": lambda d: {"rates": counted(d["rates"][..., ::5], 60, 4)},
    "rare spikes": lambda d: {"rates": counted(d["rates"], 25, 8)},
    "few neurons": lambda d: {"rates": d["rates"][..., [3, 1, 30, 22, 9, 12, 27, 35, 17]]},
    "shifters too": lambda d: {"rates": np.concatenate([d["rates"], d["hidden_rates"]], -1)},
    "shifters": lambda d: {"rates": d["hidden_rates"]},
    "unequal": lambda d: {"rates": d["rates"] * np.exp(0.4 * rng(40)) / 2},
    "lengths": lambda d: {"lengths": np.random.default_rng(0).integers(150, 300, 20)},
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_no_warning_about_an_unusual_recording(name, data, said):
    kept = {k: data[k] for k in ("rates", "velocity", "heading", "dt", "tau")}
    assert said(kept | UNUSUAL[name](data)) == []


@pytest.mark.parametrize(("trials", "steps"), [(20, 200), (12, 100)])
def test_no_warning_about_few_short_trials_of_grid_cells(trials, steps, said):
    assert said(cann.simulate_recording(circuits.grid(n=12), 5, trials, steps)) == []


def test_no_warning_about_a_saturated_circuit_whose_bump_turns_at_0_6_of_the_velocity(said):
    assert said(cann.simulate_recording(circuits.saturating(n=60, shifters=30), 113, 40, 500)) == []


@pytest.mark.parametrize(("name", "seed"), [("quadratic", 2), ("product", 0), ("product", 2)])
def test_no_warning_about_a_dozen_trials_of(name, seed, said):
    assert said(cann.simulate_recording(circuits.CIRCUITS[name](n=36 if seed else 24), seed, 12, 300)) == []


def test_only_silent_neurons_are_reported_of_a_session_that_visits_part_of_the_ring(said):
    data = cann.simulate_recording(circuits.ring(n=24, shifters=12), 1, 1, 3000, motion=stimulation.Velocity(0.7))
    (found,) = said(data)
    assert "is 0 throughout" in found


def test_an_animal_that_rests_is_no_lost_tracker(circuit, data, said):
    rests = data["velocity"] * np.repeat(rng((20, 5, 1)) < 0.3, 60, 1)
    rates = simulate(circuit, rests, data["heading"][:, 0], np.random.default_rng(0), 0.02)[..., :40]
    heading = data["heading"][:, :1] + 0.01 * np.cumsum(rests, 1)
    assert said(data | {"rates": rates, "velocity": rests, "heading": heading}) == []


def test_no_warning_about_padding_with_lengths_or_two_components(data, said):
    assert said(data | padded(data, lengths=True)) == []
    walk = np.concatenate([data["velocity"], 5 + 0 * data["velocity"]], -1)
    assert said(data | {"velocity": walk, "true_W_in": None, "true_gate": None}) == []


def test_one_animal_is_reported_where_animals_are_to_be_drawn(data, said):
    one = data | {"animal": np.array(["m1"] * 20)}
    assert said(one) == []
    assert "--bootstrap draws trials" in said(one, bootstrap=True)[0]
    assert said(one | {"animal": np.arange(20) % 2}, bootstrap=True) == []


@pytest.mark.parametrize("lost", ["frames", "ends"])
def test_missing_frames_are_refused_with_their_place(lost, save):
    rates = GOOD["rates"].copy()
    rates[1, slice(20, 25) if lost == "frames" else slice(30, None)] = np.nan
    with pytest.raises(recordings.BadInput) as refused:
        recordings.load(save(GOOD, rates=rates))
    count, step = (5, 20) if lost == "frames" else (10, 30)
    assert f"rates has values that are not finite (NaN or infinite) at {count} steps of 1 trials" in str(refused.value)
    assert f"first at trial 1, step {step}" in str(refused.value)
    assert "`lengths`" in str(refused.value)


def test_findings_go_to_stderr_and_into_the_measures(data, save, tmp_path, monkeypatch, capsys):
    path = save(data, velocity=np.rad2deg(data["velocity"]))
    status, error = call(train, monkeypatch, capsys, "--data", path, "--out", tmp_path / "run", *TINY, "--control")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert status == 0
    (warning,) = (sentence for sentence in metrics["warnings"] if sentence not in metrics["fit_warnings"])
    assert all(sentence in error for sentence in metrics["warnings"])
    assert "deg/s" in warning
    assert metrics["turning"]["slope"] == pytest.approx(np.pi / 180, rel=0.05)
    assert metrics["turning"]["heading"]["slope"] == pytest.approx(np.pi / 180, rel=0.01)
    assert metrics["decoding_error"] < 0.05


def test_quantiles_of_what_is_known_are_those_of_numpy():
    x = np.random.default_rng(0).random((30, 17))
    x[x < 0.4] = np.nan
    x[4], x[4, 0] = np.nan, 0.5
    for level in (0.2, 0.8):
        np.testing.assert_allclose(activity.known_quantile(x, level), np.nanquantile(x, level, axis=1))
    assert np.isnan(activity.known_quantile(np.full((1, 3), np.nan), 0.5))


def test_alpha_and_turning_are_always_printed(data, save, capsys):
    for keys, words in (({}, "dt 0.01 s / tau 0.05 s"), ({"tau": None}, "the file has no tau")):
        path = save(data, **keys)
        assert quality.report_warnings(recordings.load(path), path, 0.2, LENGTH) == []
        out, error = capsys.readouterr()
        assert f"mine.npz: alpha 0.2 ({words})" in out
        assert "r 1.00" in out
        assert error == ""


def test_no_warning_about_a_mouse():
    path = ROOT.parent / "shared" / "mouse" / "dataHD.mat"
    if not path.exists():
        pytest.skip("the mouse's recording is not here (../shared/mouse)")
    data = read.read(path)
    rec = recordings.Recording(**{k: data[k] for k in ("rates", "velocity", "dt", "heading", "lengths")})
    assert list(quality.find_warnings(rec, path, 0.2, LENGTH)) == []


def test_flies_are_clean():
    path = ROOT.parent / "shared" / "fly" / "epg_dark.npz"
    if not path.exists():
        pytest.skip("the real recordings are not here (../shared/fly)")
    assert list(quality.find_warnings(recordings.load(path), path, 0.5, LENGTH, bootstrap=True)) == []


SHARED = ROOT.parent / "shared" / "cases" / "make_cases.py"
FINE = {"clean", "neurons_in_any_order", "two_components_one_heading", "padded_with_lengths", "one_animal"}


@pytest.mark.slow
def test_cases_made_elsewhere(data, save, tmp_path):
    if not SHARED.exists():
        pytest.skip("the faulty files' maker is not here (../shared/cases)")
    source = save(cann.simulate_recording(circuits.ring(), trials=30, steps=600), "source.npz")
    subprocess.run([sys.executable, SHARED, source, tmp_path / "cases"], check=True, capture_output=True)
    for path in sorted((tmp_path / "cases").glob("*.npz")):
        if path.stem == "missing_frames":
            with pytest.raises(recordings.BadInput):
                recordings.load(path)
            continue
        rec = recordings.load(path)
        found = list(quality.find_warnings(rec, Path(path), rec.dt / rec.tau if rec.tau else 0.2, LENGTH))
        assert bool(found) == (path.stem not in FINE), (path.stem, found)
