"""Sentence encoders that encode the nouns."""
