"""The command's help, version and mistakes, which need no run."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from mca_jax.pipeline.command_line.flags import define_flags
from mca_jax.pipeline.command_line.main import COMMANDS, main

ROOT = Path(__file__).resolve().parents[3]


def test_help_lists_the_sub_commands_and_imports_nothing_heavy():
    script = (
        "import sys; from mca_jax.pipeline.command_line.main import main\n"
        "status = main(sys.argv[1:])\n"
        "assert not {'jax', 'numpy', 'absl'} & set(sys.modules)\n"
        "sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name, command in COMMANDS.items():
        (line,) = (x for x in done.stdout.splitlines() if x.startswith(f"  {name} "))
        assert command.summary in line
        assert len(line) <= 88


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mca-jax {version('mca-jax')}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_sub_command_lists_every_flag_with_its_default(name, capsys):
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert COMMANDS[name].summary in shown
    values = define_flags(*COMMANDS[name].flags)
    for flag in values:
        hidden = flag in ("checkpoint", "none_share")
        prefix = "[no]" if values[flag].boolean else ""
        assert (f"\n  --{prefix}{flag}\n" in shown) != hidden
    count = shown.count("(default:") + shown.count("(default\n")
    assert count == shown.count("\n  --")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "No command"),
        (["clustr"], "Unknown command 'clustr'; did you mean 'cluster'?"),
        (["--images=x"], "Unknown command '--images=x'; mca-jax --help lists all"),
        (["cluster", "--imges=x"], "'--imges'; did you mean '--images'?"),
        (["predict", "--formats=csv"], "'--formats'; mca-jax predict --help lists"),
        (["cluster", "--seed=x"], "--seed=x"),
        (["cluster", "x"], "Unknown argument 'x'; every flag starts with --"),
        (["predict", "--workdir=x"], "Expected --run, found nothing"),
        (["embed", "--workdir=x"], "Expected --images, a folder, or --dataset"),
    ],
)
def test_mistakes_are_one_line(arguments, message, capsys):
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.err.startswith("Error: ")
    assert len(shown.err.splitlines()) == 1
    assert shown.out == ""


def test_old_names_of_flags_are_taken():
    values = define_flags("finished", "predict")
    values(["predict", "--checkpoint=OUT", "--none_share=0.25"])
    assert (values.run, values.outlier_quantile) == ("OUT", 0.25)
