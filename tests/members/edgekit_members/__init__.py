"""Members of edgekit that only its tests use."""
