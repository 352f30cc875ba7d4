"""A label map, measurements and a job's row become the files that leave the house.

In: what `measure` made, the stack that was segmented, and a `ResultContext`. Out: SEG, SR, QC
picture and volumes.json in one folder, with their digests; the same input gives the same bytes,
for every UID and time is derived from it. Fails: `DatasetMismatch` where the source cannot be
re-read, `UnusableSeries` where one SEG cannot hold so much; `prove_results` with
`RoundTripMismatch` where the SEG on the disk does not decode to the label map.

Numba is imported late, by `warm_up` or the first SEG; its settings come before.
"""

from viscera.encode.context import Predecessor, ResultContext, read_predecessor
from viscera.encode.qc import write_qc
from viscera.encode.results import prove_results, write_results
from viscera.encode.runtime import warm_up
from viscera.encode.volumes import write_volumes_json

__all__ = [
    "Predecessor",
    "ResultContext",
    "prove_results",
    "read_predecessor",
    "warm_up",
    "write_qc",
    "write_results",
    "write_volumes_json",
]
