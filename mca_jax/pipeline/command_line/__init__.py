"""The command ``mca-jax``; the only part of the library that reads flags."""
