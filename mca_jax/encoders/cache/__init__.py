"""Embeddings on disk, found again by the content of the image."""
