"""Vision transformers in timm's own layout, or within a checkpoint of open_clip."""
