"""Torso CTs that are drawn, not acquired: 15 organs with known labels and volumes.

In: a seed and a :class:`Scan` (grid, phase, field of view, noise).
Out: a :class:`Phantom` (volume, labels, true mL), and on request a DICOM series of it.
Fails: `GeometryMismatch` on an impossible grid; `OSError` when the series cannot be written.

All shapes are drawn in a *canonical body*: mm in LPS, x to the patient's left, y to the back, z to
the head, the origin in front of the fourth lumbar vertebra of an average adult. Every body is
this one after scaling, turning and a smooth random warp. Later strokes paint over earlier ones.
"""

from viscera.phantom.make import Phantom, make_distractor, make_phantom
from viscera.phantom.scan import DEMO, Scan
from viscera.phantom.series import SliceOrder, Storage, write_series
from viscera.phantom.tissue import Phase

__all__ = [
    "DEMO",
    "Phantom",
    "Phase",
    "Scan",
    "SliceOrder",
    "Storage",
    "make_distractor",
    "make_phantom",
    "write_series",
]
