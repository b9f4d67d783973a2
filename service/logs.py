"""Log lines: for people on a terminal, as JSON for machines; the standard library's go the same way."""

import logging
import sys
from contextlib import suppress

import structlog

from service.settings import Settings


class _Lines:
    """Writes to whatever sys.stderr is by then; a line that its disk or reader does not take harms nobody else."""

    def msg(self, line: str) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()

    debug = info = warning = error = critical = msg


def configure(settings: Settings) -> None:
    """Set the process's logging up, once, on stderr."""
    level = getattr(logging, settings.log_level.upper())
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Lines(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *processors],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler])
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    # A new broker makes its coordinator while the first members ask; aiokafka asks again.
    logging.getLogger("aiokafka.consumer.group_coordinator").addFilter(
        lambda record: "GroupCoordinatorNotAvailableError" not in record.getMessage()
    )
    # Our own doing: `topics create` makes the topics, and a start without them is refused.
    logging.getLogger("turnstile.faststream").addFilter(
        lambda record: not record.getMessage().startswith("Auto create topics is disabled")
    )
