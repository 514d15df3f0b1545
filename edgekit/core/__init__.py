"""Records, errors, the registry, configuration and statistics: no runtime, no torch, no I/O but `core/files.py`."""
