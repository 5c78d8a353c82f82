"""The notebooks: each runs from top to bottom, two of them in the tests of what they draw, the commands and the pages;
and each is committed with its outputs."""

import json
import shutil

import pytest

import cann
from nsi import recordings
from nsi.simulation import circuits
from tests.tools import ROOT

FLIES = "experiments/flies/fly.ipynb"
TORUS = "experiments/grid/torus.ipynb"
DRAWN = {"test.ipynb": 7, FLIES: 7, TORUS: 5}


def executed(checkout, name, monkeypatch):
    """Execute a notebook where `jupyter execute` would. Returns: how many figures it draws."""
    import nbformat  # slow to import
    from nbclient import NotebookClient

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
def test_torus_notebook_runs_from_top_to_bottom(tmp_path, run, monkeypatch):
    """On a small sheet, fitted hardly at all."""
    (tmp_path / TORUS).parent.mkdir(parents=True)
    for name in ("train.py", "model.py", TORUS):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "nsi", tmp_path / "nsi")
    (tmp_path / "data").mkdir()
    data = cann.simulate_recording(circuits.grid(8), trials=30, steps=300)
    recordings.save(tmp_path / "data" / "grid.npz", **data)
    small = "--updates 20 --batch 4 --window 20 --input-units 12 --wandb disabled"
    run(tmp_path, f"python train.py --data data/grid.npz --out runs/grid {small}", OMP_NUM_THREADS="1")
    assert executed(tmp_path, TORUS, monkeypatch) == DRAWN[TORUS]


@pytest.mark.parametrize("name", DRAWN)
def test_committed_notebook_has_its_outputs(name):
    cells = [c for c in json.loads((ROOT / name).read_text("utf-8"))["cells"] if c["cell_type"] == "code"]
    assert [c["execution_count"] for c in cells] == list(range(1, len(cells) + 1))
    assert not any(out["output_type"] == "error" for c in cells for out in c["outputs"])
    assert sum("image/png" in out.get("data", {}) for c in cells for out in c["outputs"]) == DRAWN[name]
    assert (ROOT / name).stat().st_size < 2 * 2**20
