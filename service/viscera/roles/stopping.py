"""SIGTERM and SIGINT become an event."""

import signal
import socket
import threading


def stop_on_signals() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set; call it from the main thread, once.

    A thread sets it, told by the byte that the interpreter writes for each signal. A handler must
    not: it runs in the main thread, which may hold the event's lock at that moment, in `wait` or
    in the handler of the signal before, and would wait for itself for ever.
    """
    stop = threading.Event()
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)

    def pass_on() -> None:
        # For the life of the process: a writer that is closed would fail every later signal.
        while reader.recv(1) and writer:
            stop.set()

    threading.Thread(target=pass_on, name="signals", daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return stop
