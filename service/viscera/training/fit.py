"""The loop: patches in, averaged weights out. Resumable, and reproducible by number of steps."""

import copy
import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from viscera import log as logs
from viscera.training.network import UNet
from viscera.training.pool import Patches
from viscera.training.recipe import Recipe

log = logs.get(__name__)


def loss_of(
    logits: torch.Tensor, labels: torch.Tensor, balance: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy, and one minus the mean soft Dice over the labels that the patch shows.

    Parameters
    ----------
    logits, labels
        (n, label, z, y, x) and (n, z, y, x).
    balance
        0 counts every voxel alike; 1 every label. A rare label that is never guessed has next to
        no gradient by Dice, so cross-entropy must first bring it up.
    """
    logs = logits.float().log_softmax(1)
    flat = labels.flatten()
    shares = logs.exp()
    at_truth = shares.gather(1, labels[:, None]).flatten()
    overlap = torch.zeros(logits.shape[1]).index_add(0, flat, at_truth)
    sizes = torch.bincount(flat, minlength=logits.shape[1])
    cross = functional.nll_loss(logs, labels, weight=(sizes + 1.0) ** -balance)
    shown = sizes > 0
    shown[0] = False
    if not shown.any():
        return cross, torch.zeros(())
    dice = (2 * overlap + 1) / (shares.sum((0, 2, 3, 4)) + sizes + 1)
    return cross, 1 - dice[shown].mean()


class Fit:
    """One training run and its state on disk."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        torch.manual_seed(recipe.seed)
        self._recipe, self._file = recipe, folder / "state.pt"
        self.network = UNet(recipe.channels).to(memory_format=torch.channels_last_3d)
        self.averaged = copy.deepcopy(self.network).eval()
        self._optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        # Each patch has a replica and a thread: on a busy machine, threads that must meet after
        # every convolution wait for one another most of the time; these meet once a step.
        self._replicas = [self._replica() for _ in range(recipe.batch)]
        self._threads = ThreadPoolExecutor(recipe.batch)
        self._rng = np.random.default_rng(recipe.seed)
        self.step, self.elapsed_s = 0, 0.0

    def _replica(self) -> UNet:
        """Return a network with the same weights in memory and gradients of its own."""
        replica: UNet = copy.deepcopy(self.network)
        for own, shared in zip(replica.parameters(), self.network.parameters(), strict=True):
            own.data = shared.data
        return replica

    def resume(self) -> bool:
        """Go on from the state on disk; False where there is none."""
        if not self._file.exists():
            return False
        state = torch.load(self._file, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._rng.bit_generator.state = json.loads(state["rng"])
        self.step, self.elapsed_s = state["step"], state["elapsed_s"]
        return True

    def save(self) -> None:
        """Write the state; a crash leaves the former one."""
        part = self._file.with_suffix(".part")
        state = {
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "rng": json.dumps(self._rng.bit_generator.state),
            "step": self.step,
            "elapsed_s": self.elapsed_s,
            "recipe": json.dumps(asdict(self._recipe)),
        }
        torch.save(state, part)
        part.rename(self._file)

    def run(self, patches: Patches, *, steps: int | None, minutes: float) -> None:
        """Train until `steps`, or, where that is None, until `minutes` of wall time are spent."""
        last = time.monotonic()
        losses: list[np.ndarray] = []
        while (done := self._progress(steps, minutes)) < 1:
            losses.append(self._one(patches, done))
            now = time.monotonic()
            self.elapsed_s += now - last
            last = now
            if self.step % 50 == 0:
                self._log(losses)
                losses.clear()
            if self.step % 200 == 0:
                self.save()
        self.save()

    def _log(self, losses: list[np.ndarray]) -> None:
        cross, dice = (round(float(value), 3) for value in np.mean(losses, axis=0))
        spent_s = round(self.elapsed_s)
        log.info("trained", step=self.step, cross=cross, dice_loss=dice, elapsed_s=spent_s)

    def _progress(self, steps: int | None, minutes: float) -> float:
        return self.step / steps if steps else self.elapsed_s / (minutes * 60)

    def _one(self, patches: Patches, done: float) -> np.ndarray:
        rate = min(done / self._recipe.warm_up, 1.0) if self._recipe.warm_up else 1.0
        rate *= 0.5 * (1 + math.cos(math.pi * done)) * 0.99 + 0.01
        for group in self._optimiser.param_groups:
            group["lr"] = self._recipe.learning_rate * rate
        balance = self._recipe.balance * max(1 - done / 0.8, 0.0)
        seeds = self._rng.integers(2**62, size=len(self._replicas)).tolist()
        work = partial(self._gradients, patches, balance)
        losses = list(self._threads.map(work, self._replicas, seeds))
        everyone = zip(*(replica.parameters() for replica in self._replicas), strict=True)
        for own, shared in zip(self.network.parameters(), everyone, strict=True):
            own.grad = torch.stack([one.grad for one in shared]).mean(0)
        nn.utils.clip_grad_norm_(self.network.parameters(), 12.0)
        self._optimiser.step()
        self.step += 1
        self._average()
        found: np.ndarray = np.mean(losses, axis=0)
        return found

    def _gradients(self, patches: Patches, balance: float, replica: UNet, seed: int) -> np.ndarray:
        """Leave the gradients of a random patch in `replica`; return the loss's two parts."""
        image, labels = patches.draw(np.random.default_rng(seed))
        x = torch.from_numpy(image)[None, None].to(memory_format=torch.channels_last_3d)
        truth = torch.from_numpy(labels)[None].long()
        replica.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            full, half = replica(x)
        fine = loss_of(full, truth, balance)
        coarse = loss_of(half, truth[:, ::2, ::2, ::2], balance)
        (sum(fine) + self._recipe.half_weight * sum(coarse)).backward()
        return np.array([float(part.detach()) for part in fine])

    @torch.no_grad()  # type: ignore[untyped-decorator,unused-ignore]  # torch is not in .venv
    def _average(self) -> None:
        keep = min(self._recipe.averaging, (1 + self.step) / (10 + self.step))
        pairs = zip(self.averaged.parameters(), self.network.parameters(), strict=True)
        for slow, fast in pairs:
            slow.lerp_(fast, 1 - keep)
