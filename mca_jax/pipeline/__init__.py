"""The whole job: settings, stages, and edits of what a run gave."""
