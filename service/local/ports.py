"""Decides on which ports of the loopback the embedded servers listen.

They lie below the range from which the kernel gives ports to clients: a client that retries while its server is down
could otherwise be given the very port the server wants back.
"""

import random
import socket

HOST = "127.0.0.1"
BROKER = range(20000, 24000)
CONTROLLER = range(24000, 28000)
DATABASE = range(28000, 32000)
_ANSWER_SECONDS = 1.0


def choose_port(wanted: range, remembered: int | None) -> int:
    """Return the remembered port if it is still free, else a free one of the wanted range."""
    candidates = random.sample(wanted, len(wanted))
    return next(port for port in [remembered, *candidates] if port is not None and is_free(port))


def is_free(port: int) -> bool:
    """Tell whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def is_open(port: int) -> bool:
    """Tell whether something accepts connections there."""
    try:
        with socket.create_connection((HOST, port), timeout=_ANSWER_SECONDS):
            return True
    except OSError:
        return False
