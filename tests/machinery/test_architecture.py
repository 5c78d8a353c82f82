"""The house: arrows that point down only, and files that can be read in a sitting."""

import ast
import functools
import importlib
import re

import pytest

from tests.tools import ROOT

SCRIPTS = {"cann", "model", "train", "experiments"}
MODULES = {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p
           for p in [*ROOT.glob("*.py"), *ROOT.glob("nsi/**/*.py"), *ROOT.glob("experiments/**/*.py")]}  # fmt: skip
FLOORS = (  # of nsi, from the bottom: a room imports its own floor and those below
    "errors files sums response network geometry expansion",
    "recordings",
    "simulation",
    "estimation training hidden",
    "evaluation",
    "figures design run",
)
LINES = {"cann.py": 170, "model.py": 120, "train.py": 220}
MAX_PARAMETERS = 7  # of a function, self and cls aside


@functools.cache
def parse(module):
    """The syntax tree of a module."""
    return ast.parse(MODULES[module].read_text())


@functools.cache
def imports(module):
    """The modules of this project that a module imports, inside its functions too."""
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    named = []
    for node in ast.walk(parse(module)):
        if isinstance(node, ast.Import):
            named += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            named += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return frozenset(name for name in named if name in MODULES) - {module}


def test_imports_are_found():
    assert {"cann", "model", "train", "nsi", "nsi.network", "nsi.files"} <= MODULES.keys()
    assert {"nsi.training.losses", "nsi.hidden.units"} <= imports("model")
    assert "nsi.files" in imports("nsi.recordings")


@pytest.mark.parametrize("module", [name for name in MODULES if name.split(".")[0] == "nsi"])
def test_nsi_imports_no_script(module):
    assert not {name for name in imports(module) if name.split(".")[0] in SCRIPTS}


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("nsi.")])
def test_arrows_point_down(module):
    floors = {room: height for height, rooms in enumerate(FLOORS) for room in rooms.split()}
    room_of = lambda name: name.split(".")[1]
    assert room_of(module) in floors, "a new room needs its place in FLOORS"
    above = {name for name in imports(module) - {"nsi"} if floors[room_of(name)] > floors[room_of(module)]}
    assert not above


def functions(node, name):
    """The functions and methods in a syntax tree, nested ones too. Yields: dotted name, node."""
    for child in ast.iter_child_nodes(node):
        inner = f"{name}.{child.name}" if isinstance(child, ast.FunctionDef | ast.ClassDef) else name
        if isinstance(child, ast.FunctionDef):
            yield inner, child
        yield from functions(child, inner)


def count_parameters(function):
    a = function.args
    names = [one.arg for one in (*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg) if one is not None]
    return len([name for name in names if name not in ("self", "cls")])


@pytest.mark.parametrize("module", MODULES)
def test_functions_have_at_most_seven_parameters(module):
    found = functions(parse(module), module)
    assert not {name for name, node in found if count_parameters(node) > MAX_PARAMETERS}


COMMANDS = {"nsi.design"}  # what `python -m` runs reads a run's folder


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("nsi.")])
def test_only_runs_and_commands_import_the_machinery_of_a_run(module):
    if not module.startswith("nsi.run") and module not in COMMANDS:
        assert not {name for name in imports(module) if name.startswith("nsi.run")}


@pytest.mark.parametrize("module", MODULES)
def test_names_of_other_modules_exist(module):
    """What a module takes from another as `other.name` exists, so that a renamed class is found at once."""
    tree = parse(module)
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    called = {}  # name in this module: module that it stands for
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            called |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or package
            called |= {alias.asname or alias.name: f"{base}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            other = called.get(node.value.id)
            if other in MODULES and f"{other}.{node.attr}" not in MODULES:
                assert hasattr(importlib.import_module(other), node.attr), f"{other}.{node.attr}"


@pytest.mark.parametrize("module", ["cann", "model", "train"])
def test_scripts_import_no_experiment(module):
    assert not {name for name in imports(module) if name.startswith("experiments")}


def test_no_two_modules_import_each_other():
    """The graph of imports, packages standing for what their __init__ imports, has no circle."""
    graph, done = {name: imports(name) for name in MODULES}, set()
    for name in graph:  # a package is imported before what lies in it, unless all that it does is to gather this
        parent = name.rpartition(".")[0]
        if graph.get(parent) and not all(other.startswith(f"{parent}.") for other in graph[parent]):
            graph[name] = graph[name] | {parent} - {name}

    def visit(name, path):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, [*path, name])
            done.add(name)

    for name in graph:
        visit(name, [])


@pytest.mark.parametrize("name", LINES)
def test_scripts_can_be_read_in_a_sitting(name):
    assert len((ROOT / name).read_text().splitlines()) <= LINES[name]


def test_every_module_says_what_it_is():
    assert all(ast.get_docstring(parse(name)) for name, path in MODULES.items() if path.read_text().strip())


def test_top_holds_what_a_newcomer_sees_and_nothing_else():
    tracked = {p.name for p in ROOT.iterdir() if p.suffix in (".py", ".ipynb", ".sh", ".md", ".yaml", ".txt", ".toml")}
    assert tracked == {"README.md", "requirements.txt", "requirements-dev.txt", "train.sh", "test.ipynb", "cann.py",
                       "model.py", "train.py", "pyproject.toml"}  # fmt: skip


def test_readme_is_short():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert len(text.split()) <= 1200
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert max((len(re.findall(r"(?<!\\)\|", line)) - 1 for line in tables), default=0) <= 5


def test_every_requirement_is_imported():
    """Or run: jupyter, pytest (with xdist) and ruff are commands, hypothesis and the rest are imported by a test."""
    commands = {"jupyter", "pytest", "pytest-xdist", "ruff", "jupyterlab", "nbconvert", "ipykernel", "notebook"}
    named = {"pyyaml": "yaml", "pillow": "PIL"}
    text = "\n".join((ROOT / name).read_text() for name in ("requirements.txt", "requirements-dev.txt"))
    requirements = re.findall(r"^([A-Za-z][\w-]*)", text, re.MULTILINE)
    sources = [*MODULES.values(), *ROOT.glob("tests/**/*.py")]
    text = "\n".join(path.read_text() for path in sources)
    for name in requirements:
        module = named.get(name.lower(), name.lower().replace("-", "_"))
        assert name.lower() in commands or re.search(rf"^\s*(import|from) {module}\b", text, re.MULTILINE), name
