"""Runs ``mca-jax`` in this process, where jax is imported and functions compiled."""

import contextlib
import io
import signal
import subprocess

from mca_jax.pipeline.command_line.main import main


def run_command(*arguments):
    """Exit status, standard output and error, as ``subprocess.run`` returns them."""
    words = [str(argument) for argument in arguments]
    out, err = io.StringIO(), io.StringIO()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(words)
    finally:
        signal.signal(signal.SIGTERM, handler)
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())
