"""Model formats, one file each: reading a model file without running it."""
