"""`make_phantom`: one seed, one body, one scan."""

from dataclasses import dataclass

import numpy as np

from viscera.domain.arrays import Labels, read_only
from viscera.domain.geometry import Geometry
from viscera.domain.organs import AMOS
from viscera.domain.volumes import Volume
from viscera.phantom import bones, bowel, organs, trunk, vessels
from viscera.phantom.body import Body, draw_body
from viscera.phantom.canvas import Canvas
from viscera.phantom.distract import paint_distractor
from viscera.phantom.image import correlated_noise, outside_circle, smear
from viscera.phantom.scan import DEMO, Scan, scan_geometry
from viscera.phantom.tissue import Phase


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Phantom:
    """A torso CT with its truth."""

    volume: Volume
    labels: Labels
    """On the volume's grid, by AMOS's values."""
    true_ml: dict[str, float]
    """By AMOS's names: labelled voxels times their size; 0 where the field of view has none."""
    seed: int
    phase: Phase
    sex: str
    """``M`` or ``F``: decides what label 15 is."""


def make_phantom(seed: int, scan: Scan | None = None) -> Phantom:
    """Draw a torso CT.

    Parameters
    ----------
    seed
        Decides the body, and together with `scan` everything else. The same body is drawn
        whatever the grid, so a finer grid is a better estimate of the same volumes.
    scan
        Grid, phase, noise, field of view. None: the demo's, :data:`DEMO`.

    Returns
    -------
    Phantom
        int16 HU on an axial grid with axes ``SPL``, padded with -1024 outside the circle.

    Raises
    ------
    GeometryMismatch
        If the grid of `scan` is impossible.
    """
    scan = scan or DEMO
    anatomy_rng, warp_rng, noise_rng = np.random.default_rng(seed).spawn(3)
    body = draw_body(anatomy_rng, scan)
    geometry = _choose_grid(noise_rng, scan, body)
    canvas = Canvas(geometry, body.pose, warp_rng, scan.edge_mm)
    paint_body(canvas, body)
    voxels = expose(canvas.hu, geometry, noise_rng, scan)
    return _phantom(voxels, canvas.labels, geometry, seed, body)


def make_distractor(seed: int, scan: Scan | None = None) -> Phantom:
    """Draw a scan without abdominal organs: a head, a leg, a bottle, shapes at random."""
    scan = scan or DEMO
    anatomy_rng, warp_rng, noise_rng = np.random.default_rng(seed).spawn(3)
    body = draw_body(anatomy_rng, scan)
    geometry = _choose_grid(noise_rng, scan, body)
    canvas = Canvas(geometry, body.pose, warp_rng, scan.edge_mm)
    paint_distractor(canvas, body)
    voxels = expose(canvas.hu, geometry, noise_rng, scan)
    return _phantom(voxels, canvas.labels, geometry, seed, body)


def paint_body(canvas: Canvas, body: Body) -> None:
    """Paint everything. Of two organs that claim a voxel, the one painted later has it."""
    room = trunk.paint_trunk(canvas, body)
    trunk.paint_back_muscles(canvas, body)
    bones.paint_bones(canvas, body)
    bowel.paint_bowel(canvas, body, room)
    vessels.paint_cava(canvas, body)
    vessels.paint_aorta(canvas, body)
    organs.paint_liver(canvas, body, room)
    upper = body.jitter(4)
    organs.paint_stomach(canvas, body, room, upper)
    organs.paint_spleen(canvas, body, room)
    kidneys = [organs.paint_kidney(canvas, body, side) for side in (-1.0, 1.0)]
    organs.paint_gallbladder(canvas, body)
    organs.paint_esophagus(canvas, body, upper)
    vessels.paint_portal_vein(canvas, body, upper)
    organs.paint_pancreas(canvas, body, upper)
    organs.paint_duodenum(canvas, body, upper)
    for side, kidney in zip((-1.0, 1.0), kidneys, strict=True):
        organs.paint_adrenal(canvas, body, side, kidney)
    organs.paint_pelvic_organs(canvas, body)
    trunk.paint_surroundings(canvas, body)


def _choose_grid(rng: np.random.Generator, scan: Scan, body: Body) -> Geometry:
    tall = float(body.pose.scale[2])
    low, high = scan.coverage or _random_coverage(rng)
    off = np.zeros(2) if scan.centred else rng.normal(0, 9, 2)
    return scan_geometry(scan, low * tall, high * tall, off)


def _random_coverage(rng: np.random.Generator) -> tuple[float, float]:
    if rng.random() < 0.5:
        return float(rng.uniform(-270, -200)), float(rng.uniform(225, 330))
    low = float(rng.uniform(-250, 120))
    return low, float(min(low + rng.uniform(120, 400), 400))


def expose(hu: np.ndarray, geometry: Geometry, rng: np.random.Generator, scan: Scan) -> np.ndarray:
    """Turn tissue into a picture: blur, noise, circle; int16 HU."""
    in_plane, along = rng.uniform(0.04, 0.16), rng.uniform(0.0, 0.14)
    drawn_sd, soft = rng.uniform(15, 28), rng.uniform(0.05, 0.28)
    circle = rng.uniform(0.49, 0.56)
    hu = smear(smear(smear(hu, 0, along), 1, in_plane), 2, in_plane)
    hu += correlated_noise(rng, geometry.shape, scan.noise_hu or drawn_sd, soft)
    _, dy, dx = geometry.spacing_mm
    field_mm = min(geometry.shape[1] * dy, geometry.shape[2] * dx)
    radius = field_mm * (0.5 if scan.plain else circle)
    hu[:, outside_circle(geometry, radius)] = -1024
    voxels: np.ndarray = np.rint(np.clip(hu, -1024, 3071)).astype(np.int16)
    return voxels


def _phantom(
    voxels: np.ndarray, labels: np.ndarray, geometry: Geometry, seed: int, body: Body
) -> Phantom:
    counts = np.bincount(labels.ravel(), minlength=len(AMOS) + 1)
    return Phantom(
        volume=Volume(voxels=voxels, geometry=geometry, modality="CT"),
        labels=read_only(labels),
        true_ml={label.name: float(counts[label.value]) * geometry.voxel_ml for label in AMOS},
        seed=seed,
        phase=body.phase,
        sex=body.sex,
    )
