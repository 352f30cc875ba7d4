"""A small 3-D U-Net: convolution, instance norm, leaky ReLU, once or twice a level."""

import torch
from torch import nn


def _block(inputs: int, outputs: int, convolutions: int, stride: int = 1) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number in range(convolutions):
        layers += [
            nn.Conv3d(
                outputs if number else inputs,
                outputs,
                3,
                stride=1 if number else stride,
                padding=1,
                bias=False,
            ),
            nn.InstanceNorm3d(outputs, affine=True),
            nn.LeakyReLU(0.01, inplace=True),
        ]
    return nn.Sequential(*layers)


class UNet(nn.Module):  # type: ignore[misc,unused-ignore]  # torch is not in .venv
    """Logits at full and, while training, at half resolution.

    Parameters
    ----------
    channels
        Features by level; each level halves the grid.
    convolutions
        How many by level, on the way down and on the way up.
    outputs
        Labels with background.
    """

    def __init__(
        self, channels: tuple[int, ...], convolutions: tuple[int, ...], outputs: int = 16
    ) -> None:
        super().__init__()
        inputs = (1, *channels[:-1])
        self.down = nn.ModuleList(
            _block(a, b, depth, 1 if level == 0 else 2)
            for level, (a, b, depth) in enumerate(zip(inputs, channels, convolutions, strict=True))
        )
        pairs = list(zip(channels[:0:-1], channels[-2::-1], strict=True))
        self.rise = nn.ModuleList(nn.ConvTranspose3d(a, b, 2, stride=2) for a, b in pairs)
        self.up = nn.ModuleList(
            _block(2 * b, b, depth)
            for (_, b), depth in zip(pairs, convolutions[-2::-1], strict=True)
        )
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
