"""The project's language (docs/glossary.md): words that a stranger to the project would not understand stay out."""

import ast
import re

import pytest

from tests.tools import ROOT

BANNED = re.compile(
    r"\b(told|so-manieth|so-many-th|errs|foretells?|foretold|foresees?|foreseen|carries the claim|benefit of the doubt|"
    r"what comes? of it|what came of it|pulled towards|held at the record|along the record)\b",
    re.IGNORECASE,
)
PAGES = [
    ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("data/*.md")),
    *sorted(ROOT.glob("experiments/*.md")), *sorted(ROOT.glob("experiments/*/*.md")),
    *(ROOT / name for name in ("test.ipynb", "experiments/grid/torus.ipynb", "experiments/flies/fly.ipynb")),
]  # fmt: skip
UNREAD = "experiments/design/README.md", "experiments/orders/README.md"  # pages that are still to be cleaned
CLEAN = sorted(ROOT.glob("experiments/*/*.py")) + sorted(ROOT.glob("experiments/*.py"))
UNCLEAN = (  # code that is still to be cleaned
    "experiments/design/__main__.py", "experiments/estimate/cornn.py", "experiments/orders/__main__.py",
    "experiments/orders/figures.py", "experiments/orders/flies.py",
)  # fmt: skip


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def words_of(path):
    """Docstrings, comments, names and strings of a module."""
    text = path.read_text(encoding="utf-8")
    names = [node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return text + "\n" + "\n".join(names)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_pages_are_in_the_words_of_the_field(page):
    assert name_of(page) in UNREAD or not BANNED.findall(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", CLEAN, ids=name_of)
def test_clean_code_stays_in_the_words_of_the_field(path):
    assert name_of(path) in UNCLEAN or not BANNED.findall(words_of(path))
