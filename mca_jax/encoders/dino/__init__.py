"""DINOv2 and DINOv3: image towers that were trained without texts."""
