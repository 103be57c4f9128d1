"""Edits of a finished clustering."""
