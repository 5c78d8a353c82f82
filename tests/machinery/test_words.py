"""The project's language (docs/glossary.md): words that a stranger to the project would not understand stay out."""

import ast
import re

import pytest

from tests.tools import ROOT

BANNED = re.compile(
    r"\b(told|so-manieth|so-many-th|errs|foretells?|foretold|foresees?|foreseen|carries the claim|benefit of the doubt|"
    r"what comes? of it|what came of it|pulled towards|held at the record|along the record|"
    r"nobody (knows|says|recorded)|makes of (it|the|a|z)|stands? beside|(is|are) looked (at|for))\b",
    re.IGNORECASE,
)
NAMES = {  # that say nothing of what they stand for: participles, question words, moods
    "told", "seen", "held", "hold", "who", "look", "looks", "doubted", "timed", "pace", "begun", "its", "given",
    "fewest", "asked", "tell", "untold", "foreseen", "doubts",
}  # fmt: skip
PAGES = [
    ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("data/*.md")),
    *sorted(ROOT.glob("experiments/*.md")), *sorted(ROOT.glob("experiments/*/*.md")),
    *(ROOT / name for name in ("test.ipynb", "experiments/grid/torus.ipynb", "experiments/flies/fly.ipynb")),
]  # fmt: skip
CODE = sorted(path for pattern in ("*.py", "nsi/**/*.py", "tests/**/*.py", "experiments/**/*.py")
              for path in ROOT.glob(pattern) if path.name != "test_words.py")  # fmt: skip


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def identifiers(text):
    """Names that a module defines: functions, classes, arguments, variables."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_pages_are_in_the_words_of_the_field(page):
    assert not BANNED.findall(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_code_is_in_the_words_of_the_field(path):
    text = path.read_text(encoding="utf-8")
    assert not [match.group(0) for match in BANNED.finditer(text)]
    assert not NAMES & {name.lower() for name in identifiers(text)}
