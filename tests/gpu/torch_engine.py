"""A `DeviceEngine` of torch's: the same network on the same addresses, for tests and benchmarks.

It needs nothing but torch, which a bare GPU machine has, so kernels and window can be judged
there without ONNX Runtime or TensorRT; and it is the peer that they are held against.
"""

from typing import Any

import numpy as np
import torch
from numba import cuda
from torch import nn

from viscera.segment import device_memory


class PlainUNet(nn.Module):
    """nnU-Net's PlainConvUNet: two convolutions a stage, instance norm, leaky ReLU."""

    def __init__(self, strides, features=(32, 64, 128, 256, 320, 320), outputs=16):
        super().__init__()
        sizes = list(zip((1, *features[:-1]), features, strides, strict=True))
        self.down = nn.ModuleList(_stage(a, b, s) for a, b, s in sizes)
        back = list(zip(features[:0:-1], features[-2::-1], strides[:0:-1], strict=True))
        self.rise = nn.ModuleList(nn.ConvTranspose3d(a, b, s, s) for a, b, s in back)
        self.up = nn.ModuleList(_stage(2 * b, b, (1, 1, 1)) for _, b, _ in back)
        self.head = nn.Conv3d(features[0], outputs, 1)

    def forward(self, x):
        kept = []
        for stage in self.down:
            x = stage(x)
            kept.append(x)
        for rise, up, beside in zip(self.rise, self.up, kept[-2::-1], strict=True):
            x = up(torch.cat((rise(x), beside), dim=1))
        return self.head(x)


def _stage(inputs, outputs, stride):
    layers = []
    for first, step in ((inputs, stride), (outputs, (1, 1, 1))):
        layers += [
            nn.Conv3d(first, outputs, 3, stride=step, padding=1),
            nn.InstanceNorm3d(outputs, affine=True),
            nn.LeakyReLU(0.01, inplace=True),
        ]
    return nn.Sequential(*layers)


class TorchEngine:
    """torch under autocast, channels last, reading and writing numba's device arrays."""

    name = "torch-cuda"

    def __init__(self, network: nn.Module, model: Any, tile_batch: int, *, half: bool) -> None:
        self.tile_batch = tile_batch
        self._half = half
        self._network = network.eval().cuda().to(memory_format=torch.channels_last_3d)
        self._torch_stream = torch.cuda.Stream()
        self.stream = cuda.external_stream(self._torch_stream.cuda_stream)
        self.tiles = device_memory.empty((tile_batch, len(model.channels), *model.patch_size))
        self.logits = device_memory.empty((tile_batch, model.output_count, *model.patch_size))
        self._tiles = torch.as_tensor(self.tiles, device="cuda")
        self._logits = torch.as_tensor(self.logits, device="cuda")

    def enqueue(self, count: int) -> None:
        with torch.cuda.stream(self._torch_stream), torch.inference_mode():
            tiles = self._tiles[:count].to(memory_format=torch.channels_last_3d)
            with torch.autocast("cuda", torch.float16, enabled=self._half):
                answer = self._network(tiles)
            self._logits[:count].copy_(answer)

    def infer(self, tiles):
        self.tiles[: len(tiles)].copy_to_device(np.ascontiguousarray(tiles), stream=self.stream)
        self.enqueue(len(tiles))
        logits = self.logits[: len(tiles)].copy_to_host(stream=self.stream)
        self.stream.synchronize()
        return logits

    def close(self) -> None:
        self._network = None
