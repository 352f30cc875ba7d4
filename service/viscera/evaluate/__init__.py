"""Label maps against a reference: Dice and normalised surface distance for each organ.

In: two files or folders of label maps (NIfTI, NRRD, MHA, DICOM-SEG). Out: a `Report`, and from it
a table, a JSON file, a picture. Fails: `InvalidRequest` (nothing to compare, a map of names that
makes no sense, the extra ``evaluate`` not installed), `GeometryMismatch` (different grids),
`UndecodablePixels` (no label map).
"""

from viscera.evaluate.cases import find_cases
from viscera.evaluate.names import Naming, read_naming
from viscera.evaluate.picture import write_picture
from viscera.evaluate.report import Report, evaluate, write_json
from viscera.evaluate.scores import metrics_library
from viscera.evaluate.table import table_lines

__all__ = [
    "Naming",
    "Report",
    "evaluate",
    "find_cases",
    "metrics_library",
    "read_naming",
    "table_lines",
    "write_json",
    "write_picture",
]
