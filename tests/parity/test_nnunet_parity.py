"""An imported results folder gives nnU-Net's own answer, whatever way the series is stored."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from judge import Judged, judge
from results_folder import NAMES, Recipe, build, channel_images, training_image

from viscera import importing, segment, series, volume
from viscera.config import Settings, load_settings
from viscera.domain.geometry import to_axes
from viscera.domain.models import Profile
from viscera.domain.volumes import Volume
from viscera.metrics import Metrics
from viscera.models.nnunet import Request
from viscera.phantom import Phantom, Phase
from viscera.phantom.series import Storage, write_series
from viscera.pipeline import Pipeline

PLAIN = Recipe(name="plain", spacing_mm=(8.0, 8.0, 8.0), memory_share=0.004, steps=240, folds=2)
RESIDUAL = Recipe(
    name="residual",
    planner="nnUNetPlannerResEncM",
    spacing_mm=(8.0, 8.0, 10.0),
    orientation="LPS",
    features=6,
    memory_share=0.004,
    steps=200,
)
MIRRORED = Recipe(
    name="mirrored",
    spacing_mm=(8.0, 8.0, 8.0),
    memory_share=0.004,
    steps=120,
    folds=2,
    start_from=PLAIN,
    flips=(0, 1),
)
TWO = Recipe(
    name="two",
    spacing_mm=(8.0, 8.0, 8.0),
    channels=("T1", "T2"),
    memory_share=0.004,
    steps=60,
    start_from=PLAIN,
)

STORED = ("SPL", "LAI", "PSR")
"""Axial, sagittal and coronal series; rows and columns flipped too."""
CLEAR = 0.05
FAST_DICE = 0.9
"""Over 10 mL. These networks see 8 mm voxels and one image, so that a smoother input shows more
than it would in practice: what is measured is 0.94 to 0.99."""
NEAR = 2


@dataclass(frozen=True, kw_only=True)
class Case:
    """One image through one network."""

    recipe: Recipe = PLAIN
    spacing_mm: tuple[float, float, float] | None = (3.0, 3.0, 3.0)
    keep: tuple[slice, slice, slice] = (slice(None),) * 3
    folds: tuple[int, ...] = (0,)
    mirroring: bool = False
    stored: tuple[str, ...] = STORED[:1]
    organs: int = 6
    """How many over 5 mL the judge itself must find, lest the comparison be empty."""


CASES = {
    "isotropic": Case(stored=STORED),
    "slices of 5 mm": Case(spacing_mm=(5.0, 1.6, 1.6)),  # more than three times: z apart
    "mirroring, two folds": Case(
        recipe=MIRRORED, folds=(0, 1), mirroring=True, spacing_mm=(3.0, 3.5, 3.5)
    ),
    "two folds": Case(folds=(0, 1), spacing_mm=(3.5, 3.0, 3.5)),
    "smaller than the patch": Case(keep=(slice(50, 80), slice(None), slice(None)), organs=3),
    "residual, transposed": Case(recipe=RESIDUAL),
    "two channels, cropped": Case(recipe=TWO, spacing_mm=(3.5, 3.0, 3.5)),
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    repo = tmp_path_factory.mktemp("parity") / "model_repo"
    found = load_settings(None)
    return found.model_copy(
        update={
            "models": found.models.model_copy(update={"repo": repo}),
            "engine": found.engine.model_copy(update={"numba_cache": Path("var/numba").resolve()}),
        }
    )


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def test_labels_are_nnunets(
    case: Case, settings: Settings, shared_data: Path, tmp_path: Path
) -> None:
    folder = build(shared_data, case.recipe)
    image = training_image(shared_data, replace(case.recipe, spacing_mm=case.spacing_mm))
    z, y, x = case.keep
    channels = [one[x, y, z] for one in channel_images(image, case.recipe)]
    files = []
    for k, one in enumerate(channels):
        files.append(tmp_path / f"image_{k:04d}.nii.gz")
        sitk.WriteImage(one, str(files[-1]))
    judged = judge(folder, files, case.folds, case.mirroring)
    sizes = np.bincount(judged.labels.ravel(), minlength=len(NAMES)) * judged.voxel_ml
    assert (sizes[1:] > 5).sum() >= case.organs, dict(zip(NAMES, sizes.round(1), strict=True))

    name = f"{case.recipe.name}-{'m' if case.mirroring else 'n'}{len(case.folds)}"
    modality = "CT"
    if not (settings.models.repo / name).exists():
        request = Request(
            folder=folder,
            name=name,
            version="1",
            folds=tuple(map(str, case.folds)),
            orientation=case.recipe.orientation,
            mirroring=case.mirroring,
            modalities=(modality,),
        )
        importing.import_nnunet(request, settings)
    for stored in case.stored:
        paths = [
            write_series(_phantom(one, k), tmp_path / stored / str(k), Storage(axes=stored))
            for k, one in enumerate(channels)
        ]
        axes = case.recipe.orientation[::-1]
        exact = _viscera(settings, name, paths, axes, Profile.EXACT)
        assert_exact(exact, judged)
    fast = _viscera(settings, name, paths, axes, Profile.FAST)
    assert_fast(fast, judged)


def assert_exact(ours: np.ndarray, judged: Judged) -> None:
    differ = ours != judged.labels
    border = near_border(judged.labels)
    scores = dice(ours, judged)
    large = {n: d for n, (d, ml) in scores.items() if ml > 10}
    print(
        f"exact: {differ.sum()} of {differ.size} differ, margin up to"
        f" {judged.margin[differ].max(initial=0):.4f}, {differ[border].mean():.5%} near borders,"
        f" least Dice {min(large.values(), default=1):.5f} of {len(large)}"
    )
    assert judged.margin[differ].max(initial=0) < CLEAR
    assert differ[border].mean() <= 0.005
    assert min(large.values()) >= 0.999, large


def assert_fast(ours: np.ndarray, judged: Judged) -> None:
    scores = dice(ours, judged)
    print("fast:", {name: round(float(d), 3) for name, (d, ml) in scores.items() if ml > 10})
    assert min(d for d, ml in scores.values() if ml > 10) >= FAST_DICE


def dice(ours: np.ndarray, judged: Judged) -> dict[str, tuple[float, float]]:
    """Return Dice and the judge's mL of each organ that it finds."""
    found = {}
    for value, name in enumerate(NAMES):
        theirs = judged.labels == value
        if value and theirs.any():
            both = 2 * np.count_nonzero(theirs & (ours == value))
            sizes = theirs.sum() + np.count_nonzero(ours == value)
            found[name] = (both / sizes, theirs.sum() * judged.voxel_ml)
    return found


def near_border(labels: np.ndarray) -> np.ndarray:
    """Return the voxels that have another label within `NEAR` steps along the axes."""
    near = np.zeros(labels.shape, bool)
    for axis in range(3):
        a = np.moveaxis(near, axis, 0)
        v = np.moveaxis(labels, axis, 0)
        for step in range(1, NEAR + 1):
            change = v[step:] != v[:-step]
            a[step:] |= change
            a[:-step] |= change
    return near


def _viscera(
    settings: Settings, name: str, paths: list[tuple[Path, ...]], axes: str, profile: Profile
) -> np.ndarray:
    """Return labels on `axes`, the judge's."""
    engine = settings.engine
    segment.configure_numba(engine.numba_cache, engine.numba_threading_layer, engine.threads)
    models = settings.models.model_copy(update={"profile": profile})
    with volume.DecodePool(settings.decode) as pool:
        loaded = []
        for one in paths:
            (stack,) = series.examine(one, settings.series).stacks
            loaded.append(volume.load_volume(stack, pool))
    pipeline = Pipeline(settings.model_copy(update={"models": models}), Metrics())
    try:
        _, done = pipeline.segment(loaded, name, lambda *_: None)
    finally:
        pipeline.close()
    return to_axes(done.labels, loaded[0].geometry.axes, axes)


def _phantom(image: sitk.Image, channel: int) -> Phantom:
    """Return the image as the phantom's writer takes it."""
    from viscera.domain.geometry import Geometry

    affine = np.eye(4)
    directions = np.reshape(image.GetDirection(), (3, 3)) @ np.diag(image.GetSpacing())
    affine[:3, :3] = directions[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    voxels = sitk.GetArrayFromImage(image).astype(np.int16)
    geometry = Geometry(shape=voxels.shape, affine_lps=affine)
    scan = Volume(voxels=voxels, geometry=geometry, modality="CT")
    labels = np.zeros(voxels.shape, np.uint8)
    return Phantom(
        volume=scan, labels=labels, true_ml={}, seed=100 + channel, phase=next(iter(Phase)), sex="F"
    )
