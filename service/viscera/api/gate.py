"""What every call passes: the caller's name, the limit on streams, errors as statuses."""

import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from viscera import log
from viscera.api import failures
from viscera.api.auth import Authenticator
from viscera.errors import ServiceError, TooManyCalls

_log = log.get(__name__)

_PUBLIC = frozenset({"/grpc.health.v1.Health/Check"})
"""Probes show no token; the answer is one word."""
_HEALTH = "/grpc.health.v1."

if TYPE_CHECKING:  # only the stubs make it generic
    _Handler = grpc.RpcMethodHandler[Any, Any]
else:
    _Handler = grpc.RpcMethodHandler


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a method of ours may know of its caller; it never sees grpc's context."""

    principal: str
    is_active: Callable[[], bool]
    """Whether the client is still there."""


class Gate(grpc.ServerInterceptor):
    """Authenticates, admits, and turns what a call raises into its status. The only one."""

    def __init__(self, authenticator: Authenticator, max_streams: int) -> None:
        self._authenticator = authenticator
        self._max_streams = max_streams
        self._streams = threading.BoundedSemaphore(max_streams)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], _Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Return the method's handler with the gate around it."""
        handler, method = continuation(handler_call_details), handler_call_details.method
        if handler is None or method in _PUBLIC:
            return handler
        make: Callable[..., _Handler]
        behaviour, make = _parts(handler)
        guard = self._stream if handler.response_streaming else self._unary
        return make(
            guard(method, behaviour),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _unary(self, method: str, behaviour: Callable[..., Any]) -> Callable[..., Any]:
        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            with _statuses(method, context):
                return behaviour(request, self._call(method, context))

        return answer

    def _stream(self, method: str, behaviour: Callable[..., Any]) -> Callable[..., Any]:
        def answers(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            with _statuses(method, context):
                call = self._call(method, context)
                with self._slot():
                    yield from behaviour(request, call)

        return answers

    def _call(self, method: str, context: grpc.ServicerContext) -> Any:
        principal = self._authenticator.principal(context)
        if method.startswith(_HEALTH):
            return context  # its servicer is grpc's own
        return Call(principal=principal, is_active=context.is_active)

    @contextmanager
    def _slot(self) -> Iterator[None]:
        """Hold one of the streams; unary calls have threads of their own beside them."""
        if not self._streams.acquire(blocking=False):
            raise TooManyCalls(
                f"{self._max_streams} streaming calls are open, as many as grpc.max_streams "
                "allows; try again later"
            )
        try:
            yield
        finally:
            self._streams.release()


def _parts(handler: _Handler) -> tuple[Callable[..., Any], Callable[..., _Handler]]:
    """Return the handler's behaviour and grpc's function that makes such a handler."""
    for kind in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
        behaviour = getattr(handler, kind)
        if behaviour is not None:
            return behaviour, getattr(grpc, f"{kind}_rpc_method_handler")
    raise AssertionError("a handler without behaviour")


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
