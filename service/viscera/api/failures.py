"""An error as gRPC tells it: `statuses` has the code, this adds the details."""

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from viscera import errors
from viscera.statuses import outward

DOMAIN = "viscera"

_RETRY_S = 5
_LONGEST_MESSAGE = 1000
"""Characters. It travels twice in the trailers, and clients take 8 KiB of those."""


def to_status(error: errors.ServiceError) -> grpc.Status:
    """Return the gRPC status of `error`: code, sentence, ErrorInfo, RetryInfo if it may help."""
    message = str(error)[:_LONGEST_MESSAGE]
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    details: list[error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo] = [info]
    if error.retry:
        delay = Duration(seconds=_RETRY_S)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=outward(error).grpc.value[0], message=message)
    for detail in details:
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)
    answer: grpc.Status = rpc_status.to_status(status)
    return answer


def named(reason: str, message: str) -> errors.ServiceError:
    """Return the error that a row of the job store names, ready to be raised.

    A name that is no error's (of a newer version's row, say) becomes a `ServiceError`.
    """
    cls = getattr(errors, reason, errors.ServiceError)
    known = isinstance(cls, type) and issubclass(cls, errors.ServiceError)
    return (cls if known else errors.ServiceError)(message)
