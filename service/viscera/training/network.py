"""A small 3-D U-Net: convolution, instance norm, leaky ReLU, twice a level."""

import torch
from torch import nn


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    layers: list[nn.Module] = []
    for first, step in ((inputs, stride), (outputs, 1)):
        layers += [
            nn.Conv3d(first, outputs, 3, stride=step, padding=1, bias=False),
            nn.InstanceNorm3d(outputs, affine=True),
            nn.LeakyReLU(0.01),
        ]
    return nn.Sequential(*layers)


class UNet(nn.Module):  # type: ignore[misc,unused-ignore]  # torch is not in .venv
    """Logits at full and, while training, at half resolution.

    Parameters
    ----------
    channels
        Features by level; each level halves the grid.
    outputs
        Labels with background.
    """

    def __init__(self, channels: tuple[int, ...] = (12, 24, 48, 96), outputs: int = 16) -> None:
        super().__init__()
        inputs = (1, *channels[:-1])
        self.down = nn.ModuleList(
            _block(a, b, 1 if level == 0 else 2)
            for level, (a, b) in enumerate(zip(inputs, channels, strict=True))
        )
        pairs = list(zip(channels[:0:-1], channels[-2::-1], strict=True))
        self.rise = nn.ModuleList(nn.ConvTranspose3d(a, b, 2, stride=2) for a, b in pairs)
        self.up = nn.ModuleList(_block(2 * b, b) for _, b in pairs)
        self.head = nn.Conv3d(channels[0], outputs, 1)
        self.half_head = nn.Conv3d(channels[1], outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Map (n, 1, z, y, x) to (n, label, z, y, x); in training mode also at half resolution."""
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
        half = x
        for rise, up, skip in zip(self.rise, self.up, skips[-2::-1], strict=True):
            half = x
            x = up(torch.cat([rise(x), skip], dim=1))
        if self.training:
            return self.head(x), self.half_head(half)
        logits: torch.Tensor = self.head(x)
        return logits
