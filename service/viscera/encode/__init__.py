"""A label map, measurements and a job's row become the files that leave the house.

In: what `measure` made, the stack that was segmented, and a `ResultContext`. Out: SEG, SR, QC
picture and volumes.json in one folder, with their digests; the same input gives the same bytes,
for every UID and time is derived from it. Fails: `RoundTripMismatch` where the SEG that was
written does not decode to the label map; `DatasetMismatch` where the source cannot be re-read.
"""

from viscera.encode.context import Predecessor, ResultContext, read_predecessor
from viscera.encode.qc import write_qc
from viscera.encode.results import write_results
from viscera.encode.volumes import write_volumes_json

__all__ = [
    "Predecessor",
    "ResultContext",
    "read_predecessor",
    "write_qc",
    "write_results",
    "write_volumes_json",
]
