"""Weight-only quantization of matrices: integers in blocks that share a scale, chosen with or without samples.

`codes` rounds, `moments` gathers what the samples say of a matrix's inputs, `gptq` and `awq` use it, `methods` chooses.
Pure numpy on matrices `[out, in]`; which matrices a model has, and how a file stores them, its format's step knows.
"""
