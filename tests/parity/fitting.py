"""Overfit a network to one case: what is judged is how weights are run, not how they came to be.

Patches come from random places and from organs, with a little of nnU-Net's own augmentation (noise,
blur, low resolution): without any, a network answers to the noise of single voxels, which no
trained one does.
"""

import numpy as np
import torch
from torch.nn import functional

BATCH = 2
"""nnU-Net's own; and for a batch of one, torch takes convolutions that are ten times slower."""
BACKGROUND_WEIGHT = 0.2
"""Air and fat would be all that is learnt in so few steps."""
RATE = 1e-2
ORGAN_SHARE = 0.5
"""Of patches with a voxel of a random organ at their centre, as nnU-Net has them too."""


def fit(
    network: torch.nn.Module,
    image: torch.Tensor,
    labels: torch.Tensor,
    patch: list[int],
    steps: int,
    seed: int,
    flips: tuple[int, ...],
) -> None:
    """Train `network` on `image` (channel, z, y, x) and `labels` (z, y, x), a patch or larger."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    optimiser = torch.optim.AdamW(network.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, steps, pct_start=0.1)
    classes = network(image[None, :, : patch[0], : patch[1], : patch[2]]).shape[1]
    weights = torch.ones(classes)
    weights[0] = BACKGROUND_WEIGHT
    for step in range(steps):
        drawn = [_draw(image, labels, patch, flips, rng) for _ in range(BATCH)]
        logits = network(torch.stack([one for one, _ in drawn]))
        loss = _loss(logits, torch.stack([one for _, one in drawn]), weights)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 40 == 39:
            print(f"step {step + 1}: loss {loss.item():.3f}", flush=True)


def _draw(
    image: torch.Tensor,
    labels: torch.Tensor,
    patch: list[int],
    flips: tuple[int, ...],
    rng: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    room = [n - p for n, p in zip(labels.shape, patch, strict=True)]
    starts = [int(rng.integers(0, n + 1)) for n in room]
    if rng.random() < ORGAN_SHARE:
        places = (labels == rng.choice(labels.unique()[1:])).nonzero()
        centre = places[rng.integers(len(places))].tolist()
        starts = [min(max(c - p // 2, 0), n) for c, p, n in zip(centre, patch, room, strict=True)]
    place = tuple(slice(s, s + p) for s, p in zip(starts, patch, strict=True))
    flipped = [axis - 3 for axis in flips if rng.integers(2)]
    seen, truth = image[(slice(None), *place)].flip(flipped), labels[place].flip(flipped)
    if rng.random() < 0.3:
        seen = _blurred(seen, rng.uniform(0.4, 1.0))
    if rng.random() < 0.3:
        seen = _coarse(seen, rng.uniform(0.5, 1.0))
    return seen + rng.uniform(0, 0.3) * torch.randn_like(seen), truth


def _blurred(seen: torch.Tensor, sigma: float) -> torch.Tensor:
    """Return `seen` smoothed by a Gaussian of `sigma` voxels."""
    kernel = torch.exp(-0.5 * (torch.arange(-2, 3) / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in range(1, 4):
        shape, padding = [1] * 5, [0] * 3
        shape[axis + 1], padding[axis - 1] = 5, 2
        seen = functional.conv3d(seen[:, None], kernel.view(shape), padding=padding)[:, 0]
    return seen


def _coarse(seen: torch.Tensor, share: float) -> torch.Tensor:
    """Return `seen` as from `share` as many voxels along each axis."""
    small = functional.interpolate(seen[None], scale_factor=share, mode="trilinear")
    return functional.interpolate(small, seen.shape[1:], mode="trilinear")[0]


def _loss(logits: torch.Tensor, truth: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Cross-entropy less the mean Dice of the labels that are there."""
    probability = logits.softmax(1)
    one_hot = functional.one_hot(truth, logits.shape[1]).movedim(-1, 1)
    both = (probability * one_hot).sum((0, 2, 3, 4))
    sizes = (probability + one_hot).sum((0, 2, 3, 4))
    present = one_hot.sum((0, 2, 3, 4)) > 0
    dice = ((2 * both + 1) / (sizes + 1))[present].mean()
    return functional.cross_entropy(logits, truth, weights) - dice
