"""Reads the fenced blocks of the documentation."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
# Made by benchmarks, whose own tests read them: their commands take hours.
MADE = {"convergence.md", "results.md"}
WRITTEN = [path for path in (ROOT / "docs").glob("*.md") if path.name not in MADE]
PAGES = (ROOT / "README.md", *sorted(WRITTEN))

SUBSTITUTIONS = {
    # Hub ids stand for small checkpoints of the same kind: no network here.
    "openai/clip-vit-base-patch32": str(ROOT / "tests/goldens/clip/openai"),
    "sentence-transformers/all-MiniLM-L6-v2": str(ROOT / "tests/goldens/sentence/bert"),
}

# The README has no comments for machines: what of it does not run here, and why.
EXCUSED = {
    ("README.md", "make demo"): "installs into a fresh environment; .ci/run does it",
}

_FENCE = re.compile(r"^```(\w*)$")
_EXCUSE = re.compile(r"^<!-- not run: (.+) -->$")


class Block(NamedTuple):
    """A fenced block.

    Attributes:
      page: The file, from the root of the repository.
      line: Line of its fence, from 1.
      language: What stands behind the fence.
      text: Its lines.
      excuse: Why it is not run, from the comment above it, or empty.
    """

    page: str
    line: int
    language: str
    text: str
    excuse: str

    def __str__(self) -> str:
        """Name the place."""
        return f"{self.page}:{self.line}"


def name_of(path: Path) -> str:
    """The file as messages call it."""
    inside = path.is_relative_to(ROOT)
    return path.relative_to(ROOT).as_posix() if inside else path.name


def read_blocks(path: Path) -> list[Block]:
    """Fenced blocks of a page, in order."""
    blocks, start, language, excuse = [], 0, "", ""
    page = name_of(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        fence = _FENCE.match(line)
        if start:
            if line == "```":
                text = "\n".join(lines[start : number - 1]) + "\n"
                blocks.append(Block(page, start, language, text, excuse))
                start, excuse = 0, ""
        elif fence:
            start, language = number, fence[1]
        elif line.strip():
            found = _EXCUSE.match(line)
            excuse = found[1] if found else ""
    assert not start, f"{page}:{start}: a block without an end"
    return blocks


def prose(path: Path) -> str:
    """A page without its fenced blocks."""
    text = path.read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def excuse(block: Block) -> str:
    """Why a block is not run, or nothing."""
    for (page, start), reason in EXCUSED.items():
        if block.page == page and block.text.startswith(start):
            return reason
    return block.excuse
