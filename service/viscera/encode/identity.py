"""UIDs that are derived, never drawn: encoding twice names the same objects."""

import hashlib
import uuid
from dataclasses import dataclass

import numpy as np

from viscera.domain.arrays import Labels


def derived_uid(*parts: str) -> str:
    """Return a UID that depends on `parts` alone.

    References
    ----------
    DICOM PS3.5 B.2: a UUID as a decimal number below 2.25.
    """
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"


def digest_of(labels: Labels) -> str:
    """Return the sha256 of a label map's values in C order."""
    return hashlib.sha256(np.ascontiguousarray(labels).data).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The UIDs of one result's objects."""

    job_key: str
    labels_sha256: str

    @property
    def seg_uid(self) -> str:
        """SOP instance of the SEG: the same sources and label map are the same object."""
        return derived_uid("seg", self.job_key, self.labels_sha256)

    @property
    def sr_uid(self) -> str:
        """SOP instance of the SR."""
        return derived_uid("sr", self.seg_uid)

    @property
    def seg_series_uid(self) -> str:
        """Series of the SEG."""
        return derived_uid("seg series", self.job_key)

    @property
    def sr_series_uid(self) -> str:
        """Series of the SR; another modality is another series (PS3.3 C.7.3.1)."""
        return derived_uid("sr series", self.job_key)

    @property
    def dimension_organization_uid(self) -> str:
        """Of the SEG's dimensions."""
        return derived_uid("dimensions", self.seg_uid)

    def tracking_uid(self, organ: str) -> str:
        """Of one organ, the same in SEG and SR."""
        return derived_uid("tracking", self.job_key, organ)

    def tracking_id(self, organ: str) -> str:
        """For people; the start of the job's key makes it unique among ours."""
        return f"{organ} {self.job_key[:16]}"
