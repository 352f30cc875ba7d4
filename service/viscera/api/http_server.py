"""The HTTP door: ``/metrics``, ``/healthz``, ``/readyz``; nothing else."""

import socket
import threading
import traceback
from collections.abc import Callable, Iterable
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from viscera import log
from viscera.errors import InvalidSettings

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

_log = log.get(__name__)

_PLAIN = "text/plain; charset=utf-8"
_SLOWEST_CLIENT_S = 10.0

Answer = tuple[HTTPStatus, str, bytes]


class HttpServer:
    """The door for operators and Prometheus.

    Parameters
    ----------
    port
        0 takes a free one.
    metrics_page
        Returns the page in Prometheus' text format.
    health
        Whether the process is worth keeping.
    ready
        Whether it does its work now.
    """

    def __init__(
        self,
        host: str,
        port: int,
        metrics_page: Callable[[], bytes],
        health: Callable[[], bool],
        ready: Callable[[], bool],
    ) -> None:
        self._address = (host, port)
        self._routes: dict[str, Callable[[], Answer]] = {
            "/metrics": lambda: (HTTPStatus.OK, CONTENT_TYPE_PLAIN_0_0_4, metrics_page()),
            "/healthz": lambda: _state(health(), "healthy"),
            "/readyz": lambda: _state(ready(), "ready"),
        }
        self._server: WSGIServer | None = None

    @property
    def port(self) -> int:
        """The port that it listens on, once started."""
        return self._server.server_port if self._server else self._address[1]

    def start(self) -> None:
        """Listen and answer, on threads of its own.

        Raises
        ------
        InvalidSettings
            If the address cannot be bound.
        """
        kind = _IPv6Server if ":" in self._address[0] else _Server
        try:
            self._server = kind(self._address, _Handler)
        except OSError as error:
            host, port = self._address
            raise InvalidSettings(
                f"http.host, http.port: cannot listen on {host}:{port}: {error.strerror}"
            ) from error
        self._server.set_app(self._answer)
        threading.Thread(target=self._server.serve_forever, name="http", daemon=True).start()

    def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _answer(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        status, kind, body = self._route(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
        start_response(f"{status.value} {status.phrase}", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _route(self, method: str, path: str) -> Answer:
        route = self._routes.get(path)
        if route is None:
            return HTTPStatus.NOT_FOUND, _PLAIN, b"here are /metrics, /healthz and /readyz\n"
        if method not in ("GET", "HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED, _PLAIN, b"GET only\n"
        try:
            return route()
        except Exception as error:  # a page that fails must not end the door
            where = traceback.format_tb(error.__traceback__)
            _log.error("page_failed", path=path, error=type(error).__name__, where=where)
            return HTTPStatus.INTERNAL_SERVER_ERROR, _PLAIN, b"the service's log has more\n"


def _state(good: bool, word: str) -> Answer:
    if good:
        return HTTPStatus.OK, _PLAIN, f"{word}\n".encode()
    return HTTPStatus.SERVICE_UNAVAILABLE, _PLAIN, f"not {word}\n".encode()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def server_bind(self) -> None:
        """Bind without the base's look-up of our own name, which can take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.socket.getsockname()[:2]
        self.server_address = (self.server_name, self.server_port)
        self.setup_environ()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say in one line what socketserver would print as a traceback: clients go away."""
        _log.info("http_client_gone")


class _IPv6Server(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = _SLOWEST_CLIENT_S

    def log_message(self, format: str, *args: object) -> None:
        """Keep probes out of the log."""
