"""CLIP, SigLIP and SigLIP 2: image and text towers of checkpoints."""
