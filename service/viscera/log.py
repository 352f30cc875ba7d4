"""Logs: structlog over stdlib. Events are constant words, facts are keys, no patient data."""

import logging
import sys
from collections.abc import Mapping

import structlog

from viscera.config import LogSettings


def configure(settings: LogSettings, role: str, number: int | None = None) -> None:
    """Send structlog's and the standard library's records to stderr in one format.

    `number` is of one process where a role is several; it is on every line then.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _name_role({"role": role} | ({} if number is None else {"process": number})),
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    # Below warnings these two print data sets and association details.
    for name in ("pynetdicom", "pydicom", "alembic", "highdicom"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _name_role(names: Mapping[str, str | int]) -> structlog.typing.Processor:
    """Name the role on every line; context variables would not reach other libraries' threads."""

    def add(
        logger: structlog.typing.WrappedLogger, method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        for name, value in names.items():
            event.setdefault(name, value)
        return event

    return add


def get(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of one module."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger
