"""MobileNetV3-small for small images: hard-swish, squeeze-and-excite (https://arxiv.org/abs/1905.02244)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from edgekit.models.shared.normalize import Normalize

#: kernel, expanded channels, channels, squeeze-and-excite, hard-swish, stride: the paper's table 2, which halves an
#: image of 224 pixels five times; one of 28 is halved three times
ROWS = (
    (3, 16, 16, 1, 0, 2),
    (3, 72, 24, 0, 0, 2),
    (3, 88, 24, 0, 0, 1),
    (5, 96, 40, 1, 1, 1),
    (5, 240, 40, 1, 1, 1),
    (5, 240, 40, 1, 1, 1),
    (5, 120, 48, 1, 1, 1),
    (5, 144, 48, 1, 1, 1),
    (5, 288, 96, 1, 1, 2),
    (5, 576, 96, 1, 1, 1),
    (5, 576, 96, 1, 1, 1),
)
#: of the paper at full width: the last convolution and the layer before the classifier
STEM, LAST, HEAD = 16, 576, 1024


class MobilenetV3(nn.Module):
    """(N, C, H, W) raw values → (N, classes) logits. 409,250 parameters at 1 x 28 x 28 and ten classes.

    `width` scales the channels of every layer, each to a multiple of eight.
    """

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        width: float = 0.5,
    ) -> None:
        super().__init__()
        self.normalize = Normalize(mean, std)
        before, last, head = (_eights(channels * width) for channels in (STEM, LAST, HEAD))
        layers: list[nn.Module] = [*_conv(shape[0], before, kernel=3), nn.Hardswish()]
        for kernel, wide, after, excite, swish, stride in ROWS:
            sizes = before, _eights(wide * width), _eights(after * width)
            layers.append(_Bottleneck(*sizes, kernel, stride, bool(excite), nn.Hardswish if swish else nn.ReLU))
            before = sizes[-1]
        self.features = nn.Sequential(*layers, *_conv(before, last, kernel=1), nn.Hardswish())
        self.head = nn.Sequential(nn.Linear(last, head), nn.Hardswish(), nn.Linear(head, classes))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(self.normalize(x)).mean(dim=(2, 3)))
        return logits


class _Bottleneck(nn.Module):
    """Expand, filter by channel, weigh the channels, project; added to its input where the shapes allow it."""

    def __init__(
        self,
        before: int,
        wide: int,
        after: int,
        kernel: int,
        stride: int,
        excite: bool,
        activation: type[nn.Module],
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [*_conv(before, wide, kernel=1), activation()] if wide != before else []
        layers += [*_conv(wide, wide, kernel, stride, groups=wide), activation()]
        layers += [_Excite(wide, _eights(wide / 4))] if excite else []
        self.layers = nn.Sequential(*layers, *_conv(wide, after, kernel=1))
        self.residual = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


class _Excite(nn.Module):
    """Weighs each channel by what all of them hold on average (https://arxiv.org/abs/1709.01507)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            *(nn.Conv2d(channels, squeezed, 1), nn.ReLU()),
            *(nn.Conv2d(squeezed, channels, 1), nn.Hardsigmoid()),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x * self.weigh(x.mean(dim=(2, 3), keepdim=True))
        return y


def _conv(before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(after)]


def _eights(channels: float) -> int:
    """The nearest multiple of eight that is not more than a tenth smaller."""
    found = max(8, int(channels + 4) // 8 * 8)
    return found if found >= 0.9 * channels else found + 8
