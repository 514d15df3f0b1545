"""Compression: calibration, weight rounding, quantization-aware training and structured pruning of networks.

`calibration` collects activation statistics in each runtime and chooses ranges; `program` is a torch network as a graph
of operators, `simulation` quantizes it as an int8 runtime would; `equalization`, `gptq` and `qat` change its weights;
`channels` cuts a network and `pruning_goals` finds how much.
"""
