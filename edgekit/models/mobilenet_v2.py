"""MobileNetV2 for small images: inverted residuals, linear bottlenecks, ReLU6 (https://arxiv.org/abs/1801.04381)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from edgekit.models.shared.normalize import Normalize

#: expansion, channels, how often, stride of the first: of the paper's table 2, without its two widest rows; an image of
#: 28 pixels is halved twice, before anything is expanded
ROWS = ((1, 16, 1, 2), (6, 24, 2, 1), (6, 32, 2, 2), (6, 64, 2, 1))


class MobilenetV2(nn.Module):
    """(N, C, H, W) raw values → (N, classes) logits. 134,250 parameters at 1 x 28 x 28 and ten classes.

    `rows`: (expansion, channels, repetitions, stride) per stage; the first convolution keeps the image's size.
    """

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        rows: Sequence[Sequence[int]] = ROWS,
        stem: int = 16,
        last: int = 256,
    ) -> None:
        super().__init__()
        self.normalize = Normalize(mean, std)
        layers: list[nn.Module] = [*_conv(shape[0], stem, kernel=3), nn.ReLU6()]
        before = stem
        for expansion, after, repetitions, stride in rows:
            for index in range(repetitions):
                layers.append(_InvertedResidual(before, after, expansion, stride if index == 0 else 1))
                before = after
        layers += [*_conv(before, last, kernel=1), nn.ReLU6()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(self.normalize(x)).mean(dim=(2, 3)))
        return logits


class _InvertedResidual(nn.Module):
    """Expand, filter by channel, project; added to its input where the shapes allow it."""

    def __init__(self, before: int, after: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = before * expansion
        layers: list[nn.Module] = [*_conv(before, wide, kernel=1), nn.ReLU6()] if expansion != 1 else []
        layers += [*_conv(wide, wide, kernel=3, stride=stride, groups=wide), nn.ReLU6(), *_conv(wide, after, kernel=1)]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


def _conv(before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(after)]
