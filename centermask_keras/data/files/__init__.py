"""What lies on disk: annotation files, image files, shards. Stage: data."""
