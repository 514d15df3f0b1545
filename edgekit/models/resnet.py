"""A residual network for small images, as in section 4.2 of https://arxiv.org/abs/1512.03385."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from edgekit.models.shared.normalize import Normalize
from edgekit.models.shared.width import dropped, scaled


class Resnet(nn.Module):
    """(N, C, H, W) raw values → (N, classes) logits. 174,970 parameters at 1 x 28 x 28 and ten classes.

    Every stage has `blocks` pairs of 3 x 3 convolutions; all stages but the first halve the image. Where the shape
    changes, the shortcut is a 1 x 1 convolution. `width` multiplies all `widths`; `dropout` is before the last layer.
    """

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        widths: Sequence[int] = (16, 32, 64),
        blocks: int = 2,
        width: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        widths = scaled(widths, width)
        self.normalize = Normalize(mean, std)
        self.stem = nn.Sequential(*_conv(shape[0], widths[0], kernel=3), nn.ReLU())
        layers: list[nn.Module] = []
        before = widths[0]
        for stage, after in enumerate(widths):
            for index in range(blocks):
                layers.append(_Block(before, after, stride=2 if stage and not index else 1))
                before = after
        self.features = nn.Sequential(*layers)
        last = nn.Linear(before, classes)
        self.head = nn.Sequential(*dropped(dropout), last) if dropout else last

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(self.stem(self.normalize(x))).mean(dim=(2, 3)))
        return logits


class _Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *(*_conv(before, after, kernel=3, stride=stride), nn.ReLU()),
            *_conv(after, after, kernel=3),
        )
        same = stride == 1 and before == after
        self.shortcut = nn.Identity() if same else nn.Sequential(*_conv(before, after, kernel=1, stride=stride))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.branch(x) + self.shortcut(x))
        return y


def _conv(before: int, after: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(after)]
