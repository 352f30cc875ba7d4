"""A volume: intensities on a grid, and what a network is fed of it."""

from dataclasses import dataclass

from viscera.domain.arrays import Mask, ModelImage, Voxels, read_only
from viscera.domain.geometry import Geometry
from viscera.errors import GeometryMismatch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Volume:
    """Rescaled intensities (HU for CT) on `geometry`'s grid.

    `padding` marks voxels that the scanner never measured (PixelPaddingValue), or is None where
    there are none; their intensity is air (-1024) for CT and 0 for MR.
    """

    voxels: Voxels
    geometry: Geometry
    modality: str
    padding: Mask | None = None
    defects: tuple[str, ...] = ()
    """What is wrong with the source, as sentences; a result of it is flagged."""

    def __post_init__(self) -> None:
        for array in (self.voxels, self.padding):
            if array is not None and array.shape != self.geometry.shape:
                raise GeometryMismatch(f"array {array.shape} on grid {self.geometry.shape}")
        object.__setattr__(self, "voxels", read_only(self.voxels))


Box = tuple[slice, slice, slice]
"""A part of a grid, along (z, y, x)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelInput:
    """What a network is fed, and how its answer goes back."""

    image: ModelImage
    box: Box
    """Where `image` lies on the source grid, along the model's axes."""
    restore_orders: tuple[int, int, int]
    """Along (z, y, x), how logits are interpolated onto the source grid: 0 nearest, 1 linear."""
