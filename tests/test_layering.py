"""The order of the packages, and where compiling, settings and devices may stand."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# In the order of the data; a package imports itself and what stands before it.
PACKAGES = (
    *("core", "data", "encoders", "semantics", "neighbors", "alignment"),
    *("training", "model", "evaluation", "report", "pipeline"),
)
# Only the command reads flags.
FLAGS = "pipeline/command_line/"
# Names of one release ago, which lead to where things are now.
SHIMS = ("config.py", "data_config.py")


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Every module of the library, by its path below ``mca_jax``."""
    folder = ROOT / "mca_jax"
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder).as_posix()
        yield name, ast.parse(path.read_text(encoding="utf-8"), filename=name)


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and full name of each import, wherever in the module it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import on line {node.lineno}"
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def test_the_folders_are_the_packages():
    folder = ROOT / "mca_jax"
    found = {path.parent.name for path in folder.glob("*/__init__.py")}
    assert found == set(PACKAGES)
    loose = {path.name for path in folder.glob("*.py")}
    assert loose == {"__init__.py", *SHIMS}


def test_imports_point_backwards():
    upwards = []
    for file, tree in modules():
        own = file.split("/")[0]
        if own not in PACKAGES:
            continue
        for line, name in imported(tree):
            first, *rest = name.split(".")
            if first == "mca_jax":
                later = rest[0] not in PACKAGES[: PACKAGES.index(own) + 1]
            else:
                later = first in ("experiments", "benchmarks", "absl")
                later &= not (first == "absl" and file.startswith(FLAGS))
            if later:
                upwards.append(f"{file}:{line} imports {name}")
    assert not upwards, "\n".join(upwards)


def test_modules_of_the_library_import_each_other_in_no_circle():
    from graphlib import TopologicalSorter

    names = {name for name, _ in modules()}

    def file_of(module: str) -> str | None:
        path = module.removeprefix("mca_jax.").replace(".", "/")
        options = (f"{path}.py", f"{path.rpartition('/')[0]}.py")
        return next((option for option in options if option in names), None)

    graph = {
        file: {
            found
            for node in tree.body
            for _, name in imported(node)
            if name.startswith("mca_jax.")
            and (found := file_of(name)) not in (None, file)
        }
        for file, tree in modules()
    }
    TopologicalSorter(graph).prepare()


def test_only_the_pipeline_reads_settings():
    readers = {
        file
        for file, tree in modules()
        for _, name in imported(tree)
        if name.startswith(("mca_jax.pipeline.config", "mca_jax.config"))
    }
    assert all(file.startswith(("pipeline/", *SHIMS, "__init__")) for file in readers)


# Where compilation and donation live; all else is left to the caller.
EDGES = {
    "alignment/forward.py",
    "core/parallel/drivers.py",
    "core/parallel/rows.py",
    "encoders/encoder.py",
    "evaluation/risk.py",
    "model/calibration.py",
    "model/predict.py",
    "neighbors/approximate.py",
    "neighbors/consensus.py",
    "neighbors/exact.py",
    "neighbors/kmeans.py",
    "neighbors/projection.py",
    "neighbors/retrieved_text.py",
    "pipeline/teach.py",
    "semantics/space.py",
    "training/corrections.py",
    "training/epochs.py",
    "training/initialization.py",
    "training/loop.py",
    "training/revival.py",
}


def test_only_the_edges_compile():
    compiling = {
        file
        for file, tree in modules()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr in ("jit", "pmap"))
        or (isinstance(node, ast.Name) and node.id in ("jit", "pmap"))
    }
    assert compiling == EDGES


def test_keys_come_first_and_have_no_default():
    for file, tree in modules():
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef):
                continue
            named = [arg.arg for arg in node.args.args if arg.arg != "self"]
            if "key" in named and node.name[0] != "_":
                assert named[0] == "key", f"{file}: {node.name}"
                assert len(node.args.defaults) < len(named), f"{file}: {node.name}"


def test_private_parts_of_jax_stay_unused():
    for file, tree in modules():
        assert all(not name.startswith("jax._src") for _, name in imported(tree)), file
