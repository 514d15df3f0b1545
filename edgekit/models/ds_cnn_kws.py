"""MLPerf Tiny's keyword spotting network: a depthwise-separable CNN (https://arxiv.org/abs/1711.07128, "DS-CNN-S").

Layer by layer that of https://github.com/mlcommons/tiny, benchmark/training/keyword_spotting/keras_model.py: at 49 x 10
and twelve classes 22,604 weights and biases and 2,304 numbers of normalisation, 2,656,768 MACs.
"""

from __future__ import annotations

from torch import Tensor, nn

from edgekit.models.shared.cepstrum import Cepstrum


class DsCnnKws(nn.Module):
    """(N, frames, bands) features → (N, classes) logits.

    With `coefficients` the bands become that many cepstral ones first, so that log-mel features can be given raw.
    """

    def __init__(
        self, frames: int, bands: int, classes: int, coefficients: int = 0, width: int = 64, blocks: int = 4
    ) -> None:
        super().__init__()
        self.cepstrum = Cepstrum(bands, coefficients) if coefficients else nn.Identity()
        layers: list[nn.Module] = [
            _same(frames, coefficients or bands),
            nn.Conv2d(1, width, (10, 4), 2),
            *_after(width),
        ]
        layers.append(nn.Dropout(0.2))
        for _ in range(blocks):
            layers += [nn.Conv2d(width, width, 3, padding=1, groups=width), *_after(width)]
            layers += [nn.Conv2d(width, width, 1), *_after(width)]
        self.features = nn.Sequential(*layers, nn.Dropout(0.4))
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(self.cepstrum(x).unsqueeze(1)).mean(dim=(2, 3)))
        return logits


def _same(frames: int, bands: int) -> nn.Module:
    """What Keras calls "same" for a kernel of 10 x 4 and a stride of 2: the odd row of zeros comes last."""
    high, wide = ((-(-size // 2) - 1) * 2 + kernel - size for size, kernel in ((frames, 10), (bands, 4)))
    return nn.ZeroPad2d((wide // 2, wide - wide // 2, high // 2, high - high // 2))


def _after(width: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(width), nn.ReLU()]
