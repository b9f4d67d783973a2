"""For producers and subscribers: send a command and await its reply, read the events. Needs the contracts alone."""

from client.client import Client, ClientError, ReplyTimeout

__all__ = ["Client", "ClientError", "ReplyTimeout"]
