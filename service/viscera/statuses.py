"""The only table outward: error class -> gRPC code and DIMSE status.

DIMSE codes: PS3.4 table B.2-1 (C-STORE) and PS3.7 annex C. A class without a row of its own
takes its nearest ancestor's.
"""

from dataclasses import dataclass

import grpc

from viscera import errors


@dataclass(frozen=True, slots=True)
class Outward:
    """What the two protocols are told about one error class."""

    grpc: grpc.StatusCode
    dimse: int


_TABLE: dict[type[errors.ServiceError], Outward] = {
    errors.ServiceError: Outward(grpc.StatusCode.INTERNAL, 0x0110),
    errors.RejectedInstance: Outward(grpc.StatusCode.INVALID_ARGUMENT, 0xC000),
    errors.UnsupportedSOPClass: Outward(grpc.StatusCode.INVALID_ARGUMENT, 0x0122),
    errors.DatasetMismatch: Outward(grpc.StatusCode.INVALID_ARGUMENT, 0xA900),
    errors.InvalidUID: Outward(grpc.StatusCode.INVALID_ARGUMENT, 0x0117),
    errors.ConflictingInstance: Outward(grpc.StatusCode.ALREADY_EXISTS, 0x0111),
    errors.UnusableSeries: Outward(grpc.StatusCode.FAILED_PRECONDITION, 0xC000),
    errors.UnknownPeer: Outward(grpc.StatusCode.PERMISSION_DENIED, 0x0124),
    errors.NotAuthorised: Outward(grpc.StatusCode.UNAUTHENTICATED, 0x0124),
    errors.JobNotFound: Outward(grpc.StatusCode.NOT_FOUND, 0x0110),
    errors.SeriesNotFound: Outward(grpc.StatusCode.NOT_FOUND, 0x0110),
    errors.JobStopped: Outward(grpc.StatusCode.ABORTED, 0x0110),
    errors.ModelNotFound: Outward(grpc.StatusCode.NOT_FOUND, 0x0110),
    errors.InvalidRequest: Outward(grpc.StatusCode.INVALID_ARGUMENT, 0xC000),
    errors.LeaseLost: Outward(grpc.StatusCode.ABORTED, 0x0110),
    errors.Exhausted: Outward(grpc.StatusCode.RESOURCE_EXHAUSTED, 0xA700),
    errors.ClientSilent: Outward(grpc.StatusCode.ABORTED, 0x0110),
    errors.DeviceLost: Outward(grpc.StatusCode.UNAVAILABLE, 0x0110),
    errors.ShuttingDown: Outward(grpc.StatusCode.UNAVAILABLE, 0xA700),
    errors.StorageUnavailable: Outward(grpc.StatusCode.UNAVAILABLE, 0xA700),
    errors.PeerUnreachable: Outward(grpc.StatusCode.UNAVAILABLE, 0xA700),
    errors.PeerRefused: Outward(grpc.StatusCode.FAILED_PRECONDITION, 0x0110),
    errors.StoreUnavailable: Outward(grpc.StatusCode.UNAVAILABLE, 0xA700),
}


def outward(error: BaseException) -> Outward:
    """Return the row of `error`'s class or of its nearest ancestor; INTERNAL for strangers."""
    for cls in type(error).__mro__:
        if cls in _TABLE:
            return _TABLE[cls]
    return _TABLE[errors.ServiceError]
