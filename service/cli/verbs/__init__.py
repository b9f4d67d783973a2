"""One file per group of verbs; importing them registers them."""

from service.cli.verbs import (
    bench,
    db,
    dead_letters,
    definitions,
    demo,
    doctor,
    imports,
    look,
    migrate,
    partitions,
    send,
    serve,
    topics,
    verify,
    watch,
    why,
)

__all__ = [
    "bench",
    "db",
    "dead_letters",
    "definitions",
    "demo",
    "doctor",
    "imports",
    "look",
    "migrate",
    "partitions",
    "send",
    "serve",
    "topics",
    "verify",
    "watch",
    "why",
]
