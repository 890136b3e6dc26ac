"""Imports point down, from upper floors to lower ones, and no two modules import each other."""

import ast
import graphlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "diffprog"
FLOORS = [  # the lowest first; packages of one floor may import each other, as long as no cycle comes of it
    ["_util", "_kernels"],
    ["_jax_internals"],
    ["_tracer"],
    ["_rules"],
    ["_transforms"],
    ["graph", "_comparison", "images"],
    ["diagnosis", "optimize", "models"],
    ["fit", "attack", "visualize", "attribute", "clip"],
    ["__init__"],  # the public face, which commands use as anyone does
    ["cli"],
    ["__main__"],
]
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}


def module_name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def run_on_import(node):
    """The statements of a module that run when it is imported by Python, not by a type checker."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from run_on_import(child)


def imported(name):
    """Modules of the package that a module imports when it is imported."""
    for node in run_on_import(MODULES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            assert node.level == 0, f"{name}: imports are absolute"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (x if x in MODULES else node.module for x in inner)


IMPORTS = {name: {x for x in imported(name) if x != name} for name in MODULES}


def package(name):
    return name.split(".")[1] if "." in name else "__init__"


def test_imports_point_down():
    assert {package(name) for name in MODULES} <= set(FLOOR), "a package has no floor"
    edges = {(name, other) for name, others in IMPORTS.items() for other in others}
    upward = {(a, b) for a, b in edges if FLOOR[package(a)] < FLOOR[package(b)]}
    assert upward == set()


@pytest.mark.parametrize("name_of", [str, package], ids=["modules", "packages"])
def test_no_cycles(name_of):
    graph = {}
    for name, others in IMPORTS.items():
        graph.setdefault(name_of(name), set()).update(name_of(x) for x in others if name_of(x) != name_of(name))
    graphlib.TopologicalSorter(graph).prepare()


def test_no_module_is_imported_by_a_string():
    """But by the public face and the command line, which load what is asked for."""
    found = [name for name, tree in MODULES.items() if "import_module" in ast.unparse(tree)]
    assert [name for name in found if package(name) not in ("__init__", "cli")] == []
