"""MLPerf Tiny's image classification network: ResNet-8 (https://arxiv.org/abs/1512.03385, shortened).

Layer by layer that of https://github.com/mlcommons/tiny, benchmark/training/image_classification/keras_model.py: at
3 x 32 x 32 and ten classes 77,706 weights and biases, 960 numbers of normalisation, 12,501,632 MACs.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from edgekit.models.shared.normalize import Normalize


class Resnet8(nn.Module):
    """(N, C, H, W) raw values → (N, classes) logits."""

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        widths: Sequence[int] = (16, 32, 64),
    ) -> None:
        super().__init__()
        first = widths[0]
        self.normalize = Normalize(mean, std)
        self.stem = nn.Sequential(nn.Conv2d(shape[0], first, 3, padding=1), nn.BatchNorm2d(first), nn.ReLU())
        before = [first, *widths]
        self.blocks = nn.ModuleList(
            _Block(b, a, 1 + (i > 0)) for i, (b, a) in enumerate(zip(before, widths, strict=False))
        )
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(self.normalize(x))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


class _Block(nn.Module):
    """Two convolutions beside the input, or beside a plain 1 x 1 convolution of it where the size changes."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(before, after, 3, stride, padding=1), nn.BatchNorm2d(after), nn.ReLU()),
            *(nn.Conv2d(after, after, 3, padding=1), nn.BatchNorm2d(after)),
        )
        self.shortcut = nn.Conv2d(before, after, 1, stride) if stride > 1 else nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.layers(x) + self.shortcut(x))
        return y
