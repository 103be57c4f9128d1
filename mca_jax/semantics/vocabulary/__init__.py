"""Nouns and their hierarchy: WordNet, NLTK, text files, lists of one's own."""
