"""One request to a remote engine over HTTP, bounded in time and in bytes; what goes wrong comes back as a value.

Redirects are not followed, nothing is decompressed, no proxy of the environment is used and no cookie kept. What is
left of an answer that is refused is not read: its connection is closed.
"""

import asyncio
from pathlib import Path
from typing import NamedTuple, Protocol

import aiohttp

from service.predicates.dialects import Request

ANSWER_BYTES_MAX = 1024 * 1024
_OK = 200
_ERROR = 500
_UNWANTED = (401, 403)

OTHER = "see whether TURNSTILE_PREDICATE_URL, _DIALECT and _OPA_BATCH are as it wants them"
"""What to do about an answer that is not a policy engine's."""


class Failed(NamedTuple):
    """A try that brought no answer: whether it may be tried again, and whether the engine said anything at all.

    `mend` is what an operator does about it.
    """

    cause: str
    retryable: bool = False
    answered: bool = False
    mend: str = ""


class Transport(Protocol):
    """What carries requests."""

    async def post(self, request: Request, *, seconds: float) -> bytes | Failed:
        """Return the answer's body, within some seconds."""
        ...

    async def close(self) -> None:
        """Let go of every connection."""
        ...


class Http:
    """Keeps connections to one engine; `token_file` is read for each request, so that a token may be changed."""

    def __init__(self, *, connections: int, token_file: Path | None = None) -> None:
        self._connections = connections
        self._token_file = token_file
        self._session: aiohttp.ClientSession | None = None

    async def post(self, request: Request, *, seconds: float) -> bytes | Failed:
        """Post a request; only a body that came with status 200 is an answer."""
        try:
            headers = self._headers()
        except (OSError, UnicodeDecodeError) as error:
            return Failed(f"TURNSTILE_PREDICATE_TOKEN_FILE cannot be read: {_worded(error)}", mend="name another")
        try:
            async with asyncio.timeout(seconds):
                return await self._post(request, headers)
        except TimeoutError:
            mend = "look at its load, or give it more time by TURNSTILE_PREDICATE_SECONDS"
            return Failed(f"it did not answer within {seconds:.2g} s", mend=mend)
        except (aiohttp.ClientConnectionError, OSError) as error:
            mend = "start it, or say by TURNSTILE_PREDICATE_URL where it is"
            return Failed(f"it cannot be reached: {_worded(error)}", retryable=True, mend=mend)
        except (aiohttp.ClientError, ValueError) as error:
            return Failed(f"it does not speak HTTP: {type(error).__name__}", answered=True, mend=OTHER)

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _post(self, request: Request, headers: dict[str, str]) -> bytes | Failed:
        async with self._opened().post(
            request.url, data=request.body, headers=headers, allow_redirects=False
        ) as response:
            if response.status != _OK:
                response.close()
                return _refused(response.status)
            body = bytearray()
            async for piece in response.content.iter_any():
                body += piece
                if len(body) > ANSWER_BYTES_MAX:
                    response.close()
                    return Failed(f"its answer has more than {ANSWER_BYTES_MAX} bytes", answered=True, mend=OTHER)
            return bytes(body)

    def _opened(self) -> aiohttp.ClientSession:
        """Return the session; made here, for it belongs to the loop that runs."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections),
                timeout=aiohttp.ClientTimeout(),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._session

    def _headers(self) -> dict[str, str]:
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if self._token_file is not None:
            headers["authorization"] = f"Bearer {self._token_file.read_text('utf-8').strip()}"
        return headers


def _refused(status: int) -> Failed:
    again = status >= _ERROR
    mend = OTHER
    if again:
        mend = "its own log says why"
    elif status in _UNWANTED:
        mend = "it does not take the token of TURNSTILE_PREDICATE_TOKEN_FILE, or wants one and that is not set"
    return Failed(f"it answered with status {status}", retryable=again, answered=True, mend=mend)


def _worded(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
