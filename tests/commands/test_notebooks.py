"""The notebooks: each runs from top to bottom, and is committed with its outputs."""

import time

import nbformat
import pytest
from nbclient import NotebookClient

from tests.tools import ROOT

FLIES = "experiments/flies/fly.ipynb"
DRAWN = {"test.ipynb": 6, FLIES: 7}
FIGURES = "connectivity", "tuning", "profiles", "integration", "shifters", "trust"


def executed(checkout, name, monkeypatch):
    """Execute a notebook where `jupyter execute` would. Returns: how many figures it draws."""
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("PYTHONPATH", "")
    notebook = nbformat.read(checkout / name, 4)
    where = {"metadata": {"path": str((checkout / name).parent)}}
    NotebookClient(notebook, timeout=300, resources=where).execute()
    return sum("image/png" in out.get("data", {}) for cell in notebook.cells for out in cell.get("outputs", []))


def test_every_notebook_is_looked_at():
    found = {
        str(p.relative_to(ROOT)) for p in ROOT.rglob("*.ipynb") if ".venv" not in p.parts and "runs" not in p.parts
    }
    assert {name for name in found if ".ipynb_checkpoints" not in name} == set(DRAWN)


@pytest.mark.slow
def test_notebook_runs_from_top_to_bottom(checkout, monkeypatch):
    began = time.time()
    assert executed(checkout, "test.ipynb", monkeypatch) == DRAWN["test.ipynb"]
    for name in FIGURES:
        assert (checkout / "runs" / "figures" / f"{name}.png").stat().st_mtime > began


@pytest.mark.slow
def test_fly_notebook_runs_from_top_to_bottom(checkout, outcomes, monkeypatch):
    assert executed(checkout, FLIES, monkeypatch) == DRAWN[FLIES]


@pytest.mark.parametrize("name", DRAWN)
def test_committed_notebook_has_its_outputs(name):
    cells = [c for c in nbformat.read(ROOT / name, 4).cells if c.cell_type == "code"]
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
    assert not any(out.output_type == "error" for c in cells for out in c.outputs)
    assert sum("image/png" in out.get("data", {}) for c in cells for out in c.outputs) == DRAWN[name]
