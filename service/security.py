"""What guards the door: a limit on bodies, no writes from foreign web pages, careful headers."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import problem_response

__all__ = ["BodyLimit", "SameOrigin", "SecurityHeaders"]

_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
_PAGE = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
# Swagger's page loads its script from a public host and starts it inline.
_DOCS = (
    "default-src 'self'; img-src 'self' data: https://fastapi.tiangolo.com; "
    "script-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net; "
    "style-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net; frame-ancestors 'none'"
)


class BodyLimit:
    """Refuse a body that is larger than its path allows: by its declared length, else while it arrives.

    Starlette's own limit answers in plain text; this one answers with a problem document.

    Args:
        limit_bytes: of every path that `limits` does not name.
        limits: bytes by path, for `POST`.
    """

    def __init__(self, app: ASGIApp, *, limit_bytes: int, limits: Mapping[str, int]) -> None:
        self.app, self.limit_bytes, self.limits = app, limit_bytes, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 413 at once, or let the request through with its bytes counted."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self.limits.get(scope["path"], self.limit_bytes)
        detail = f"the body is larger than {limit} bytes"
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared) > limit:
            response = problem_response(
                Request(scope), 413, "too-large", detail, field="body", value=f"{declared} bytes", remedy="send less"
            )
            await response(scope, receive, send)
            return
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise HTTPException(413, detail)
            return message

        await self.app(scope, limited, send)


class SameOrigin:
    """Refuse what a browser sends on behalf of another site's page, reading aside.

    The service has no keys yet and listens on loopback: without this, any page that its user
    visits could post a file to it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 to a write from elsewhere."""
        if scope["type"] == "http" and scope["method"] not in _SAFE_METHODS and _foreign(Headers(scope=scope)):
            response = problem_response(
                Request(scope), 403, "foreign-origin", "this request comes from a page of another site"
            )
            await response(scope, receive, send)
            return
        await self.app(scope, receive, send)


def _foreign(headers: Headers) -> bool:
    origin = headers.get("origin")
    if origin is None:
        return headers.get("sec-fetch-site") in {"cross-site", "same-site"}
    try:
        return urlsplit(origin).netloc != headers.get("host")
    except ValueError:
        return True


class SecurityHeaders:
    """Tell browsers to guess no types, send no referrer, allow no frames and load nothing foreign."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers to whatever is answered."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                headers["X-Frame-Options"] = "DENY"
                headers["Referrer-Policy"] = "no-referrer"
                headers["Content-Security-Policy"] = _DOCS if scope["path"] == "/docs" else _PAGE
            await send(message)

        await self.app(scope, receive, guarded)
