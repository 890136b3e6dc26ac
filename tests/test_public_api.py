"""Every public name is annotated, and its docstring says what goes in and what comes out."""

import importlib
import inspect
import re
import typing

import pytest

PUBLIC = (
    "diffprog",
    "diffprog.attack",
    "diffprog.attribute",
    "diffprog.attribute.baselines",
    "diffprog.attribute.features",
    "diffprog.attribute.measures",
    "diffprog.attribute.pictures",
    "diffprog.clip",
    "diffprog.diagnosis",
    "diffprog.fit",
    "diffprog.graph",
    "diffprog.images",
    "diffprog.models",
    "diffprog.optimize",
    "diffprog.visualize",
    "diffprog.visualize.evaluation",
    "diffprog.visualize.gallery",
    "diffprog.visualize.objectives",
    "diffprog.visualize.parameterizations",
    "diffprog.visualize.penalties",
    "diffprog.visualize.transforms",
)


def functions(module):
    """(name, function) of the public functions of a module, and of the public methods of its classes."""
    for name in importlib.import_module(module).__all__:
        value = getattr(importlib.import_module(module), name)
        if inspect.isclass(value):
            for method, function in vars(value).items():
                if inspect.isfunction(function) and not method.startswith("_"):
                    yield f"{name}.{method}", function
        elif inspect.isfunction(inspect.unwrap(value)) if callable(value) else False:
            yield name, value


def parameters(function):
    """Names of the parameters that a docstring has to describe, keys of an unpacked TypedDict included."""
    for name, parameter in inspect.signature(function).parameters.items():
        if name in ("self", "cls"):
            continue
        if parameter.kind is parameter.VAR_KEYWORD and typing.get_origin(parameter.annotation) is typing.Unpack:
            yield from typing.get_args(parameter.annotation)[0].__annotations__
        else:
            yield name


def described(text):
    """Names described in a section `Args:`."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n|\n)*)", text + "\n", re.M)
    lines = section.group(1).splitlines() if section else []
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    entries = [line[indent:] for line in lines if line[indent : indent + 1].strip()]
    return {name.strip(" *`") for entry in entries for name in entry.partition(":")[0].split(",")}


@pytest.mark.parametrize("module", PUBLIC)
def test_signatures_are_annotated_and_docstrings_complete(module):
    missing = []
    for name, function in functions(module):
        signature, text = inspect.signature(function), inspect.getdoc(function) or ""
        bare = [
            p.name for p in signature.parameters.values() if p.annotation is p.empty and p.name not in ("self", "cls")
        ]
        missing += [f"{name}: {parameter} has no type" for parameter in bare]
        if signature.return_annotation is signature.empty:
            missing.append(f"{name}: no type of the result")
        missing += [f"{name}: {p} is not in Args" for p in parameters(function) if p not in described(text)]
        returns = signature.return_annotation not in (None, "None", signature.empty, typing.NoReturn)
        if returns and not re.search(r"^(Returns|Yields):", text, re.M):
            missing.append(f"{name}: no Returns")
        if not re.match(r"[A-Z`].*[.?!]$", text.partition("\n")[0]):
            missing.append(f"{name}: the first line is no sentence")
    assert missing == [], "\n".join(missing)


@pytest.mark.parametrize("module", PUBLIC)
def test_all_is_what_a_module_has(module):
    module = importlib.import_module(module)
    assert sorted(module.__all__) == sorted(set(module.__all__))
    for name in module.__all__:
        value = getattr(module, name)
        assert inspect.ismodule(value) or inspect.getdoc(value) or not callable(value), name
