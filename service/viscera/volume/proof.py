"""Which transfer syntaxes decode on this machine: each is tried on samples with known values.

A decoder that is installed is not yet one that works: a wheel may lack a codec, refuse signed
values, or crash on this processor. So what negotiation offers is what was just decoded, by the
very children that will decode patients' pixels.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from viscera import log
from viscera.config import DecodeSettings
from viscera.errors import DatasetMismatch, HostMemoryFull, UndecodablePixels
from viscera.volume.canvas import Canvas
from viscera.volume.pool import DecodePool
from viscera.volume.work import FrameWork

_log = log.get(__name__)

FOLDER = Path(__file__).parent / "samples"
SOP_UID = "1.2.826.0.1.3680043.8.498.5"
"""Of all samples: they are one slice."""

_ROWS, _COLUMNS = 33, 41  # odd and unequal, and just large enough for five wavelet levels


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A slice in one transfer syntax, whose stored values a formula gives."""

    transfer_syntax_uid: str
    kind: str
    """``signed`` (16 bits), ``unsigned`` and ``signed12`` (12 of 16 bits) or ``bytes`` (8 bits).

    The upper bits of ``signed12`` are 0, not copies of the sign: codecs that know no sign hand
    them over so.
    """
    tolerance: int = 0
    """Largest error of a stored value; above 0 for lossy syntaxes alone."""

    @property
    def file(self) -> str:
        """Its name in `FOLDER`."""
        return f"{self.transfer_syntax_uid}-{self.kind}.dcm"

    @property
    def bits_stored(self) -> int:
        """Of its pixels."""
        return {"signed": 16, "unsigned": 12, "signed12": 12, "bytes": 8}[self.kind]

    def stored(self) -> np.ndarray:
        """Return (row, column) what was encoded: slopes, one edge, a little texture."""
        row, column = np.indices((_ROWS, _COLUMNS))
        texture = (row * 7919 + column * 104729 + row * column * 31) % 7
        edge = np.where(column > 10, 900, -1000)
        signed = (edge + row * 30 - column * 15 + texture).astype(np.int16)
        values: dict[str, np.ndarray] = {
            "signed": signed,
            "signed12": signed,
            "unsigned": (100 + row * 60 + column * 40 + texture).astype(np.uint16),
            "bytes": (row * 4 + column * 3).astype(np.uint8),
        }
        return values[self.kind]


def _samples(
    uid: str, tolerance: int = 0, kinds: str = "signed signed12 unsigned"
) -> tuple[Sample, ...]:
    return tuple(
        Sample(transfer_syntax_uid=uid, kind=kind, tolerance=tolerance) for kind in kinds.split()
    )


SAMPLES: tuple[Sample, ...] = (
    *_samples("1.2.840.10008.1.2"),
    *_samples("1.2.840.10008.1.2.1"),
    *_samples("1.2.840.10008.1.2.2"),
    *_samples("1.2.840.10008.1.2.5"),
    *_samples("1.2.840.10008.1.2.4.50", 2, "bytes"),
    *_samples("1.2.840.10008.1.2.4.51", 8, "unsigned"),
    *_samples("1.2.840.10008.1.2.4.57"),
    *_samples("1.2.840.10008.1.2.4.70"),
    *_samples("1.2.840.10008.1.2.4.80"),
    *_samples("1.2.840.10008.1.2.4.81", 2, "unsigned"),
    *_samples("1.2.840.10008.1.2.4.90"),
    *_samples("1.2.840.10008.1.2.4.91", 3, "signed unsigned"),
    *_samples("1.2.840.10008.1.2.4.201", 0, "signed unsigned"),
    *_samples("1.2.840.10008.1.2.4.202", 0, "signed unsigned"),
    *_samples("1.2.840.10008.1.2.4.203", 3, "signed unsigned"),
)


def proven_syntaxes(settings: DecodeSettings, folder: Path = FOLDER) -> frozenset[str]:
    """Return the transfer syntaxes all of whose samples decode to what was encoded.

    Parameters
    ----------
    settings
        Limits of the children; one is started, asked and ended here.
    folder
        Of the samples.

    Raises
    ------
    HostMemoryFull
        If no child starts within its memory limit.
    """
    with DecodePool(settings.model_copy(update={"processes": 1})) as pool:
        failed = {s.transfer_syntax_uid for s in SAMPLES if not _decodes(s, pool, folder)}
    return frozenset(sample.transfer_syntax_uid for sample in SAMPLES) - failed


def _decodes(sample: Sample, pool: DecodePool, folder: Path) -> bool:
    expected = sample.stored()
    work = FrameWork(
        path=str(folder / sample.file),
        sop_uid=SOP_UID,
        modality="CT",
        rows=_ROWS,
        columns=_COLUMNS,
        frames=((1, 0),),
    )
    try:
        with Canvas((1, _ROWS, _COLUMNS)) as canvas:
            decoded, _ = canvas.take(pool.decode((work,), canvas))
    except (DatasetMismatch, UndecodablePixels, HostMemoryFull) as error:
        because = error.reason
    else:
        error_max = int(np.abs(decoded[0].astype(int) - expected).max())
        if error_max <= sample.tolerance:
            return True
        because = f"values differ by {error_max}"
    _log.warning(
        "decoder_not_proven",
        transfer_syntax=sample.transfer_syntax_uid,
        sample=sample.kind,
        because=because,
    )
    return False
