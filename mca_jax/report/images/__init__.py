"""Pictures of the report: thumbnails and sheets of them."""
