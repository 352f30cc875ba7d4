"""The golden tile: what a network must answer on this very device before it may serve."""

from dataclasses import dataclass, replace

import numpy as np

from viscera.domain.models import Golden, Model
from viscera.errors import ModelRefused
from viscera.segment.engine import Engine
from viscera.segment.run import segment

SAMPLES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far an engine may be from the golden tile."""

    logits: float
    """Largest difference, as share of the largest golden logit (of 1 where they are smaller)."""
    agreement: float = 0.999
    """Least share of voxels that keep their label."""


FLOAT32 = Tolerance(logits=1e-3)
"""Float32 summed in another order stays far below."""
HALF = Tolerance(logits=1e-2, agreement=0.998)
"""Ten bits of mantissa, as float16 and TF32 have. The shipped network typed by `half.to_half`
stays below it by a factor of 20: 4e-4 of the largest logit, 99.997% of the labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenReport:
    """How close an engine came."""

    engine: str
    largest_difference: float
    """Between a logit and its golden one."""
    allowed_difference: float
    argmax_agreement: float
    """Share of voxels with the golden label."""


def make(engine: Engine, model: Model, seed: int) -> Golden:
    """Record what `engine` answers to the tile of `seed`. The first maker is to be trusted.

    Raises
    ------
    ModelRefused
        If the answer has a wrong shape or is not finite.
    """
    logits = _answer(engine, model, seed)
    count = min(SAMPLES, logits.size)
    sample = np.random.default_rng([seed, 1]).choice(logits.size, count, replace=False)
    sample.sort()
    return Golden(
        seed=seed,
        argmax=logits.argmax(axis=0).astype(np.uint8),
        sample=sample,
        logits=logits.reshape(-1)[sample].copy(),
    )


def check(
    engine: Engine, model: Model, golden: Golden, *, tolerance: Tolerance = FLOAT32
) -> GoldenReport:
    """Compare `engine` with the golden tile.

    Parameters
    ----------
    engine
        The loaded network, on the device where it will serve.
    model
        Its package.
    golden
        Recorded by :func:`make`.
    tolerance
        What the engine's precision is allowed.

    Raises
    ------
    ModelRefused
        If the answer has a wrong shape, is not finite, or is farther off than
        `tolerance`.
    """
    logits = _answer(engine, model, golden.seed)
    if golden.argmax.shape != model.patch_size or golden.sample.max() >= logits.size:
        raise ModelRefused(
            f"the golden tile of {model.full_name} has shape {golden.argmax.shape}, its patch is"
            f" {model.patch_size}; build the package anew"
        )
    report = GoldenReport(
        engine=engine.name,
        largest_difference=float(np.abs(logits.reshape(-1)[golden.sample] - golden.logits).max()),
        allowed_difference=tolerance.logits * max(1.0, float(np.abs(golden.logits).max())),
        argmax_agreement=float(np.mean(logits.argmax(axis=0) == golden.argmax)),
    )
    # Written so that a NaN in the golden file fails too.
    if not (
        report.largest_difference <= report.allowed_difference
        and report.argmax_agreement >= tolerance.agreement
    ):
        raise ModelRefused(
            f"{engine.name} does not answer as {model.full_name} should: logits differ by up to"
            f" {report.largest_difference:.3g} (allowed {report.allowed_difference:.3g}),"
            f" {report.argmax_agreement:.2%} of the labels agree (needed"
            f" {tolerance.agreement:.1%}); the weights or the device are not those of the package"
        )
    return report


def check_window(
    engine: Engine, model: Model, golden: Golden, *, tolerance: Tolerance = FLOAT32
) -> None:
    """Send the golden tile through the whole sliding window, as a volume of one patch.

    For engines on a GPU: the kernels around the network are compiled and judged on this very
    device before a job waits for them.

    Parameters
    ----------
    engine, model, golden, tolerance
        As `check` takes them.

    Raises
    ------
    ModelRefused
        If the label map is not the one that the golden tile's logits give.
    """
    shape = (len(model.channels), *model.patch_size)
    image = np.random.default_rng(golden.seed).standard_normal(shape, np.float32)
    found = np.empty(model.patch_size, np.uint8)
    # As the tile was recorded: seen once, air or not.
    segment(image, replace(model, mirror_axes=(), skip_air=False), engine, found, lambda done: None)
    labels = np.array(model.outputs or range(model.output_count), np.uint8)
    agreement = float(np.mean(found == labels[golden.argmax]))
    if agreement < tolerance.agreement:
        raise ModelRefused(
            f"{engine.name}: {agreement:.2%} of the labels of {model.full_name}'s golden tile are"
            f" right after the sliding window (needed {tolerance.agreement:.1%}); the kernels"
            " around the network fail on this device"
        )


def _answer(engine: Engine, model: Model, seed: int) -> np.ndarray:
    """Return the logits (label, z, y, x) of the golden input, checked for shape and sense."""
    shape = (1, len(model.channels), *model.patch_size)
    tile = np.random.default_rng(seed).standard_normal(shape, np.float32)
    logits = engine.infer(tile)
    expected = (1, model.output_count, *model.patch_size)
    if logits.shape != expected:
        raise ModelRefused(
            f"{engine.name} answered {logits.shape} for {model.full_name}, {expected} was"
            " expected: background and one logit a label, over the patch"
        )
    if not np.isfinite(logits).all():
        raise ModelRefused(
            f"{engine.name} answered NaN or infinity to the golden tile of {model.full_name}"
        )
    answer: np.ndarray = logits[0]
    return answer
