"""A client's messages, for as long as it keeps sending them, and ours while it takes them."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from viscera import log
from viscera.errors import ClientSilent, InvalidRequest

_log = log.get(__name__)

_Came = queue.SimpleQueue[tuple[Any, Exception | None]]


def timely(requests: Iterator[Any], idle_s: float) -> Iterator[Any]:
    """Yield the messages of a call.

    grpc's iterator waits for ever, so a thread of its own waits there; it ends with the call. It
    reads one message when one is asked for: who works on the last one does not wait for the next.

    Parameters
    ----------
    idle_s
        Longest time that one message may take to arrive, whole.

    Raises
    ------
    ClientSilent
        If it takes longer.
    grpc.RpcError
        If the client went.
    """
    wanted, over, came = threading.Semaphore(0), threading.Event(), _Came()
    arguments = (requests, wanted, over, came)
    threading.Thread(target=_read, args=arguments, name="request-reader", daemon=True).start()
    try:
        while True:
            wanted.release()
            message, error = _take(came, idle_s)
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield message
    finally:
        over.set()
        wanted.release()


def only_message(requests: Iterator[Any], idle_s: float) -> Any:
    """Return the one message of a call that has one.

    Raises
    ------
    ClientSilent
        If it does not come within `idle_s`.
    InvalidRequest
        If the client ended the call without it.
    """
    messages = timely(requests, idle_s)
    try:
        return next(messages)
    except StopIteration:
        raise InvalidRequest("the call ended without its message; send one") from None


@contextmanager
def taken_in_time(context: grpc.ServicerContext, idle_s: float) -> Iterator[None]:
    """Cancel the call if its client has not taken the message, or made room for it, by then.

    It is told CANCELLED, without details: a status of ours would wait behind the message.
    """

    def give_up() -> None:
        _log.info("answers_not_taken", seconds=idle_s)
        context.cancel()

    timer = threading.Timer(idle_s, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _read(
    requests: Iterator[Any], wanted: threading.Semaphore, over: threading.Event, came: _Came
) -> None:
    while wanted.acquire() and not over.is_set():
        try:
            came.put((next(requests), None))
        except Exception as error:  # the call's thread raises it
            came.put((None, error))
            return


def _take(came: _Came, idle_s: float) -> tuple[Any, Exception | None]:
    try:
        return came.get(timeout=idle_s)
    except queue.Empty:
        raise ClientSilent(
            f"no message came within {idle_s:g} s, the longest that this service waits "
            "(grpc.idle_timeout_s for uploads); call again, and send without a pause"
        ) from None
