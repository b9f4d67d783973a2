"""One file per group of verbs; importing them registers them."""

from service.cli.verbs import serve

__all__ = ["serve"]
