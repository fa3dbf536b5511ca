"""What guards the door: a limit on bodies, no foreign web pages, careful headers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moda_core.errors import TooLarge
from service.errors import problem_response
from service.headers import declared_bytes, header, media_type
from service.remembering import remembered

__all__ = ["BodyLimit", "KnownHosts", "SameOrigin", "SecurityHeaders"]

_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
_PROBES = {
    "/healthz",
    "/readyz",
    "/v2/health/live",
    "/v2/health/ready",
}  # asked by address, and they tell nothing worth hiding
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_PAGE = (
    b"default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    b"form-action 'self'; frame-ancestors 'none'"
)
# Swagger UI writes style attributes.
_DOCS = _PAGE + b"; style-src 'self' 'unsafe-inline'"
_CAREFUL = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)


class BodyLimit:
    """Refuse a body that is larger than its path allows: by its declared length, else while it arrives.

    Starlette's own limit answers in plain text; this one answers with a problem document.

    Args:
        limit_bytes: of every request that `uploads` does not name.
        uploads: bytes by path, for a `POST` of `multipart/form-data`: files are spooled to disk, and
            every other body is held in memory.
    """

    def __init__(self, app: ASGIApp, *, limit_bytes: int, uploads: Mapping[str, int]) -> None:
        self.app, self.limit_bytes, self.uploads = app, limit_bytes, uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 413 at once, or let the request through with its bytes counted."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self._limit(scope)
        problem, remedy = f"the body is larger than {limit} bytes", f"send at most {limit} bytes"
        declared = declared_bytes(scope)
        if declared > limit:
            response = problem_response(
                Request(scope), 413, "too-large", problem, field="body", value=f"{declared} bytes", remedy=remedy
            )
            await response(scope, receive, send)
            return
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise TooLarge("body", f"{received} bytes or more", problem, remedy)
            return message

        await self.app(scope, limited, send)

    def _limit(self, scope: Scope) -> int:
        raised = self.uploads.get(scope["path"])
        if raised is None or scope["method"] != "POST":
            return self.limit_bytes
        return raised if media_type(scope) == "multipart/form-data" else self.limit_bytes


class KnownHosts:
    """Answer only requests that name this service as their host.

    A page of another site can let its own name point at this machine; its requests then have one
    origin with what they ask for, and only the name in `Host` tells them apart. This matters for as
    long as nobody is asked for a key.

    Args:
        names: host names without port, besides those of loopback; `*` is any. A request without
            `Host` comes from no browser, and is answered.
    """

    def __init__(self, app: ASGIApp, *, names: Collection[str]) -> None:
        self.app, self.names = app, {*_LOOPBACK, *(name.lower().strip("[]") for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 421 to a request for another host."""
        host = header(scope, b"host") if scope["type"] == "http" else None
        probed = scope.get("path") in _PROBES
        if host is None or probed or "*" in self.names or _name(host) in self.names:
            await self.app(scope, receive, send)
            return
        response = problem_response(
            Request(scope),
            421,
            "unknown-host",
            "this service does not go by the name that the request's Host has",
            field="Host",
            value=host[:120],
            remedy="name the host in MODA_ALLOWED_HOSTS (a list with commas; * allows every name)",
        )
        await response(scope, receive, send)


@remembered(most=256, longest=256)
def _name(host: str) -> str | None:
    """The host's name without its port, in small letters; None for what is no host."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


class SameOrigin:
    """Refuse what a browser sends on behalf of another site's page, reading aside.

    The service has no keys yet and listens on loopback: without this, any page that its user
    visits could post a file to it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 to a write from elsewhere."""
        if scope["type"] != "http" or scope["method"] in _SAFE_METHODS or not _foreign(scope):
            await self.app(scope, receive, send)
            return
        response = problem_response(
            Request(scope),
            403,
            "foreign-origin",
            "this request comes from a page of another site",
            field="Origin",
            value=(header(scope, b"origin") or header(scope, b"sec-fetch-site") or "")[:120],
            remedy="send it from the service's own page, or from a program that is no browser",
        )
        await response(scope, receive, send)


def _foreign(scope: Scope) -> bool:
    origin = header(scope, b"origin")
    if origin is None:
        return header(scope, b"sec-fetch-site") in {"cross-site", "same-site"}
    try:
        return urlsplit(origin).netloc != header(scope, b"host")
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
                policy = _DOCS if scope["path"] == "/docs" else _PAGE
                message.setdefault("headers", []).extend((*_CAREFUL, (b"content-security-policy", policy)))
            await send(message)

        await self.app(scope, receive, guarded)
