"""Devices, one file each: the transports that reach a target."""
