"""What the HTTP server refuses before it reads a request: no password, too large a body, too many requests.

All of it is plain ASGI, so a refused body is never held in memory.
"""

import base64
import binascii
import hmac
import json
import time
from collections.abc import Mapping
from math import ceil

from limits import RateLimitItem
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN = frozenset({"/health", "/ready"})  # a load balancer asks these, without a password and as often as it likes


class Guard:
    """Lets requests through that bring the password and stay within the limits.

    Args:
        app: what answers them.
        token: the password. It comes as `Authorization: Bearer <token>`, or as the password of basic authentication, which
            browsers ask for.
        max_bytes: longest body.
        rate: requests that one client address may send in a time, such as `limits.parse("100/second")`; None for any number.
            Each process of the server counts for itself.
    """

    def __init__(self, app: ASGIApp, *, token: str, max_bytes: int, rate: RateLimitItem | None) -> None:
        self._app, self._token, self._max_bytes, self._rate = app, token.encode(), max_bytes, rate
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value for name, value in scope["headers"]}
        if not self._known(headers.get("authorization", b"")):
            await _refuse(send, 401, "the password is missing or wrong", {"www-authenticate": 'Basic realm="esans"'})
        elif (wait := self._wait(scope)) is not None:
            await _refuse(send, 429, f"too many requests: at most {self._rate}", {"retry-after": str(wait)})
        elif not headers.get("content-length", b"0").isdigit():
            await _refuse(send, 400, "Content-Length is no number")
        elif int(headers.get("content-length", b"0")) > self._max_bytes:
            await _refuse(send, 413, f"the body is larger than {self._max_bytes} bytes")
        else:
            body = await self._read(receive)
            if body is None:
                await _refuse(send, 413, f"the body is larger than {self._max_bytes} bytes")
            else:
                await self._app(scope, _replayed(body, receive), send)

    def _known(self, sent: bytes) -> bool:
        kind, _, given = sent.partition(b" ")
        if kind.lower() == b"basic":
            try:
                given = base64.b64decode(given.strip(), validate=True).partition(b":")[2]
            except binascii.Error:
                return False
        elif kind.lower() != b"bearer":
            return False
        return hmac.compare_digest(given.strip(), self._token)

    def _wait(self, scope: Scope) -> int | None:
        """Seconds after which the client may ask again; None if it may now."""
        if self._rate is None:
            return None
        client = (scope.get("client") or ("unknown", 0))[0]
        if self._limiter.hit(self._rate, client):
            return None
        return max(1, ceil(self._limiter.get_window_stats(self._rate, client).reset_time - time.time()))

    async def _read(self, receive: Receive) -> bytes | None:
        """The body; None if it is too large, whatever the header said."""
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return bytes(body)
            body += message.get("body", b"")
            if len(body) > self._max_bytes:
                return None
            if not message.get("more_body", False):
                return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _refuse(send: Send, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
    body = json.dumps({"detail": detail}).encode()
    named = {"content-type": "application/json", "content-length": str(len(body))} | dict(headers or {})
    lines = [(name.encode(), value.encode()) for name, value in named.items()]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})
