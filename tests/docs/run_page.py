"""Runs the blocks of one page in the present folder, in order.

python tests/docs/run_page.py PAGE
"""

import subprocess
import sys
from pathlib import Path

from pages import SUBSTITUTIONS, excuse, read_blocks

RAN = "Ran block "
"""Starts the line that tells of a block; the test counts them."""


def main(path: Path) -> None:
    """Run a page; what a block prints comes before the line that tells of it."""
    names: dict[str, object] = {"__name__": "__main__"}
    for block in read_blocks(path):
        if excuse(block):
            continue
        text = block.text
        for written, meant in SUBSTITUTIONS.items():
            text = text.replace(written, meant)
        if block.language == "python":
            # So that a traceback shows lines of the page.
            exec(compile("\n" * block.line + text, str(path), "exec"), names)
        else:
            subprocess.run(["bash", "-euo", "pipefail", "-c", text], check=True)
        sys.stdout.write(f"{RAN}{block}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
