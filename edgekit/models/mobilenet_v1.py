"""MLPerf Tiny's visual wake words network: MobileNetV1 at a quarter of its width (https://arxiv.org/abs/1704.04861).

Layer by layer that of https://github.com/mlcommons/tiny, benchmark/training/visual_wake_words/vww_model.py: at
3 x 96 x 96 and two classes 210,850 weights and biases, 10,944 numbers of normalisation, 7,489,664 MACs.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from edgekit.models.shared.normalize import Normalize

#: channels at full width and stride of each separable block
BLOCKS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1)),
)


class MobilenetV1(nn.Module):
    """(N, C, H, W) raw values → (N, classes) logits. `width` scales the channels of every layer.

    Images under 64 pixels are not halved by the first convolution, nor by the last block that would.
    """

    def __init__(
        self, shape: Sequence[int], classes: int, mean: Sequence[float], std: Sequence[float], width: float = 0.25
    ) -> None:
        super().__init__()
        small = min(shape[1:]) < 64
        self.normalize = Normalize(mean, std)
        before = int(32 * width)
        layers = _conv(shape[0], before, 3, stride=1 if small else 2)
        for channels, stride in BLOCKS:
            after = int(channels * width)
            layers += _conv(before, before, 3, stride=1 if small and channels == 1024 else stride, groups=before)
            layers += _conv(before, after, 1)
            before = after
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(self.normalize(x)).mean(dim=(2, 3)))
        return logits


def _conv(before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """With a bias, as the reference has it."""
    layer = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, groups=groups)
    return [layer, nn.BatchNorm2d(after), nn.ReLU()]
