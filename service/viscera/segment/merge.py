"""Label maps of the networks of one package become one.

A voxel that two networks claim is the later one's, also where what that one found is not
reported: so TotalSegmentator joins its parts.
"""

from dataclasses import replace

import numpy as np

from viscera.domain.arrays import Labels
from viscera.domain.models import Model

_UNREPORTED = 255
"""No label's value: a manifest with parts has at most 253."""


def claiming(part: Model) -> Model:
    """Return `part` with a value of its own for what it finds and does not report."""
    outputs = (0, *(value or _UNREPORTED for value in part.outputs[1:]))
    return replace(part, outputs=outputs)


def merge(found: Labels, labels: Labels) -> None:
    """Write what a `claiming` part found over what is in `labels`."""
    np.copyto(labels, found, where=found != 0)


def finish(labels: Labels) -> None:
    """Take out what no label stands for."""
    labels[labels == _UNREPORTED] = 0
