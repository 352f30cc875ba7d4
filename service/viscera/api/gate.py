"""What every call passes: the caller's name, limits on number and silence, errors as statuses."""

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from viscera import log
from viscera.api import failures
from viscera.api.auth import LOCAL, Authenticator
from viscera.api.patience import only_message, taken_in_time, timely
from viscera.api.slots import Slots
from viscera.config import GrpcSettings
from viscera.errors import ServiceError

_log = log.get(__name__)

_PUBLIC = frozenset({"/grpc.health.v1.Health/Check"})
"""Probes show no token; the answer is one word."""
_HEALTH = "/grpc.health.v1."
_ONE_MESSAGE_S = 10.0
"""For the message of a call that has one: it is small, and comes with the call."""

if TYPE_CHECKING:  # only the stubs make it generic
    _Handler = grpc.RpcMethodHandler[Any, Any]
else:
    _Handler = grpc.RpcMethodHandler


_Behaviour = Callable[..., Any]
_Read = Callable[[Iterator[Any]], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a method of ours may know of its caller; it never sees grpc's context."""

    principal: str
    is_active: Callable[[], bool]
    """Whether the client is still there."""


class Gate(grpc.ServerInterceptor):
    """Authenticates, admits, and turns what a call raises into its status. The only one."""

    def __init__(self, authenticator: Authenticator, settings: GrpcSettings) -> None:
        self._authenticator = authenticator
        self._slots = Slots(settings)
        self._idle_s = settings.idle_timeout_s

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], _Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Return the method's handler with the gate around it.

        Each becomes one that takes a stream, which is the same on the wire: grpc would wait for the
        message of another one, for ever and before anybody is asked for a token.
        """
        handler, method = continuation(handler_call_details), handler_call_details.method
        if handler is None:
            return handler
        behaviour = _behaviour(handler)
        first = timely if handler.request_streaming else only_message
        idle_s = self._idle_s if handler.request_streaming else min(self._idle_s, _ONE_MESSAGE_S)
        guard, make = (
            (self._stream, grpc.stream_stream_rpc_method_handler)
            if handler.response_streaming
            else (self._unary, grpc.stream_unary_rpc_method_handler)
        )
        return make(
            guard(method, behaviour, lambda requests: first(requests, idle_s)),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _unary(self, method: str, behaviour: _Behaviour, read: _Read) -> _Behaviour:
        def answer(requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
            with _statuses(method, context):
                principal = self._principal(method, context)
                return behaviour(read(requests), _call(method, principal, context))

        return answer

    def _stream(self, method: str, behaviour: _Behaviour, read: _Read) -> _Behaviour:
        def answers(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
            with _statuses(method, context):
                principal = self._principal(method, context)
                # Unary calls have threads of their own beside these.
                with self._slots.held(principal):
                    for part in behaviour(read(requests), _call(method, principal, context)):
                        with taken_in_time(context, self._idle_s):
                            yield part

        return answers

    def _principal(self, method: str, context: grpc.ServicerContext) -> str:
        return LOCAL if method in _PUBLIC else self._authenticator.principal(context)


def _call(method: str, principal: str, context: grpc.ServicerContext) -> Any:
    if method.startswith(_HEALTH):
        return context  # its servicer is grpc's own
    return Call(principal=principal, is_active=context.is_active)


def _behaviour(handler: _Handler) -> _Behaviour:
    """Return the function that answers."""
    kinds = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
    found: list[_Behaviour] = [b for kind in kinds if (b := getattr(handler, kind)) is not None]
    return found[0]


@contextmanager
def _statuses(method: str, context: grpc.ServicerContext) -> Iterator[None]:
    """End the call with the status of what the block raises."""
    start = time.monotonic()
    try:
        yield
    except grpc.RpcError:
        _log.info("call_dropped", method=method)  # by the client; nobody is there to be told
    except ServiceError as error:
        seconds = round(time.monotonic() - start, 3)
        _log.info("call_refused", method=method, reason=error.reason, seconds=seconds)
        context.abort_with_status(failures.to_status(error))
    except Exception as error:
        # Not the error's text: a parser's words may repeat what stood in a data set.
        where = traceback.format_tb(error.__traceback__)
        _log.error("call_failed", method=method, error=type(error).__name__, where=where)
        told = ServiceError(f"internal error ({type(error).__name__}); the service's log has more")
        context.abort_with_status(failures.to_status(told))
