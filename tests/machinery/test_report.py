"""The page of a fit: its words against the measures, its figures, and that it needs nothing else and opens."""

import base64
import html
import io
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from matplotlib import pyplot
from PIL import Image

import cann
import train
from nsi import figures, recordings
from nsi.estimation import estimate
from nsi.evaluation import metrics
from nsi.figures import report
from nsi.figures import run as portrait
from nsi.figures.profiles import profile_with_interval
from nsi.geometry import RING, TORUS
from nsi.hidden import diagnostics, units
from nsi.network import Network
from nsi.run import connections
from nsi.simulation import circuits
from tests.tools import GOOD, TINY, call

HEADINGS = ("What was found", "How far to trust it", "What speaks against this fit", "What is not determined",
            "What is wrong with the file", "What the words mean", "Figures", "All measures", "Options")  # fmt: skip
ALL = {"recording", "prediction", "error", "connectivity", "profiles", "inputs"}
DRAWN = [option for option in TINY if option != "--no-report"]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


@pytest.fixture(scope="module")
def data(small):
    """A recording smaller than other tests', since most of these fit it."""
    return small


@pytest.fixture
def fitted(save, tmp_path, monkeypatch, capsys):
    """Fit a data file small. Returns: the run's folder; keyword `out` names it, `quick` skips the calibration."""

    def run(data, *options, out="run", quick=True):
        options = [*(["--set", "calibrated=no"] if quick else []), *options]
        arguments = ["--data", save(data), "--out", tmp_path / out, *DRAWN, "--window", "20", *options]
        status, error = call(train, monkeypatch, capsys, *arguments)
        assert status == 0, error
        assert "no report" not in error
        return tmp_path / out

    return run


@pytest.fixture
def undrawn(monkeypatch):
    """Pages without figures, which take longest."""
    monkeypatch.setattr(portrait, "draw_figures", lambda *_: ())


@pytest.fixture(scope="module")
def plain(data, tmp_path_factory):
    """A fit of the small recording, that nothing changes. Returns: the run's folder."""
    folder = tmp_path_factory.mktemp("plain")
    np.savez(folder / "mine.npz", **data)
    with pytest.MonkeyPatch.context() as patch:
        options = ["--data", folder / "mine.npz", "--out", folder / "run", *DRAWN, "--window", "20"]
        patch.setattr("sys.argv", ["train.py", *map(str, options)])
        train.main()
    return folder / "run"


def text_of(out):
    """The page without its tags and pictures."""
    return html.unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", (out / "report.html").read_text(), flags=re.DOTALL))


def drawn(out):
    return {path.stem for path in (out / "figures").iterdir()}


def test_page_says_what_the_measures_say(plain):
    page, metrics = text_of(plain), json.loads((plain / "metrics.json").read_text())
    for heading in HEADINGS:
        assert heading in page
    assert max(row["samples"] for row in metrics["heading_error"].values()) < 20
    assert "Held-out trials are too few or too short" in page
    assert f"{1 - metrics['identifiable_fraction']:.0%} of the pairs" in page
    assert f"r {metrics['turning']['r']:.2f} over half a second" in page
    assert "Nothing was found wrong with it." in page
    assert "no evidence" in page
    assert drawn(plain) == ALL


def test_intervals_drawn_are_of_the_weights_with_the_least_standard_errors():
    """Without pulses the total, with them direct weights; an interval's centre, not the best estimate."""
    numbers, nowhere = np.ones((3, 3)), np.full((3, 3), np.inf)
    found = {"W": numbers, "W_unbiased": 2 * numbers, "total": 3 * numbers, "total_unbiased": 4 * numbers}
    for W_se, total_se, name in ((nowhere, numbers, "total"), (3 * numbers, numbers, "total"),
                                 (numbers, nowhere, "W"), (nowhere, nowhere, "W")):  # fmt: skip
        arrays = found | {"W_se": W_se, "total_se": total_se}
        assert portrait.choose_claimed(arrays) == (name, found[f"{name}_unbiased"], arrays[f"{name}_se"])


def test_profile_is_of_the_best_estimate_and_its_interval_of_the_centre():
    """Twelve neurons, so that each distance has a pair onto every neuron, whose errors are independent."""
    places, se = RING.places(12), np.full((12, 12), 0.1)
    best = np.cos(places - places.T)
    found = profile_with_interval(best, best + 0.05, se, RING, places)
    np.testing.assert_allclose(found.mean, np.cos(np.radians(found.degrees)), atol=1e-12)
    np.testing.assert_allclose(found.sd, 0, atol=1e-12)
    np.testing.assert_allclose((found.low + found.high) / 2, found.mean + 0.05)
    np.testing.assert_allclose(found.high - found.low, 2 * 1.96 * 0.1 / np.sqrt(12))
    se[:, 0] = np.inf  # the mean is over pairs whose interval has an end
    found = profile_with_interval(best, best, se, RING, places)
    np.testing.assert_allclose(found.high - found.low, 2 * 1.96 * 0.1 / np.sqrt(11))
    assert len(profile_with_interval(best, best, np.full((12, 12), np.inf), RING, places).mean) == 0


def test_profile_of_a_torus_is_over_distances_in_the_plane():
    places = TORUS.places(64)
    distance = TORUS.distance(places[:, None], places)
    found = profile_with_interval(distance, distance, np.ones((64, 64)), TORUS, places)
    np.testing.assert_allclose(found.mean, np.radians(found.degrees))
    assert np.degrees(found.sd).max() < 240 / 36


@pytest.mark.parametrize("draw", ["profiles", "recovered"])
def test_notebook_draws_the_interval_of_an_estimate(draw):
    """The band lies about the intervals' centre, the line is the best estimate."""
    W = np.cos(RING.places(12) - RING.places(12).T)
    kinds = {"": W, "_unbiased": W + 0.05, "_se": np.full((12, 12), 0.1)}
    if draw == "recovered":
        estimate = dict.fromkeys(("W", "gate"), tuple(kinds.values()))
        figure = figures.draw_recovered({"W": W, "gate": W}, estimate)
    else:
        arrays = {
            f"{name}{kind}": (a if name == "W" else a[None]) for name in ("W", "gate") for kind, a in kinds.items()
        }
        net = Network(np.zeros((14, 14)), np.zeros((1, 14)), np.zeros(14), 0.2, 12)
        truth = {"W": W, "effective_gate": W[None]}
        figure = figures.draw_profiles(arrays | {"identifiable": W > 0}, net, net, truth)
    drawn = [ax for ax in figure.axes if any("95 %" in str(band.get_label()) for band in ax.collections)]
    assert len(drawn) == 2
    for ax in drawn:
        (band,) = [band for band in ax.collections if "95 %" in str(band.get_label())]
        top = np.cos(np.pi / 6) + 0.05 + 1.96 * 0.1 / np.sqrt(12)  # neurons have no distance of 0
        assert band.get_paths()[0].get_extents().y1 == pytest.approx(top, abs=1e-6)
        (line,) = [line for line in ax.lines if str(line.get_label()).startswith("estimate")]
        np.testing.assert_allclose(line.get_ydata().max(), 1, atol=1e-6)
    pyplot.close(figure)


@pytest.mark.parametrize(
    ("verdict", "said"),
    [("found", "Velocity changes what neurons do"), ("not found", "No gate is found"), ("cannot tell", "cannot tell")],
)
def test_the_gate_is_reported_by_its_test_and_by_nothing_else(verdict, said, plain):
    """Whatever its entries are, and however many of them lie beyond their standard errors."""
    metrics, arrays = json.loads((plain / "metrics.json").read_text()), dict(np.load(plain / "connectivity.npz"))
    for size in (1e-6, 1.0, 1e6):
        (sentence,) = report.gates(
            metrics | {"verdicts": metrics["verdicts"] | {"gate": verdict}, "gate_p": 0.03},
            arrays | {"gate": size * arrays["gate"], "gate_unbiased": size * arrays["gate"]},
        )
        assert said in sentence
        assert "p 0.03" in sentence


def test_the_page_says_what_the_estimate_and_its_calibration_are(plain):
    page, metrics = text_of(plain), json.loads((plain / "metrics.json").read_text())
    arrays = dict(np.load(plain / "connectivity.npz"))
    for name in ("W", "total", "gate"):
        assert f"r.m.s. of {np.sqrt(np.mean(arrays[name] ** 2)):.2g}" in page
        assert f"being ±{1.96 * np.median(arrays[f'{name}_se']):.2g} (median)" in page
    assert "The 95 % intervals are calibrated" in page
    assert f"{metrics['calibration']['factors']['W']:.2f} (direct weights)" in page
    assert "not calibrated and may be too narrow" in " ".join(report.calibration(metrics | {"calibration": {}}))
    assert "The neurons' response function is likeliest the rectified tanh" in page
    assert "is estimated as" not in page  # alpha is the file's
    unknown = metrics | {"alpha_known": False, "alpha": 0.2, "alpha_se": 0.01}
    assert "estimated as 0.2 (95 % interval 0.18 to 0.22)" in " ".join(report.kinetics(unknown))
    assert f"the weights of the trained network itself have r {metrics['network_r_W']:.3g}" in page


def test_page_needs_nothing_else(plain):
    page = (plain / "report.html").read_text()
    assert "href" not in page
    assert page.count("src=") == page.count("src='data:image/png;base64,")
    assert "http" not in page
    assert "<script" not in page
    assert str(plain.parent) not in page
    pictures = re.findall(r"base64,([^']+)'", page)
    assert len(pictures) == len(ALL)
    for picture in pictures:
        content = base64.b64decode(picture)
        assert content in [path.read_bytes() for path in (plain / "figures").iterdir()]
        with Image.open(io.BytesIO(content)) as image:
            assert min(image.size) > 200
            assert image.info.keys() <= {"Software", "dpi"}
            assert np.asarray(image.convert("L")).std() > 10  # something is drawn


def test_warnings_are_on_the_page_and_their_letters_are_no_tags(data, fitted, undrawn):
    out = fitted(data | {"velocity": np.rad2deg(data["velocity"])}, out="a <b>")
    assert "as if it were in deg/s" in text_of(out)
    assert "Nothing was found wrong" not in text_of(out)
    assert "<b>:" not in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("change", "options"),
    [
        ({"heading": None}, []),
        ({"fly": np.arange(20) % 4}, ["--bootstrap", "--replicas", "2"]),
        ({"lengths": np.arange(20) * 6 + 100}, []),
        ({"velocity": "constant"}, []),
    ],
)
def test_it_is_drawn_of_any_fit(change, options, data, fitted):
    """Of a plain one, a control and three replicas in other tests."""
    if "velocity" in change:
        change = {"velocity": 0 * data["velocity"]}
    out = fitted(data | change, *options)
    assert drawn(out) == ALL
    assert "What was found" in text_of(out)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("neurons", [1, 2, 3, 7])
def test_it_is_drawn_of_few_neurons_and_trials(neurons, fitted):
    out = fitted({k: v if k == "dt" else v[..., :neurons] for k, v in GOOD.items()}, "--window", "10")
    assert drawn(out) == ALL


def test_it_is_drawn_of_one_long_session(data, fitted):
    one = {k: data[k].reshape(1, -1, data[k].shape[-1]) for k in ("rates", "velocity", "heading")}
    assert drawn(fitted(one | {"dt": 0.01, "tau": 0.05})) == ALL


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_it_is_drawn_where_nothing_fires_for_long(data, fitted):
    rates = data["rates"].copy()
    rates[:, 100:] = 0
    out = fitted(data | {"rates": rates})
    assert drawn(out) == ALL
    with np.load(out / "connectivity.npz") as file:
        assert np.isfinite(file["W"]).all()  # 0 where the likelihood has no maximum


def test_stale_figures_go_and_none_are_drawn_on_request(data, plain, fitted, tmp_path):
    shutil.copytree(plain, tmp_path / "run")
    assert drawn(fitted(data, "--control", "--overwrite")) == ALL - {"inputs", "profiles"}
    out = fitted(data, "--no-report", out="quiet")
    assert not (out / "figures").exists()
    assert not (out / "report.html").exists()
    assert drawn(fitted(data, "--resume", out="quiet")) == ALL  # drawing is no other fit


def test_null_fit_is_compared_with_the_fit(data, plain, fitted, undrawn, tmp_path):
    out = shutil.copytree(plain, tmp_path / "mine")
    assert "No fit to the velocity of other trials with the same options lies beside this one" in text_of(out)
    null = fitted(data, "--shuffle-velocity", out="null")
    fitted(data, "--shuffle-velocity", "--control", out="of a control")
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (out, null)]
    assert [m["shuffle_velocity"] for m in metrics] == [False, True]
    assert abs(metrics[1]["turning"]["r"]) < 0.4 < metrics[0]["turning"]["r"]
    (warning,) = metrics[1]["warnings"]
    assert "the estimate's signals do not describe the recording" in warning
    assert "This is a null model" in text_of(null)
    assert "mine was fitted to the recorded velocity" in text_of(null)
    fitted(data, "--resume", out="mine", quick=False)
    page = text_of(out)
    assert "With the same options, null was fitted to the velocity of other trials" in page
    assert "of a control was" not in page
    assert "not compared, since their options are others: of a control (constraints" in page
    assert f"{metrics[1]['loss']:.3g} there" in page


def predicted(*rows, interval=None, trials=9, replicas=1):
    """Measures of a prediction. rows: (seconds, network's error, samples); interval: {seconds: (of the difference from
    the integrator, of that from a bump that stays)}, one for each replica, or the same of all."""
    table = {s: {"error": e, "integrator": 0.4, "stay": 0.9, "samples": n} for s, e, n in rows}
    each = interval if isinstance(interval, list) else [interval] * replicas
    differences = [
        {s: dict(zip(("integrator", "stay"), one[s], strict=True)) | {"trials": trials} for s in table} for one in each
    ]
    several = {"heading_error": [table] * replicas, "heading_error_difference": differences}
    one = {key: value[0] for key, value in several.items()}
    return (one if replicas == 1 else several) | {"variance": 0.2, "loss": 0.05}


def test_words_about_a_prediction():
    below, above, around = [-0.2, -0.1], [0.1, 0.2], [-0.1, 0.1]
    rows = ("0.25", 0.5, 90), ("1", 0.6, 30), ("5", None, 19)
    nothing = {"5": (None, None)}  # too few samples: this horizon does not count
    m = predicted(*rows, interval=nothing | {"0.25": (above, below), "1": (above, below)})
    first, worse, better, last = report.predictions(m)
    assert "predicts the heading 1 s ahead with a mean error of 0.60 rad (34°)" in first
    assert (
        "worse than an integrator of velocity at every horizon that the held-out trials reach (0.25 and 1 s)" in worse
    )
    assert "better than a bump that stays at every horizon" in better
    assert "over 9 held-out trials lies below 0" in better
    assert "75% of the variance" in last
    m = predicted(*rows, interval=nothing | {"0.25": (around, below), "1": (below, around)})
    page = " ".join(report.predictions(m))
    assert "better" not in page
    assert "worse" not in page
    assert "an integrator of velocity the network's error is smaller at 1 s, not clearly different at 0.25 s" in page
    assert "a bump that stays the network's error is smaller at 0.25 s, not clearly different at 1 s" in page
    assert "too few or too short" in next(
        report.predictions(predicted(("0.25", 1.0, 3), interval={"0.25": 2 * [None]}))
    )


def test_better_is_claimed_of_every_replica_and_of_none_without_an_interval():
    below, around = [-0.2, -0.1], [-0.1, 0.1]
    good, doubtful = {"1": (below, below)}, {"1": (below, around)}
    page = " ".join(report.predictions(predicted(("1", 0.5, 90), interval=[good, doubtful], replicas=2)))
    assert page.count("better") == 1
    assert "better than an integrator of velocity" in page
    assert "lies below 0 in each replica" in page
    assert "a bump that stays the network's error is not clearly different at 1 s" in page
    for m in (predicted(("1", 0.1, 90), interval={"1": (None, None)}), predicted(("1", 0.1, 90), interval=good)):
        if m["heading_error_difference"]["1"]["stay"]:
            del m["heading_error_difference"]  # of an older metrics.json
        page = " ".join(report.predictions(m))
        assert "better" not in page
        assert "that takes an interval over at least 3 held-out trials" in page


def test_a_fit_that_is_not_better_by_its_interval_is_not_called_so(plain):
    """Two held-out trials are too few for an interval, however small the error is."""
    assert len(json.loads((plain / "metrics.json").read_text())["held_out_trials"]) == 2
    assert "better" not in text_of(plain)


def test_numbers_are_of_all_replicas_with_their_spread(data, fitted):
    out = fitted(data, "--replicas", "3", "--bootstrap")
    page, metrics = text_of(out), json.loads((out / "metrics.json").read_text())
    assert (
        "3 networks (replicas) were fitted, with seeds 0 to 2, each to trials or animals drawn with replacement" in page
    )
    for key, text in (("network_r_W", "network itself have r {}"), ("loss", "(mean squared error {},")):
        mean, low, high = (f"{f(metrics[key]):.3g}" for f in (np.mean, min, max))
        assert low != high
        assert text.format(f"{mean} ({low} to {high})") in page
    assert isinstance(metrics["r_W"], float)  # the estimate needs no network, and is one
    assert "Over 3 replicas single weights of the networks have an s.d. of" in page
    assert "this is a standard error" in page
    assert "Drawn is the first of 3 replicas" in page
    assert drawn(out) == ALL
    assert f"{metrics['loss'][0]:.4g}, {metrics['loss'][1]:.4g}, {metrics['loss'][2]:.4g}" in page


def test_one_network_has_no_spread(plain):
    assert "One network was fitted, with seed 0" in text_of(plain)
    assert "nothing here says how other starts would differ" in text_of(plain)


def test_values_of_replicas_and_of_components():
    one = {"heading_error": {}, "r_gate": [0.2, 0.4], "loss": 0.1, "none": None}
    assert metrics.values_of(one, "r_gate") == [pytest.approx(0.3)]
    assert metrics.values_of(one, "loss") == [0.1]
    assert metrics.values_of(one, "none") == metrics.values_of(one, "absent") == []
    two = {"heading_error": [{}, {}], "r_gate": [[0.2, 0.4], [0.6, None]], "loss": [0.1, 0.3], "alpha": 0.2}
    assert metrics.values_of(two, "r_gate") == [pytest.approx(0.3), 0.6]
    assert metrics.values_of(two, "loss") == [0.1, 0.3]
    assert metrics.values_of(two, "alpha") == [0.2]


def test_null_model_is_compared_only_where_its_options_are_the_same(plain, tmp_path):
    out = shutil.copytree(plain, tmp_path / "mine")
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["options"]["updates"] == 2

    def neighbour(name, other=None, **changes):
        (tmp_path / name).mkdir()
        changes = {"shuffle_velocity": True, "options": metrics["options"] | (other or {})} | changes
        (tmp_path / name / "metrics.json").write_text(json.dumps(metrics | changes))

    neighbour("same", {"seed": 7, "replicas": 1, "shuffle_velocity": True, "data": "copy.npz"})
    neighbour("a", {"alpha": 0.5})
    neighbour("b", {"updates": 3, "input_units": 9, "lr": 1.0, "window": 9, "batch": 9})
    neighbour("old", options=None)
    neighbour("of another recording", data_sha256="0")
    neighbour("no null", shuffle_velocity=False)
    neighbour("broken", loss={})
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "metrics.json").write_text("{")
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "metrics.json").write_text("[]")
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "metrics.json")
    compared, differing = report.find_null_fits(out, metrics)
    assert compared.keys() == {"same"}
    assert compared["same"][-1].startswith(f"squared error {metrics['loss']:.3g} here")
    assert differing == {
        "a": ["alpha 0.5, here 0.2"],
        "b": ["batch 9, here 4", "input-units 9, here 3", "lr 1, here 0.01", "2 more"],
        "old": ["its options are not known"],
    }
    page = " ".join(report.null(metrics, out))
    assert "With the same options, same was fitted to the velocity of other trials" in page
    assert "not compared, since their options are others: a (alpha 0.5, here 0.2); b (" in page
    shutil.rmtree(tmp_path / "same")
    assert "No fit to the velocity of other trials with the same options" in " ".join(report.null(metrics, out))


def test_left_and_right_and_the_assumptions_are_explained(plain):
    page = text_of(plain)
    assert "Right turns are those of positive velocity, left turns those of negative velocity" in page
    assert "for left turns (negative velocity)" in page
    metrics = json.loads((plain / "metrics.json").read_text())
    for name in units.CONSTRAINTS:
        assert f"`{name}`: {units.MEANINGS[name]}" in " ".join(report.hidden(metrics | {"hidden_assumed": name}))
    for name in metrics["hidden_assumed"].split(","):
        assert f"`{name}`: {units.MEANINGS[name]}" in page


def test_doubts_about_the_fit_stand_apart_from_faults_of_the_file(plain):
    metrics = json.loads((plain / "metrics.json").read_text())
    assert metrics["fit_warnings"] == []
    rec = recordings.load(plain.parent / "mine.npz")
    more = metrics | {
        "warnings": ["mine.npz: dt is 5 s", "the weights run away"],
        "fit_warnings": ["the weights run away"],
    }
    words = report.write_sentences(rec, None, more, more["options"], plain)
    assert words["What speaks against this fit"][0] == "The weights run away"
    assert words["What is wrong with the file"] == ["mine.npz: dt is 5 s"]
    page = report.page("mine", words, [], more, more["options"])
    assert "<li class='wrong'>The weights run away" in page
    assert "<li class='wrong'>mine.npz: dt is 5 s" in page
    none = report.page("mine", {heading: [said] for heading, said in report.NOTHING.items()}, [], more, more["options"])
    assert "class='wrong'" not in none


def test_pulses_are_advised_only_where_there_were_none_and_the_total_is_known_better(plain):
    metrics, arrays = json.loads((plain / "metrics.json").read_text()), dict(np.load(plain / "connectivity.npz"))
    wide = arrays | {"W_se": np.full_like(arrays["W_se"], np.inf)}
    narrow = arrays | {"W_se": arrays["total_se"] / 2}
    assert "known current pulses do" in " ".join(report.undetermined(metrics, wide, False))
    assert "known current pulses do" not in " ".join(report.undetermined(metrics, wide, True))
    assert "known current pulses do" not in " ".join(report.undetermined(metrics, narrow, False))
    assert "A control is no estimate" in " ".join(report.undetermined(metrics, None, False))


def test_evidence_against_the_estimate_or_the_network_is_reported():
    """A response, a scale or a mechanism that the trained network has not, and neurons of which nothing is known."""
    rec = recordings.Recording(np.full((3, 40, 4), 0.5, np.float32), np.ones((3, 40, 1), np.float32), 0.01)
    nothing = estimate(rec, calibrated=False)
    sure = {"response": "rectified tanh", "mechanism": "hidden neurons", "geometry": "a ring", "gate": "found"}
    sure["description"] = "fits"
    known = replace(nothing, verdicts=sure, W=np.ones((4, 4)), W_se=np.ones((4, 4)))
    net = Network(np.zeros((6, 6)), np.zeros((1, 6)), np.zeros(6), 0.2, 4)
    said = lambda net=net, **changes: " ".join(connections.find_doubts(replace(known, **changes), net))
    assert said() == ""
    assert "the estimate says nothing" in " ".join(connections.find_doubts(nothing, net))
    some = np.where(np.arange(4) == 2, 0.0, np.ones((4, 4)))
    assert "onto 1 of 4 neurons" in said(W=some)
    assert "no interval is claimed" in said(verdicts=sure | {"description": "does not fit"})
    assert "velocity drives were recorded" in said(verdicts=sure | {"description": "cannot tell"})
    assert "likelier a softplus than a rectified tanh" in said(verdicts=sure | {"response": "softplus"})
    assert said(verdicts=sure | {"response": "cannot tell", "mechanism": "cannot tell"}) == ""
    assert "1.22 times as large as in the file" in said(scale=1.22)
    assert said(scale=1.01) == ""
    multiplied = sure | {"mechanism": "multiplied connections"}
    assert "multiplies connections" in said(verdicts=multiplied)
    assert said(net._replace(W=np.zeros((4, 4)), b=np.zeros(4)), verdicts=multiplied) == ""


def test_a_poor_fit_is_reported():
    below, above = [-0.2, -0.1], [0.1, 0.2]
    good = predicted(("1", 0.5, 90), interval={"1": (above, below)})
    assert [*report.poor(good)] == []
    assert "less than half" in next(report.poor(good | {"loss": 0.15}))
    bad = predicted(("1", 0.5, 90), ("2", 0.5, 90), interval={"1": (below, above), "2": (below, below)})
    assert [*report.poor(bad)] == ["It predicts the heading 1 s ahead worse than a bump that stays where it is."]


def test_doubts_about_a_fit_are_among_the_warnings(data, fitted, undrawn, monkeypatch):
    """Where networks from different starts disagree, that is the fit's fault and not the file's."""
    monkeypatch.setattr(diagnostics, "MIN_AGREEMENT", 2.0)
    out = fitted(data, "--replicas", "2")
    metrics = json.loads((out / "metrics.json").read_text())
    assert any("from other starts" in sentence for sentence in metrics["fit_warnings"])
    assert set(metrics["fit_warnings"]) <= set(metrics["warnings"])
    against, faults = text_of(out).split("What speaks against this fit")[1].split("What is wrong with the file")
    assert "from other starts" in against
    assert "from other starts" not in faults
    assert "Nothing was found wrong with it." in faults


def test_page_opens_in_a_browser(fitted, tmp_path):
    """Rendered by a browser as a picture: the page's words and pictures are there."""
    if BROWSER is None:
        pytest.skip("no browser is here (chromium)")
    out = fitted(cann.simulate_recording(circuits.ring(n=20, shifters=10), trials=12, steps=120))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=900,4000",
             f"--user-data-dir={tmp_path / 'browser'}"]  # fmt: skip
    picture, url = tmp_path / "page.png", (out / "report.html").resolve().as_uri()
    subprocess.run([BROWSER, *flags, f"--screenshot={picture}", url], check=True, capture_output=True, timeout=120)
    with Image.open(picture) as image:
        rows = np.asarray(image.convert("L"))
    assert (rows.min(1) < 200).mean() > 0.5  # words and figures down the page
    dom = subprocess.run([BROWSER, *flags, "--dump-dom", url], check=True, capture_output=True, text=True, timeout=120)
    assert "What was found" in dom.stdout
    assert dom.stdout.count("<img") == len(ALL)
