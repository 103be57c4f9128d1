"""Docstrings: examples run, and nothing is promised that isn't there.

That everything public has a docstring of the right form is the linter's work.
"""

import ast
import doctest
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mca_jax

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("mca_jax", "experiments", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
)
WITH_EXAMPLES = [file for file in FILES if ">>> " in (ROOT / file).read_text("utf-8")]

Function = ast.FunctionDef | ast.AsyncFunctionDef


def documented(file: str) -> Iterator[ast.ClassDef | Function]:
    """Classes and functions of a file that have a docstring."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"), filename=file)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | Function) and ast.get_docstring(node):
            yield node


def section(node: ast.ClassDef | Function, title: str) -> list[str]:
    """Names that one section of a Google docstring describes."""
    text = ast.get_docstring(node) or ""
    found = re.search(rf"^{title}:\n((?:[ \t]+.*\n?|\n)*)", text, re.MULTILINE)
    if found is None:
        return []
    body = inspect.cleandoc("\n" + found[1])
    return re.findall(r"^\*{0,2}(\w+)(?: \([^)]*\))?:", body, re.MULTILINE)


def parameters(node: Function) -> set[str]:
    own = node.args
    stars = [star for star in (own.vararg, own.kwarg) if star is not None]
    every = [*own.posonlyargs, *own.args, *own.kwonlyargs, *stars]
    return {each.arg for each in every}


def fields(node: ast.ClassDef) -> set[str]:
    """Names that a class or its methods bind."""
    bound = {
        item.target.id
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    }
    # Members of an enumeration.
    for item in node.body:
        if isinstance(item, ast.Assign):
            bound |= {each.id for each in item.targets if isinstance(each, ast.Name)}
    for item in ast.walk(node):
        if isinstance(item, ast.Attribute) and ast.unparse(item.value) == "self":
            bound.add(item.attr)
        elif isinstance(item, Function):
            bound.add(item.name)
    return bound


def test_described_arguments_and_fields_are_there():
    strange = []
    for file in FILES:
        for node in documented(file):
            if isinstance(node, ast.ClassDef):
                unknown = set(section(node, "Attributes")) - fields(node)
            else:
                unknown = set(section(node, "Args")) - parameters(node)
            strange += [f"{file}: {node.name} has no {name}" for name in unknown]
    assert not strange, "\n".join(strange)


@pytest.mark.parametrize("file", WITH_EXAMPLES)
def test_examples_run(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    module = importlib.import_module(name)
    assert any(test.examples for test in doctest.DocTestFinder().find(module))
    assert doctest.testmod(module).failed == 0


def test_what_a_reader_meets_first_has_an_example():
    without = []
    for name in mca_jax.__all__:
        member = getattr(mca_jax, name)
        if inspect.isfunction(member) or inspect.isclass(member):
            text = inspect.getdoc(member) or ""
            if not re.search(r"^Example:\n\s+>>> ", text, re.MULTILINE):
                without.append(name)
    assert not without


def test_no_path_of_one_machine():
    patterns = ("mca_jax/**/*", "experiments/**/*", "docs/**/*", "*", ".ci/run")
    suffixes = ("", ".py", ".md", ".html", ".css", ".js", ".j2", ".toml", ".yaml")
    found = []
    for pattern in patterns:
        for path in ROOT.glob(pattern):
            if not path.is_file() or path.suffix not in suffixes or path.name == ".git":
                continue
            for line, text in enumerate(path.read_text("utf-8").splitlines(), 1):
                if re.search(r"/work/|/tmp/|\bshared/|/home/|/root/", text):
                    found.append(f"{path}:{line}: {text.strip()}")
    assert not found, "\n".join(found)
