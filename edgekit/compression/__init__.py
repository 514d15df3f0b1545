"""Structured pruning: whole channels and attention heads are cut, so that every runtime has less to do.

`channels` cuts (Torch-Pruning finds what hangs together), `goals` finds how much, `widths` is how a network that was
cut is written down and built again.
"""
