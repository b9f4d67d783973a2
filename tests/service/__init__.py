"""Tests of the running process and its adapters."""
