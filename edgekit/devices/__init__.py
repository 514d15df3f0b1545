"""Devices, one file each: the ways a target is reached."""
