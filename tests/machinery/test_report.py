"""The page of a fit: its words against the measures, its figures, and that it needs nothing else and opens."""

import base64
import html
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

import cann
import train
from nsi import circuits, portrait, report
from tests.tools import GOOD, TINY, call

ALL = {"recording", "prediction", "error", "connectivity", "profiles", "inputs"}
DRAWN = [option for option in TINY if option != "--no-report"]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


@pytest.fixture(scope="module")
def data():
    """A recording of a circuit smaller than other tests', since most of these fit it."""
    return cann.simulate_recording(circuits.ring(n=24, shifters=12), seed=1, trials=20, steps=300)


@pytest.fixture
def fitted(save, tmp_path, monkeypatch, capsys):
    """Fit a data file small. Returns: the run's folder; keyword `out` names it."""

    def run(data, *options, out="run"):
        arguments = ["--data", save(data), "--out", tmp_path / out, *DRAWN, "--window", "20", *options]
        status, error = call(train, monkeypatch, capsys, *arguments)
        assert status == 0, error
        assert "no report" not in error
        return tmp_path / out

    return run


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
    for heading in ("What was found", "How far to trust it", "What is not determined", "What is wrong with the file"):
        assert heading in page
    assert max(row["samples"] for row in metrics["heading_error"].values()) < 20
    assert "Held-out trials are too few or too short" in page
    assert f"{1 - metrics['identifiable_fraction']:.0%} of the pairs" in page
    assert f"r {metrics['turning']['r']:.2f} over half a second" in page
    assert "Nothing was found wrong with it." in page
    assert "no evidence" in page
    assert drawn(plain) == ALL


def test_what_is_drawn_of_connections_is_what_the_data_tell():
    """Without pulses the sum of both paths, with them, or without hidden units, direct weights."""
    numbers, nowhere = np.ones((3, 3)), np.full((3, 3), np.inf)
    found = {"W_unbiased": numbers, "total": 2 * numbers, "W_se": nowhere, "total_se": numbers}
    name, estimate, se = portrait.claimed(found)
    assert name == "total"
    assert estimate is found["total"]
    assert se is found["total_se"]
    for errors in ({"W_se": numbers, "total_se": nowhere}, {"W_se": numbers}, {"W_se": nowhere, "total_se": nowhere}):
        name, estimate, se = portrait.claimed(found | errors)
        assert name == "W"
        assert se is errors["W_se"]


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


def test_warnings_are_on_the_page_and_their_letters_are_no_tags(data, fitted):
    out = fitted(data | {"velocity": np.rad2deg(data["velocity"])}, out="a <b>")
    assert "as if it were in deg/s" in text_of(out)
    assert "Nothing was found wrong" not in text_of(out)
    assert "<b>:" not in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("change", "options", "missing"),
    [
        ({}, ["--control"], {"inputs"}),
        ({}, ["--no-errors"], {"profiles"}),
        ({}, ["--replicas", "3", "--bootstrap"], set()),
        ({"heading": None}, [], set()),
        ({"fly": np.arange(20) % 4}, ["--bootstrap", "--replicas", "2"], set()),
        ({"lengths": np.arange(20) * 10 + 100}, [], set()),
        ({"velocity": "constant"}, [], set()),
    ],
)
def test_it_is_drawn_of_any_fit(change, options, missing, data, fitted):
    if "velocity" in change:
        change = {"velocity": 0 * data["velocity"]}
    out = fitted(data | change, *options)
    assert drawn(out) == ALL - missing
    assert "What was found" in text_of(out)


@pytest.mark.parametrize("neurons", [1, 2, 3, 7])
def test_it_is_drawn_of_few_neurons_and_trials(neurons, fitted):
    out = fitted({k: v if k == "dt" else v[..., :neurons] for k, v in GOOD.items()}, "--window", "10")
    assert drawn(out) == ALL


def test_it_is_drawn_of_one_long_session(data, fitted):
    one = {k: data[k].reshape(1, -1, data[k].shape[-1]) for k in ("rates", "velocity", "heading")}
    assert drawn(fitted(one | {"dt": 0.01})) == ALL


def test_it_is_drawn_where_nothing_fires_for_long(data, fitted):
    rates = data["rates"].copy()
    rates[:, 100:] = 0
    assert drawn(fitted(data | {"rates": rates})) == ALL


def test_stale_figures_go_and_none_are_drawn_on_request(data, plain, fitted, tmp_path):
    shutil.copytree(plain, tmp_path / "run")
    assert drawn(fitted(data, "--control", "--overwrite")) == ALL - {"inputs"}
    out = fitted(data, "--no-report", out="quiet")
    assert not (out / "figures").exists()
    assert not (out / "report.html").exists()
    assert drawn(fitted(data, "--resume", out="quiet")) == ALL  # drawing is no other fit


def test_null_fit_stands_beside_the_fit(data, plain, fitted, tmp_path):
    out = shutil.copytree(plain, tmp_path / "mine")
    assert "No fit to velocity of other trials lies beside this one" in text_of(out)
    null = fitted(data, "--shuffle-velocity", out="null")
    fitted(data, "--shuffle-velocity", "--control", out="of a control")
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (out, null)]
    assert [m["shuffle_velocity"] for m in metrics] == [False, True]
    assert abs(metrics[1]["turning"]["r"]) < 0.4 < metrics[0]["turning"]["r"]
    assert metrics[1]["warnings"] == []
    assert "This is a null model" in text_of(null)
    assert "mine was fitted to the recorded velocity" in text_of(null)
    fitted(data, "--resume", out="mine")
    page = text_of(out)
    assert "null was fitted to velocity of other trials" in page
    assert "of a control was" not in page
    assert f"{metrics[1]['loss']:.3g} there" in page


def test_drawing_that_fails_costs_nothing_else(data, save, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "page", lambda *_: 1 / 0)
    status, error = call(train, monkeypatch, capsys, "--data", save(data), "--out", tmp_path / "run", *DRAWN)
    assert status == 0
    assert "no report, since drawing it failed (division by zero)" in error
    assert (tmp_path / "run" / "metrics.json").exists()


def test_words_about_a_prediction():
    table = {s: {"error": 0.5, "integrator": 0.4, "stay": 0.9, "samples": n} for s, n in (("0.25", 90), ("1", 19))}
    m = {"heading_error": table, "variance": 0.2, "loss": 0.05}
    first, second = report.predictions(m)
    assert "0.25 s ahead with a mean error of 0.50 rad (29°): better than a bump that stays alone" in first
    assert "75% of the variance" in second
    table["0.25"]["samples"] = 3
    assert "too few or too short" in next(report.predictions(m))
    table["0.25"] |= {"samples": 30, "error": 1.0}
    assert "no better than either" in next(report.predictions(m))


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
