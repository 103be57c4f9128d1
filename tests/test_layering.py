"""The shape of the code, read from its syntax: order, sizes, names, strings."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Lowest first; a module imports only from lines above its own. Names on one line
# are siblings and do not import each other, but for the first line's.
LAYERS = (
    (
        *("types", "checks", "numerics", "plain", "progress", "result"),
        *("model", "tables", "listener", "data_config"),
        "encoder_config",
        *("interrupts", "checkpoint_config", "scratch"),
    ),
    ("config", "parallel"),
    ("workdir",),
    ("manifest",),
    ("data",),
    ("encoders",),
    ("semantics",),
    ("datasets",),
    ("retrieval",),
    ("heads",),
    ("losses",),
    ("training",),
    ("snapshot_arrays",),
    ("checkpoint", "evaluation", "placement"),
    ("naming",),
    ("artifact", "reading"),
    ("model_files",),
    ("report",),
    ("prediction", "outputs"),
    ("neighborhood", "starts"),
    ("stages", "embedding", "counting", "given"),
    ("summary", "assembly", "resume", "baselines", "calibration"),
    ("clustering",),
    ("example",),
    ("renaming", "export", "held_out"),
    ("refine",),
    ("mca_jax",),
    ("experiments",),
)
LEVELS = {name: level for level, names in enumerate(LAYERS) for name in names}

ONLY_IN = {
    "absl": ("experiments/",),
    "flax": ("mca_jax/heads/", "mca_jax/encoders/"),
    "orbax": ("mca_jax/checkpoint.py",),
}

# Where compilation, donation and sharding live; all else is left to the caller.
EDGES = (
    "mca_jax/training/loop.py",
    "mca_jax/evaluation/evaluator.py",
    "mca_jax/encoders/rows.py",
    "mca_jax/training/assign.py",
    "mca_jax/training/spread.py",
    "mca_jax/parallel/drivers.py",
    "mca_jax/retrieval/neighbors.py",
    "mca_jax/retrieval/cells.py",
    "mca_jax/retrieval/streamed.py",
    "mca_jax/retrieval/kmeans.py",
    "mca_jax/retrieval/smoothing.py",
    "mca_jax/semantics/space.py",
    "mca_jax/prediction.py",
)

MODULE_LINES = 400
FUNCTION_LINES = 60
MAIN_LINES = 80
PUBLIC_NAMES = 12


def python_files(*folders: str) -> list[str]:
    """Python files of the given folders, relative to the root."""
    return sorted(
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
    )


LIBRARY = python_files("mca_jax")
CODE = python_files("mca_jax", "experiments", "benchmarks")


def read(file: str) -> str:
    return (ROOT / file).read_text(encoding="utf-8")


def parse(file: str) -> ast.Module:
    return ast.parse(read(file), filename=file)


def module_name(file: str) -> str:
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def exists(module: str) -> bool:
    path = ROOT / module.replace(".", "/")
    return path.with_suffix(".py").exists() or path.is_dir()


def imports(tree: ast.AST, file: str) -> Iterator[str]:
    """Full names of the imported modules, wherever in the file they stand."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: relative import"
            assert node.module is not None
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                own = node.module.split(".")[0] in ("mca_jax", "experiments")
                yield full if own and exists(full) else node.module


def layer(module: str) -> str:
    """The name under which a module stands in ``LAYERS``."""
    first, *rest = module.split(".")
    return rest[0] if first == "mca_jax" and rest else first


def top_level(tree: ast.Module) -> Iterator[ast.stmt]:
    """Statements that run at import, also inside ``if`` and ``try``."""
    pending = list(tree.body)
    while pending:
        node = pending.pop(0)
        yield node
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt) and not isinstance(
                node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
            ):
                pending.append(child)


def bound_names(tree: ast.Module) -> tuple[set[str], set[str]]:
    """Names bound at the top level: those made here, and those imported."""
    made, imported = set(), set()
    for node in top_level(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                made.add(node.name)
            case ast.Assign(value=ast.Call(func=ast.Name(id="TypeVar"))):
                # A helper of signatures, not a name that anyone imports.
                pass
            case ast.Assign(targets=targets):
                made |= {name.id for name in targets if isinstance(name, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                made.add(name)
            case ast.Import() | ast.ImportFrom():
                imported |= {
                    (alias.asname or alias.name).split(".")[0] for alias in node.names
                }
    return made, imported


def stated_exports(tree: ast.Module) -> list[str] | None:
    """The list under ``__all__``, or None."""
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                return ast.literal_eval(value)
    return None


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef, source: str) -> int:
    """Lines of a function that hold code: no docstring, comment or blank."""
    lines = set()
    first, last = function.lineno, function.end_lineno or function.lineno
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if first <= token.start[0] <= last and token.type not in (
            tokenize.COMMENT,
            tokenize.NL,
            tokenize.NEWLINE,
            tokenize.INDENT,
            tokenize.DEDENT,
        ):
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(function):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            text = node.body[0]
            if ast.get_docstring(node, clean=False) is not None:
                lines -= set(range(text.lineno, (text.end_lineno or 0) + 1))
    return len(lines)


def test_there_is_code_to_check():
    assert "mca_jax/checks.py" in LIBRARY


@pytest.mark.parametrize("file", python_files("mca_jax", "experiments"))
def test_imports_point_backwards(file):
    own = layer(module_name(file))
    assert own in LEVELS, f"{file}: {own!r} has no place in the order of layers"
    for name in imports(parse(file), file):
        if name.split(".")[0] not in ("mca_jax", "experiments"):
            continue
        other = layer(name)
        base = LEVELS[own] == LEVELS[other] == 0
        assert other == own or base or LEVELS[other] < LEVELS[own], (
            f"{file} ({own}) imports {name}, which comes later or beside it"
        )


def test_no_cycles_within_packages():
    graph = {}
    for file in LIBRARY:
        tree = ast.Module(list(top_level(parse(file))), [])
        wanted = {
            name
            for node in tree.body
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in imports(node, file)
            if name.startswith("mca_jax.")
        }
        graph[module_name(file)] = wanted - {module_name(file)}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("file", CODE)
def test_only_some_modules_import(file):
    for name in imports(parse(file), file):
        allowed = ONLY_IN.get(name.split(".")[0])
        if allowed is not None and not file.startswith("benchmarks/"):
            assert file.startswith(allowed), f"{file} imports {name}"


@pytest.mark.parametrize("file", LIBRARY)
def test_only_edges_compile(file):
    compiling = ("jit", "pjit", "pmap", "filter_jit")
    found = [
        node.lineno
        for node in ast.walk(parse(file))
        if (isinstance(node, ast.Attribute) and node.attr in compiling)
        or (isinstance(node, ast.Name) and node.id in compiling)
    ]
    assert not found or file in EDGES, f"{file} compiles on lines {found}"


@pytest.mark.parametrize("file", CODE)
def test_modules_are_short(file):
    lines = len(read(file).splitlines())
    assert lines <= MODULE_LINES, f"{file} has {lines} lines"


@pytest.mark.parametrize("file", CODE)
def test_functions_are_short(file):
    source = read(file)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            limit = MAIN_LINES if node.name == "main" else FUNCTION_LINES
            lines = code_lines(node, source)
            assert lines <= limit, f"{file}: {node.name} has {lines} lines of code"


@pytest.mark.parametrize("file", CODE)
def test_public_names_are_stated_and_few(file):
    tree = parse(file)
    exports = stated_exports(tree)
    made, imported = bound_names(tree)
    package = file.endswith("/__init__.py")
    if package and exports is None:
        assert not made | imported, f"{file} binds names but has no __all__"
        return
    assert exports is not None, f"{file} has no __all__"
    assert len(exports) == len(set(exports)), f"{file}: a name twice in __all__"
    missing = set(exports) - made - imported
    assert not missing, f"{file}: __all__ names {missing}, which are not there"
    hidden = {name for name in made if not name.startswith("_")} - set(exports)
    assert not hidden, f"{file}: {hidden} public but not in __all__"
    if not package:
        assert len(exports) <= PUBLIC_NAMES, f"{file}: {len(exports)} public names"


@pytest.mark.parametrize("file", CODE)
def test_annotations_are_not_evaluated(file):
    if not file.endswith("/__init__.py"):
        assert "from __future__ import annotations" in read(file), file


@pytest.mark.parametrize("file", CODE)
def test_comments_are_sentences(file):
    for token in tokenize.generate_tokens(io.StringIO(read(file)).readline):
        if token.type == tokenize.COMMENT:
            assert not re.search(r"[-=#*~_+]{4,}", token.string), (
                f"{file}:{token.start[0]}: banner {token.string!r}"
            )


@pytest.mark.parametrize("file", CODE)
def test_nothing_is_left_to_do(file):
    found = re.search(r"\b(TODO|FIXME|XXX|HACK)\b|NotImplementedError", read(file))
    assert found is None, f"{file}: {found}"


def shipped_texts() -> list[str]:
    """All texts that a user gets, relative to the root."""
    patterns = ("mca_jax/**/*", "experiments/**/*", "docs/**/*", "*", ".ci/run")
    suffixes = ("", ".py", ".md", ".html", ".css", ".js", ".j2", ".toml", ".yaml")
    return sorted(
        {
            path.relative_to(ROOT).as_posix()
            for pattern in patterns
            for path in ROOT.glob(pattern)
            if path.is_file() and path.suffix in suffixes and path.name != ".git"
        }
    )


@pytest.mark.parametrize("file", shipped_texts())
def test_no_path_of_one_machine(file):
    for line, text in enumerate(read(file).splitlines(), 1):
        found = re.search(r"/work/|/tmp/|\bshared/|/home/|/root/", text)
        assert found is None, f"{file}:{line}: {text.strip()}"
