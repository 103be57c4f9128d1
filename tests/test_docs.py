"""What the docstrings promise is there, and what is there is in the docstrings."""

import ast
import doctest
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import mca_jax

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("mca_jax", "experiments", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
)
LIBRARY = [file for file in FILES if file.startswith("mca_jax/")]

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Definition(NamedTuple):
    """A function of a file, and whether a reader of the package meets it."""

    node: Function
    owner: ast.ClassDef | None
    public: bool

    @property
    def name(self) -> str:
        """As it is written in messages: ``Class.method`` or ``function``."""
        return f"{self.owner.name}.{self.node.name}" if self.owner else self.node.name


def parse(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"), filename=file)


def module_name(file: str) -> str:
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def definitions(file: str) -> Iterator[Definition]:
    """Functions and methods of a file; not those inside functions."""
    for node in parse(file).body:
        if isinstance(node, Function):
            yield Definition(node, None, not node.name.startswith("_"))
        elif isinstance(node, ast.ClassDef):
            for child in node.body:
                if isinstance(child, Function):
                    names = (node.name, child.name)
                    public = not any(name.startswith("_") for name in names)
                    yield Definition(child, node, public)


def decorators(node: Function | ast.ClassDef) -> set[str]:
    """Last names of the decorators: ``dataclass``, ``property``, ``setter``."""
    found = set()
    for item in node.decorator_list:
        call = item.func if isinstance(item, ast.Call) else item
        found.add(ast.unparse(call).split(".")[-1])
    return found


def section(node: ast.AST, title: str) -> dict[str, str] | None:
    """Entries of one section of a Google docstring, or None without it."""
    assert isinstance(node, ast.ClassDef | Function)
    text = ast.get_docstring(node) or ""
    found = re.search(rf"^{title}:\n((?:[ \t]+.*\n?|\n)*)", text, re.MULTILINE)
    if found is None:
        return None
    body = inspect.cleandoc("\n" + found[1])
    entries = re.findall(
        r"^(\*{0,2}\w+)(?: \([^)]*\))?:(.*(?:\n[ \t]+.*|\n(?=[ \t]))*)",
        body,
        re.MULTILINE,
    )
    return {name.lstrip("*"): rest for name, rest in entries}


def parameters(function: Definition) -> list[ast.arg]:
    """Parameters as they are written, without ``self`` and ``cls``."""
    own = function.node.args
    written = [*own.posonlyargs, *own.args]
    if function.owner is not None and "staticmethod" not in decorators(function.node):
        written = written[1:]
    stars = [star for star in (own.vararg, own.kwarg) if star is not None]
    return [*written, *own.kwonlyargs, *stars]


def raised_here(function: Function) -> tuple[set[str], set[str]]:
    """Classes that a body raises by name, and names of what it calls.

    Nested functions speak for themselves, and what comes up under a ``try`` with
    handlers may be caught there.
    """
    names, calls = set(), set()
    pending: list[tuple[ast.AST, bool]] = [(node, False) for node in function.body]
    while pending:
        node, guarded = pending.pop()
        if isinstance(node, Function | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(node, ast.Raise) and node.exc is not None and not guarded:
            what = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            name = ast.unparse(what).split(".")[-1]
            if name.lstrip("_")[0].isupper():
                names.add(name)
        if isinstance(node, ast.Call) and not guarded:
            calls.add(ast.unparse(node.func))
        tried = node.body if isinstance(node, ast.Try) and node.handlers else []
        inside = set(map(id, tried))
        pending.extend(
            (child, guarded or id(child) in inside)
            for child in ast.iter_child_nodes(node)
        )
    return names, calls


def raised(file: str) -> dict[str, set[str]]:
    """What each function of a file raises, itself or through private helpers.

    Of what a helper raises only bad input counts: the rest are invariants of ours
    that no caller meets.
    """
    own = {each.name: raised_here(each.node) for each in definitions(file)}
    found = {name: set(names) for name, (names, _) in own.items()}
    # As many rounds as the longest chain of helpers could need.
    for _ in own:
        for name, (_, calls) in own.items():
            for call in calls & set(own):
                if call.startswith("_"):
                    found[name] |= found[call] & {"InputError"}
    return found


def is_key(parameter: ast.arg) -> bool:
    """Whether a parameter is a random key, by its name or its type."""
    kind = ast.unparse(parameter.annotation) if parameter.annotation else ""
    is_type = kind.split(".")[-1] == "PRNGKey" or kind.startswith("Key[")
    return parameter.arg == "key" or is_type


def example_files() -> list[str]:
    return [file for file in LIBRARY if ">>> " in (ROOT / file).read_text("utf-8")]


@pytest.mark.parametrize("file", FILES)
def test_fields_are_documented(file):
    for node in ast.walk(parse(file)):
        if not isinstance(node, ast.ClassDef):
            continue
        bases = {ast.unparse(base).split(".")[-1] for base in node.bases}
        if "NamedTuple" not in bases and "dataclass" not in decorators(node):
            continue
        fields = [
            item.target.id
            for item in node.body
            if isinstance(item, ast.AnnAssign)
            and isinstance(item.target, ast.Name)
            and not ast.unparse(item.annotation).startswith("ClassVar")
        ]
        told = list(section(node, "Attributes") or {})
        assert told == fields, f"{file}: {node.name}: Attributes: {told} for {fields}"


@pytest.mark.parametrize("file", FILES)
def test_what_is_raised_is_documented(file):
    found = raised(file)
    for function in definitions(file):
        names = found[function.name]
        if function.public and names:
            told = section(function.node, "Raises")
            where = f"{file}: {function.name}"
            assert told is not None, f"{where} raises {names} but has no Raises:"
            assert names <= set(told), f"{where} raises {names}, documents {set(told)}"


@pytest.mark.parametrize("file", FILES)
def test_public_functions_are_documented(file):
    for function in definitions(file):
        kinds = decorators(function.node)
        if not function.public or kinds & {"overload", "setter"}:
            continue
        where = f"{file}: {function.name}"
        assert ast.get_docstring(function.node), f"{where} has no docstring"
        names = [parameter.arg for parameter in parameters(function)]
        told = list(section(function.node, "Args") or {})
        assert told == names, f"{where} takes {names} but documents {told}"
        result = function.node.returns
        gives = result is not None and ast.unparse(result) not in ("None", "NoReturn")
        if gives and not kinds & {"property", "cached_property"}:
            text = ast.get_docstring(function.node) or ""
            assert re.search(r"^(Returns|Yields):\n", text, re.MULTILINE), (
                f"{where} has no Returns:"
            )


@pytest.mark.parametrize("file", LIBRARY)
def test_functions_are_annotated(file):
    for function in definitions(file):
        where = f"{file}: {function.name}"
        assert function.node.returns is not None, f"{where} has no return annotation"
        bare = [p.arg for p in parameters(function) if p.annotation is None]
        assert not bare, f"{where}: {bare} have no annotation"


@pytest.mark.parametrize("file", FILES)
def test_keys_come_first_without_default(file):
    for function in definitions(file):
        own = function.node.args
        keys = [each.arg for each in parameters(function) if is_key(each)]
        if not function.public or not keys:
            continue
        where = f"{file}: {function.name}"
        assert keys == ["key"], f"{where}: the key is called {keys}"
        first = parameters(function)[0].arg
        assert first == "key", f"{where}: key comes after {first}"
        positional = len(own.posonlyargs) + len(own.args)
        assert own.defaults == [] or len(own.defaults) < positional, (
            f"{where}: key has a default"
        )


@pytest.mark.parametrize("file", example_files())
def test_examples_run(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(module_name(file))
    assert any(test.examples for test in doctest.DocTestFinder().find(module))
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("name", getattr(mca_jax, "__all__", ()))
def test_what_a_reader_meets_first_has_an_example(name):
    member = getattr(mca_jax, name)
    if inspect.isfunction(member) or inspect.isclass(member):
        text = inspect.getdoc(member) or ""
        assert re.search(r"^Example:\n\s+>>> ", text, re.MULTILINE), (
            f"{name} has no Example:"
        )
