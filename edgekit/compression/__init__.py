"""Compression algorithms: structured pruning, calibration, equalization, GPTQ and quantization-aware training.

`channels` prunes channels and attention heads (Torch-Pruning finds the dependencies), and `pruning_goals` searches the
ratio; a pruned network is saved as its widths (`edgekit.networks.widths`).
"""
