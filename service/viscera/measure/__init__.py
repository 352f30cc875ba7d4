"""A label map becomes measurements with units, and the verdict on them.

In: the label map on the source grid, the volume it was made from, the model. Out: one
`OrganMeasurement` per label of the model's task, and a `Verdict`. Fails: `GeometryMismatch` when
label map and volume have different shapes; otherwise never, whatever the network painted.
"""

from viscera.measure.organs import measure
from viscera.measure.verdict import judge

__all__ = ["judge", "measure"]
