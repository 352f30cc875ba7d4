"""Everything that can go wrong, by name. Imports nothing.

::

    ServiceError
    ├── RejectedInstance            one instance cannot be taken
    │   ├── UnsupportedSOPClass
    │   ├── DatasetMismatch         its bytes contradict what was announced
    │   ├── InvalidUID
    │   └── ConflictingInstance     same SOP Instance UID, other bytes
    ├── UnusableSeries              a series cannot become a volume
    │   ├── IncompleteSeries        slices missing or too few
    │   ├── CollidingSlices         two slices at one position
    │   ├── UnevenSpacing
    │   ├── MixedSeries             two patients, studies or frames of reference
    │   ├── GeometryMismatch        shapes or affines disagree
    │   ├── UndecodablePixels
    │   ├── NotAnImageSeries        SEG, SR, localiser only ...
    │   └── NoModelForSeries        no rule, or the model has no such modality
    ├── UnknownPeer
    ├── NotAuthorised
    ├── JobNotFound
    ├── SeriesNotFound              neither we nor the PACS have it
    ├── JobStopped                  cancelled or superseded before it had a result
    ├── ModelNotFound
    ├── ModelRefused                a package that must not be served
    ├── InvalidRequest              a client's call makes no sense
    ├── InvalidSettings
    ├── DeviceUnavailable           no driver or GPU that answers
    ├── DeviceLost                  the GPU broke off; the worker starts anew
    ├── RoundTripMismatch           what was written does not decode to what was meant
    ├── LeaseLost                   another worker owns the job now
    ├── Exhausted
    │   ├── QueueFull
    │   ├── SpoolFull
    │   ├── HostMemoryFull
    │   ├── DeviceMemoryFull
    │   └── TooManyCalls
    ├── ClientSilent                a call's next message does not come
    ├── ShuttingDown                this process ends; another one goes on
    ├── StorageUnavailable          a disk is full, or a file system does not answer
    ├── PeerUnreachable
    ├── PeerRefused                 a destination answered with a failure that stays
    └── StoreUnavailable

A message says what was seen, what was expected, what to do. UIDs yes, patient data never.
`retry` says whether the same input may succeed later; `statuses.py` holds the columns outward.
"""


class ServiceError(Exception):
    """The root of everything Viscera raises on purpose."""

    retry = False

    @property
    def reason(self) -> str:
        """The constant word for this error: its class name."""
        return type(self).__name__


class RejectedInstance(ServiceError):
    """One DICOM instance cannot be taken."""


class UnsupportedSOPClass(RejectedInstance):
    """The SOP class is not on this peer's list."""


class DatasetMismatch(RejectedInstance):
    """The data set contradicts the request that carried it, or cannot be parsed."""


class InvalidUID(RejectedInstance):
    """A UID breaks DICOM PS3.5 section 9."""


class ConflictingInstance(RejectedInstance):
    """A known SOP Instance UID came again with other bytes."""


class UnusableSeries(ServiceError):
    """A series cannot become a volume; its reason is the class name."""


class IncompleteSeries(UnusableSeries):
    """Slices are missing, or there are too few."""


class CollidingSlices(UnusableSeries):
    """Two slices lie at one position."""


class UnevenSpacing(UnusableSeries):
    """The gaps between slices differ by more than the tolerance."""


class MixedSeries(UnusableSeries):
    """One series holds two patients, two studies or two frames of reference."""


class GeometryMismatch(UnusableSeries):
    """Shapes, affines or tilt are not what the next step needs."""


class UndecodablePixels(UnusableSeries):
    """Pixel data cannot be decoded, or not to what the header promises."""


class NotAnImageSeries(UnusableSeries):
    """Nothing in the series is a CT or MR slice that can be stacked."""


class NoModelForSeries(UnusableSeries):
    """No rule chooses a model, or the chosen one does not know this modality."""


class UnknownPeer(ServiceError):
    """A caller is not in the settings."""


class NotAuthorised(ServiceError):
    """A caller showed no valid token or certificate."""


class JobNotFound(ServiceError):
    """No such job, or it belongs to another principal."""


class SeriesNotFound(ServiceError):
    """A PACS has no such series in that study."""


class JobStopped(ServiceError):
    """A job was cancelled, or superseded by a later version, before it had a result."""


class ModelNotFound(ServiceError):
    """No such model or version in the model repository."""


class ModelRefused(ServiceError):
    """A model package must not be served: digest, manifest or golden tile disagree."""


class InvalidRequest(ServiceError):
    """A call's arguments make no sense together."""


class InvalidSettings(ServiceError):
    """The settings are wrong; the message names the key."""


class DeviceUnavailable(ServiceError):
    """An engine needs a GPU, and none answers."""


class DeviceLost(ServiceError):
    """The GPU broke off in the middle of a job; the worker must start anew."""

    retry = True


class RoundTripMismatch(ServiceError):
    """A written object does not decode to the label map that it was made from."""


class LeaseLost(ServiceError):
    """Another worker holds a newer fence for this row; what this one did does not count."""


class Exhausted(ServiceError):
    """Some resource is used up for now."""

    retry = True


class QueueFull(Exhausted):
    """More jobs wait than the settings allow."""


class SpoolFull(Exhausted):
    """The disk has no room for another instance."""


class HostMemoryFull(Exhausted):
    """This job does not fit into host memory now."""


class DeviceMemoryFull(Exhausted):
    """This job does not fit into GPU memory now."""


class TooManyCalls(Exhausted):
    """More calls are open than the settings allow."""


class ClientSilent(ServiceError):
    """A client opened a call and then sent nothing for too long."""

    retry = True


class ShuttingDown(ServiceError):
    """This process ends; what is durable goes on elsewhere."""

    retry = True


class StorageUnavailable(ServiceError):
    """A file cannot be read or written for now: a full disk, a file system that is away."""

    retry = True


class PeerUnreachable(ServiceError):
    """A destination does not answer, or ended the association."""

    retry = True


class PeerRefused(ServiceError):
    """A destination refused an object for a reason that trying again does not mend."""


class StoreUnavailable(ServiceError):
    """The job store does not answer."""

    retry = True
