"""The embedded encoder: EfficientNet-Lite and its nouns."""
