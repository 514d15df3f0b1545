"""The classic Keras convolutional example: conv 32 - pool - conv 64 - pool - conv 64 - dense 64 - dense."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from edgekit.models.shared.normalize import Normalize
from edgekit.models.shared.width import dropped, scaled


class Cnn(nn.Module):
    """(N, C, H, W) raw values → (N, classes) logits. 93,322 parameters at 1 x 28 x 28 and ten classes.

    3 x 3 kernels without padding, as in https://www.tensorflow.org/tutorials/images/cnn.
    `width` multiplies all `widths`; `dropout` is that before the last layer.
    """

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        widths: Sequence[int] = (32, 64, 64, 64),
        width: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        channels, *sides = shape
        a, b, c, d = scaled(widths, width)
        spatial = [((side - 2) // 2 - 2) // 2 - 2 for side in sides]
        self.normalize = Normalize(mean, std)
        self.features = nn.Sequential(
            *(nn.Conv2d(channels, a, 3), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(a, b, 3), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(b, c, 3), nn.ReLU(), nn.Flatten()),
        )
        self.head = nn.Sequential(
            *(nn.Linear(c * spatial[0] * spatial[1], d), nn.ReLU()), *dropped(dropout), nn.Linear(d, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(self.normalize(x)))
        return logits
