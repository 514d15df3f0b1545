"""A small centre-point detector (https://arxiv.org/abs/1904.07850): objects as points of a map, no anchors.

Peaks are picked, and overlapping boxes suppressed, outside the network (`ondevice/boxes.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import interpolate

from edgekit.models.shared.layers import conv
from edgekit.models.shared.normalize import Normalize


class CenterNet(nn.Module):
    """(N, C, H, W) raw values → centres (N, classes, H/4, W/4), logits, and boxes (N, 4, H/4, W/4).

    A box is its centre's distance from the cell's corner (x, y) and its size (width, height), all in cells of four
    pixels. H and W are multiples of sixteen.
    """

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        widths: Sequence[int] = (16, 32, 64, 96),
    ) -> None:
        super().__init__()
        a, b, c, d = widths
        self.normalize = Normalize(mean, std)
        self.quarter = nn.Sequential(*conv(shape[0], a, stride=2), *conv(a, b, stride=2), *conv(b, b))
        self.eighth = nn.Sequential(*conv(b, c, stride=2), *conv(c, c))
        self.sixteenth = nn.Sequential(*conv(c, d, stride=2), *conv(d, d))
        self.narrow = nn.ModuleList([nn.Sequential(*conv(d, c, 1)), nn.Sequential(*conv(c, b, 1))])
        self.neck = nn.ModuleList([nn.Sequential(*conv(c, c)), nn.Sequential(*conv(b, c))])
        self.centres = nn.Sequential(*conv(c, c), nn.Conv2d(c, classes, 1))
        self.boxes = nn.Sequential(*conv(c, c), nn.Conv2d(c, 4, 1))
        nn.init.constant_(self.centres[-1].bias, -2.19)  # type: ignore[arg-type]  # a tenth, as in the paper: most cells hold no centre
        self.size = (int(shape[1]), int(shape[2]))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.quarter(self.normalize(x))
        middle = self.eighth(fine)
        coarse = self.narrow[0](self.sixteenth(middle))
        height, width = self.size
        middle = self.neck[0](middle + interpolate(coarse, size=(height // 8, width // 8), mode="nearest"))
        coarse = self.narrow[1](middle)
        found = self.neck[1](fine + interpolate(coarse, size=(height // 4, width // 4), mode="nearest"))
        return self.centres(found), self.boxes(found)
