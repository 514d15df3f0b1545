"""Runtimes, one file each: what executes a format, on this host and on a device alike."""
