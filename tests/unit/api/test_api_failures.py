import inspect
from types import SimpleNamespace

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from viscera import errors
from viscera.api.failures import named, to_status

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass)]
CODES = {
    "CollidingSlices": "FAILED_PRECONDITION",
    "ClientSilent": "ABORTED",
    "ConflictingInstance": "ALREADY_EXISTS",
    "DatasetMismatch": "INVALID_ARGUMENT",
    "DeviceLost": "UNAVAILABLE",
    "DeviceMemoryFull": "RESOURCE_EXHAUSTED",
    "DeviceUnavailable": "INTERNAL",
    "Exhausted": "RESOURCE_EXHAUSTED",
    "GeometryMismatch": "FAILED_PRECONDITION",
    "HostMemoryFull": "RESOURCE_EXHAUSTED",
    "IncompleteSeries": "FAILED_PRECONDITION",
    "InvalidRequest": "INVALID_ARGUMENT",
    "InvalidSettings": "INTERNAL",
    "InvalidUID": "INVALID_ARGUMENT",
    "JobNotFound": "NOT_FOUND",
    "JobStopped": "ABORTED",
    "LeaseLost": "ABORTED",
    "MixedSeries": "FAILED_PRECONDITION",
    "ModelNotFound": "NOT_FOUND",
    "ModelRefused": "INTERNAL",
    "NoModelForSeries": "FAILED_PRECONDITION",
    "NotAnImageSeries": "FAILED_PRECONDITION",
    "NotAuthorised": "UNAUTHENTICATED",
    "PeerRefused": "FAILED_PRECONDITION",
    "PeerUnreachable": "UNAVAILABLE",
    "QueueFull": "RESOURCE_EXHAUSTED",
    "RejectedInstance": "INVALID_ARGUMENT",
    "RoundTripMismatch": "INTERNAL",
    "SeriesNotFound": "NOT_FOUND",
    "ServiceError": "INTERNAL",
    "ShuttingDown": "UNAVAILABLE",
    "SpoolFull": "RESOURCE_EXHAUSTED",
    "StorageUnavailable": "UNAVAILABLE",
    "StoreUnavailable": "UNAVAILABLE",
    "TooManyCalls": "RESOURCE_EXHAUSTED",
    "UndecodablePixels": "FAILED_PRECONDITION",
    "UnevenSpacing": "FAILED_PRECONDITION",
    "UnknownPeer": "PERMISSION_DENIED",
    "UnsupportedSOPClass": "INVALID_ARGUMENT",
    "UnusableSeries": "FAILED_PRECONDITION",
}
"""What clients have been promised; a class that is new belongs here too."""


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_leaves_with_its_class_its_sentence_and_whether_to_try_again(
    cls: type[errors.ServiceError],
) -> None:
    status = to_status(cls("seen, expected, to do"))
    call = SimpleNamespace(
        code=lambda: status.code,
        details=lambda: status.details,
        trailing_metadata=lambda: status.trailing_metadata,
    )
    rich = rpc_status.from_call(call)  # what a client reads; it checks code and message, too
    assert status.code is grpc.StatusCode[CODES[cls.__name__]]
    assert rich.message == "seen, expected, to do"
    infos = [error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()]
    unpacked = [info for info in infos for detail in rich.details if detail.Unpack(info)]
    assert unpacked[0] == error_details_pb2.ErrorInfo(reason=cls.__name__, domain="viscera")
    assert (len(unpacked) == 2) == cls.retry


def test_a_long_message_does_not_burst_the_trailers() -> None:
    status = to_status(errors.InvalidRequest("x" * 100_000))
    assert sum(len(value) for _, value in status.trailing_metadata) + len(status.details) < 8000


@pytest.mark.parametrize("cls", CLASSES)
def test_a_row_names_its_error(cls: type[errors.ServiceError]) -> None:
    error = named(cls.__name__, "a sentence")
    assert type(error) is cls
    assert str(error) == "a sentence"


@pytest.mark.parametrize("reason", ["", "KeyError", "__doc__", "Exception", "__builtins__"])
def test_a_row_that_names_no_error_of_ours_is_a_plain_one(reason: str) -> None:
    assert type(named(reason, "a sentence")) is errors.ServiceError
