"""Faults on the real broker and database."""
