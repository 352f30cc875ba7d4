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

from viscera import log as logs
from viscera.training.curves import Curves
from viscera.training.labelled import UNSURE
from viscera.training.loss import allowed_of, loss_of
from viscera.training.network import UNet
from viscera.training.pool import Patch, Patches
from viscera.training.recipe import Recipe
from viscera.training.start import load_weights

log = logs.get(__name__)

_LABELS = 16
_LOG_STEPS, _SAVE_STEPS, _VALIDATE_STEPS = 50, 200, 400


class Fit:
    """One training run and its state on disk, on a GPU where torch finds one.

    Parameters
    ----------
    folder
        Gets ``state.pt`` (everything a run needs to go on), ``curves.csv`` and ``curves.svg``.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        torch.manual_seed(recipe.seed)
        self._recipe, self._file = recipe, folder / "state.pt"
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = UNet(recipe.channels, recipe.convolutions, _LABELS)
        self.network = network.to(self._device)
        self.averaged = copy.deepcopy(self.network).eval()
        self._optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        # On a CPU each patch has a replica and a thread: on a busy machine, threads that must meet
        # after every convolution wait for one another most of the time; these meet once a step.
        lanes = recipe.batch if self._device.type == "cpu" else 1
        self._replicas = [self._replica() for _ in range(lanes)]
        self._threads = ThreadPoolExecutor(lanes)
        self._rng = np.random.default_rng(recipe.seed)
        self.step, self.elapsed_s, self.started_from = 0, 0.0, ""
        self.curves = Curves(folder)

    def _replica(self) -> UNet:
        """Return a network with the same weights in memory and gradients of its own."""
        replica: UNet = copy.deepcopy(self.network)
        for own, shared in zip(replica.parameters(), self.network.parameters(), strict=True):
            own.data = shared.data
        return replica

    def start(self, package: Path) -> None:
        """Begin with the weights of `package`: see `load_weights`."""
        self.started_from = load_weights(self.network, package)
        self.averaged.load_state_dict(self.network.state_dict())

    def resume(self) -> bool:
        """Go on from the state on disk; False where there is none."""
        if not self._file.exists():
            return False
        state = torch.load(self._file, weights_only=True, map_location=self._device)
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._rng.bit_generator.state = json.loads(state["rng"])
        self.step, self.elapsed_s = state["step"], state["elapsed_s"]
        self.started_from = state["started_from"]
        self.curves.resume(self.step)
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
            "started_from": self.started_from,
            "recipe": json.dumps(asdict(self._recipe)),
        }
        torch.save(state, part)
        part.rename(self._file)

    def run(
        self, patches: Patches, checks: list[Patch], *, steps: int | None, minutes: float
    ) -> None:
        """Train until `steps`, or, where that is None, until `minutes` of wall time are spent.

        Parameters
        ----------
        checks
            Patches of volumes that are not trained on: for the curves, nothing is chosen by them.
        """
        last = time.monotonic()
        losses: list[np.ndarray] = []
        while (done := self._progress(steps, minutes)) < 1:
            losses.append(self._one(patches, done))
            if self.step % _LOG_STEPS == 0:
                self._log(losses)
                losses.clear()
            if self.step % _VALIDATE_STEPS == 0:
                self.curves.validated(self.step, self.validate(checks))
            now = time.monotonic()
            self.elapsed_s += now - last
            last = now
            if self.step % _SAVE_STEPS == 0:
                self.save()
        self.curves.validated(self.step, self.validate(checks))
        self.save()

    def _log(self, losses: list[np.ndarray]) -> None:
        cross, dice = (round(float(value), 3) for value in np.mean(losses, axis=0))
        spent_s = round(self.elapsed_s)
        self.curves.trained(self.step, cross, dice)
        log.info("trained", step=self.step, cross=cross, dice_loss=dice, elapsed_s=spent_s)

    @torch.no_grad()  # type: ignore[untyped-decorator,unused-ignore]  # torch is not in .venv
    def validate(self, checks: list[Patch]) -> list[float]:
        """Return Dice by organ over all of `checks` together; NaN for organs that none shows."""
        both, sizes, true = np.zeros(_LABELS), np.zeros(_LABELS), np.zeros(_LABELS)
        for patch in checks:
            with torch.autocast(self._device.type, torch.bfloat16):
                found = self.averaged(self._input([patch])).argmax(1)[0].cpu().numpy()
            counted = patch.labels != UNSURE
            found, truth = found[counted], patch.labels[counted]
            both += np.bincount(truth[found == truth], minlength=_LABELS)
            sizes += np.bincount(found, minlength=_LABELS)
            true += np.bincount(truth, minlength=_LABELS)
        with np.errstate(invalid="ignore"):
            dice = np.where(true > 0, 2 * both / (sizes + true), np.nan)
        return [float(value) for value in dice[1:]]

    def _input(self, patches: list[Patch]) -> torch.Tensor:
        images = torch.from_numpy(np.stack([patch.image for patch in patches]))[:, None]
        return images.to(self._device)

    def _progress(self, steps: int | None, minutes: float) -> float:
        return self.step / steps if steps else self.elapsed_s / (minutes * 60)

    def _one(self, patches: Patches, done: float) -> np.ndarray:
        rate = min(done / self._recipe.warm_up, 1.0) if self._recipe.warm_up else 1.0
        rate *= 0.5 * (1 + math.cos(math.pi * done)) * 0.99 + 0.01
        for group in self._optimiser.param_groups:
            group["lr"] = self._recipe.learning_rate * rate
        balance = max(self._recipe.balance * (1 - done / 0.8), self._recipe.last_balance)
        seeds = np.array_split(
            self._rng.integers(2**62, size=self._recipe.batch), len(self._replicas)
        )
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

    def _gradients(
        self, patches: Patches, balance: float, replica: UNet, seeds: np.ndarray
    ) -> np.ndarray:
        """Leave the gradients of random patches in `replica`; return the loss's two parts."""
        drawn = [patches.draw(np.random.default_rng(seed)) for seed in seeds.tolist()]
        truth = torch.from_numpy(np.stack([patch.labels for patch in drawn])).long()
        truth = truth.to(self._device)
        allowed = allowed_of([patch.unlabelled for patch in drawn], _LABELS).to(self._device)
        replica.zero_grad(set_to_none=True)
        with torch.autocast(self._device.type, torch.bfloat16):
            full, half = replica(self._input(drawn))
        fine = loss_of(full, truth, allowed, balance)
        coarse = loss_of(half, truth[:, ::2, ::2, ::2], allowed, balance)
        (sum(fine) + self._recipe.half_weight * sum(coarse)).backward()
        return np.array([float(part.detach()) for part in fine])

    @torch.no_grad()  # type: ignore[untyped-decorator,unused-ignore]  # torch is not in .venv
    def _average(self) -> None:
        keep = min(self._recipe.averaging, (1 + self.step) / (10 + self.step))
        pairs = zip(self.averaged.parameters(), self.network.parameters(), strict=True)
        for slow, fast in pairs:
            slow.lerp_(fast, 1 - keep)
