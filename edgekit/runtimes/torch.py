"""PyTorch in eager mode. Needs edgekit itself to build the network, so it runs where edgekit is installed."""

from __future__ import annotations


class Torch:
    formats = ("torch",)
    package = "torch"
    extra = "torch"
    precisions = ("fp32",)
    versions = ">=2.11"
    needs_edgekit = True

    @staticmethod
    def prepare_imports():
        import torch  # noqa: F401

        import edgekit.networks  # noqa: F401

    def __init__(self, model, threads, precision, specs):
        from pathlib import Path

        import torch

        from edgekit import networks

        torch.set_num_threads(threads)
        self._network = networks.load(Path(model).parent)
        self.inputs, self.outputs = specs["inputs"], specs["outputs"]

    def bind(self, feeds):
        import torch

        network = self._network
        tensors = [torch.from_numpy(feeds[spec["name"]]) for spec in self.inputs]

        def call():
            with torch.inference_mode():
                outputs = network(*tensors)
            if isinstance(outputs, torch.Tensor):
                outputs = (outputs,)
            elif isinstance(outputs, dict):
                outputs = outputs.values()
            return [_array(value) for value in outputs if value is not None]

        return call

    def facts(self):
        import torch

        return {"runtime_version": torch.__version__}


def _array(tensor):
    """As numpy, which has no bfloat16."""
    import torch

    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()
