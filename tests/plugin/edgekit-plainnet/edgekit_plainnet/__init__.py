"""Plainnet: a network's layers and weights in one `.npz` file, run by numpy alone."""
