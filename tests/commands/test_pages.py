"""The pages: every command runs, small; every table is the measured one; every link and figure is there."""

import importlib
import json
import re
import shlex

import pytest

from tests.commands.pages import EVERY, EXAMPLES, PAGES, RUN, commands
from tests.commands.test_notebooks import DRAWN, FLIES, executed
from tests.tools import ROOT


@pytest.mark.slow
@pytest.mark.parametrize("command", RUN)
def test_command_of_a_page(command, outcome):
    assert outcome(command) is None


@pytest.mark.slow
def test_fly_notebook_runs_from_top_to_bottom(little, outcome, monkeypatch):
    for command in RUN:
        if "flies" in command:
            assert outcome(command) is None
    assert executed(little, FLIES, monkeypatch) == DRAWN[FLIES]


@pytest.mark.slow
def test_own_recording_of_the_pages_gets_no_invented_measures(little, outcome):
    assert any("mine.npz" in code for code in EXAMPLES)
    (command,) = (command for command in RUN if "--out runs/mine" in command)
    assert outcome(command) is None
    metrics = json.loads((little / "runs" / "mine" / "metrics.json").read_text())
    assert "loss" in metrics
    assert not {"r_W", "r_gate", "r_product", "frobenius_W", "coverage"} & metrics.keys()


def test_every_experiment_has_its_page_and_its_page_its_command():
    for folder in sorted(p for p in (ROOT / "experiments").iterdir() if p.is_dir() and p.name != "__pycache__"):
        page = folder / "README.md"
        assert page.exists(), folder.name
        assert f"experiments.{folder.name}" in page.read_text()
        assert any(f"experiments.{folder.name}" in line for line in commands(page)), folder.name


def test_notebooks_of_the_pages_are_there():
    named = [shlex.split(line)[-1] for line in EVERY if line.startswith("jupyter")]
    assert "test.ipynb" in named
    assert all((ROOT / name).exists() for name in named)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_modules_and_files_are_there(page):
    """Paths in backquotes that look like the project's own sources."""
    text = page.read_text()
    paths = re.findall(r"`((?:nsi|experiments|tests|docs|data)/[\w/.-]+\.(?:py|md|sh|ipynb|json|png|yaml))`", text)
    assert not [path for path in paths if not (ROOT / path).exists()]
    modules = re.findall(r"python -m (experiments(?:\.\w+)+)", text)
    for module in modules:
        place = ROOT / module.replace(".", "/")
        assert place.with_suffix(".py").exists() or (place / "__main__.py").exists(), module


TABLES = {
    "benchmark": {name: name for name in ("made", "need", "intervals", "main_table")},
    "design": {"made": "made", "kinds": "kinds"},
    "findings": {"made": "made", "table": "table"},
    "flies": {"answer": "answer", "made": "made", "table": "table"},
    "grid": {"made": "made", "table": "table"},
    "mouse": {"answer": "answer", "made": "made", "table": "table"},
    "orders": {"made": "made", "present": "present"},
    "reproduction": {"made": "made", "table": "table"},
    "unrecorded": {"made": "made", "table": "table"},
    "speed": {"made": "made", "table": "table"},
    "worm": {"auc": "table"},
}
SHORT = (
    "benchmark", "design", "findings", "flies", "grid", "mouse", "orders", "reproduction",
    "speed", "unrecorded",
)  # fmt: skip
MAX_WORDS = 400  # of a page, without its table and its code
MAX_COLUMNS = 5


def test_every_experiment_has_its_tables_looked_at():
    folders = {path.parent.name for path in ROOT.glob("experiments/*/results.json")}
    assert folders == TABLES.keys() == {path.parent.name for path in ROOT.glob("experiments/*/__main__.py")}
    for name, tables in TABLES.items():
        marked = set(re.findall(r"<!-- (?!end)(\w+) -->", (ROOT / "experiments" / name / "README.md").read_text()))
        assert marked >= tables.keys()


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_the_measured_ones(name):
    """What the experiment's own function makes of results.json stands on its page, between its marks."""
    experiment = importlib.import_module(f"experiments.{name}.__main__")
    folder = ROOT / "experiments" / name
    results, page = json.loads((folder / "results.json").read_text()), (folder / "README.md").read_text()
    assert results
    for mark, function in TABLES[name].items():
        assert f"<!-- {mark} -->\n\n{getattr(experiment, function)(results)}\n\n<!-- end -->" in page


@pytest.mark.parametrize("name", SHORT)
def test_pages_are_short(name):
    """Title, at most MAX_WORDS words, one figure and one table; the run's commit; commands."""
    text = (ROOT / "experiments" / name / "README.md").read_text()
    prose = re.sub(r"```.*?```|<!--.*?-->", "", text, flags=re.DOTALL)
    lines = [line for line in prose.splitlines() if not line.startswith("|")]
    assert len(" ".join(lines).split()) <= MAX_WORDS
    assert len(re.findall(r"^\| --- ", text, re.MULTILINE)) <= 1
    assert all(line.count(" --- |") <= MAX_COLUMNS for line in text.splitlines())
    assert len(re.findall(r"^!\[", text, re.MULTILINE)) <= 1
    assert re.search(r"[Cc]ommit:? (\*.*: )?[0-9a-f]{7}", text)


def test_further_tables_are_the_measured_ones():
    """What stands in tables.md beside a page is what the experiment's `tables` makes of results.json."""
    pages = sorted(ROOT.glob("experiments/*/tables.md"))
    assert pages
    for page in pages:
        experiment = importlib.import_module(f"experiments.{page.parent.name}.__main__")
        assert page.read_text() == experiment.tables(json.loads((page.parent / "results.json").read_text()))


def test_seconds_by_stage_are_the_measured_ones():
    from experiments.speed import stages

    results = json.loads((stages.FOLDER / "stages.json").read_text())
    page = (stages.FOLDER / "stages.md").read_text()
    tables = {"stages": stages.stage_table, "made": stages.made}
    for mark, table in tables.items():
        assert f"<!-- {mark} -->\n\n{table(results)}\n\n<!-- end -->" in page
    assert results["stages"].keys() == {*stages.STAGES}


def test_results_are_of_as_many_seeds_as_the_page_says():
    rows = json.loads((ROOT / "experiments" / "reproduction" / "results.json").read_text())
    measures = [row["r_W"] for name, row in rows.items() if name != "made"]
    assert {len(values) for values in measures} == {int(rows["made"].split()[0])}


@pytest.mark.parametrize(
    "name",
    [
        "benchmark",
        "design",
        "flies",
        "grid",
        "mouse",
        "orders",
        "speed",
        "unrecorded",
    ],
)
def test_figures_stand_on_the_pages(name):
    folder = ROOT / "experiments" / name
    figures = re.findall(r"!\[[^\]]*\]\(([^)]+\.png)\)", (folder / "README.md").read_text())
    assert figures
    assert all((folder / figure).exists() for figure in figures)
