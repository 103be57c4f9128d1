"""Checkpoints in the layout of open_clip: its configuration, names and texts."""
