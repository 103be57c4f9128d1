"""What the documentation names is there: functions, flags, settings, links."""

import dataclasses
import importlib
import re

import pytest
from pages import PAGES, ROOT, name_of, prose, read_blocks

from mca_jax.pipeline.command_line.flags import define_flags
from mca_jax.pipeline.command_line.main import COMMANDS
from mca_jax.pipeline.config import Config

# Flags of other programs that the pages name.
FOREIGN = {
    *("all", "command", "find-links", "local-dir", "no-build-isolation", "no-index"),
    *("nodes", "ntasks-per-node", "gpus-per-node", "time", "signal", "requeue"),
    *("no-deps", "worker", "zone"),
}
TEXTS = {name_of(path): path.read_text(encoding="utf-8") for path in PAGES}


def settings_of(value, prefix=""):
    """Names of all settings with their defaults."""
    found = {}
    for field in dataclasses.fields(value):
        own = getattr(value, field.name)
        if dataclasses.is_dataclass(own):
            found |= settings_of(own, f"{prefix}{field.name}.")
        else:
            found[prefix + field.name] = own
    return found


SETTINGS = settings_of(Config())
FLAGS = [define_flags(*command.flags) for command in COMMANDS.values()]
OWN = {name for flags in FLAGS for name in flags} | {"help", "version"}
OWN |= {f"no{name}" for flags in FLAGS for name in flags if flags[name].boolean}


@pytest.mark.parametrize("page", TEXTS)
def test_flags_are_flags_of_a_command(page):
    named = set(re.findall(r"(?<![\w-])--([a-z][a-z_-]+)", TEXTS[page]))
    assert named <= OWN | FOREIGN, named - OWN - FOREIGN


@pytest.mark.parametrize("page", TEXTS)
def test_settings_are_settings(page):
    groups = "|".join(sorted({name.split(".")[0] for name in SETTINGS if "." in name}))
    named = set(re.findall(rf"(?:--set=|[`\"'])((?:{groups})\.\w+)", TEXTS[page]))
    files = {name for name in named if name.endswith(".npz")}
    assert named - files <= set(SETTINGS), named - set(SETTINGS)


@pytest.mark.parametrize("page", TEXTS)
def test_defaults_are_the_defaults(page):
    # Rows of tables such as "| `train.epochs` | 30 | Most passes |".
    for name, shown in re.findall(r"^\| `([\w.]+)` \| ([\d.]+) \|", TEXTS[page], re.M):
        assert str(SETTINGS[name]) == shown, name


def test_some_defaults_are_shown():
    assert (
        len(re.findall(r"^\| `[\w.]+` \| [\d.]+ \|", TEXTS["docs/choosing.md"], re.M))
        > 9
    )


def resolve(name):
    """Import the longest part that is a module, and look up the rest."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            value = getattr(value, part)
        return value
    raise AssertionError(name)


@pytest.mark.parametrize("page", TEXTS)
def test_functions_and_modules_exist(page):
    for name in set(re.findall(r"`(mca_jax(?:\.\w+)+)", prose(ROOT / page))):
        resolve(name)


@pytest.mark.parametrize("page", TEXTS)
def test_launchers_and_files_exist(page):
    text = TEXTS[page]
    for name in set(re.findall(r"\b((?:experiments|benchmarks)\.[a-z_]+)\b", text)):
        assert (ROOT / f"{name.replace('.', '/')}.py").exists(), name
    for path in set(
        re.findall(r"`((?:mca_jax|experiments|benchmarks|tests)/[\w./]+)`", text)
    ):
        assert (ROOT / path).exists(), path


def anchors(path):
    """Anchors of the headings of a page, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = path.parent / name if name else path
        assert file.exists(), f"{path.name}: {target}"
        if anchor:
            assert anchor in anchors(file), f"{path.name}: {target}"


def test_every_page_is_in_the_index():
    index = TEXTS["docs/README.md"]
    for path in sorted((ROOT / "docs").glob("*.md")):
        if path.name != "README.md":
            assert f"({path.name})" in index, path.name


def test_blocks_are_read_with_their_excuses(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "Text\n\n<!-- not run: no network -->\n```bash\na\n```\n\n"
        "<!-- not run: other -->\nA line between.\n\n```python\nb\nc\n```\n"
    )
    first, second = read_blocks(page)
    assert (first.text, first.excuse, first.language) == ("a\n", "no network", "bash")
    assert (second.text, second.excuse, second.line) == ("b\nc\n", "", 11)
