"""What the service tells its operator of every request: its id, one JSON line, its counts and times."""

from __future__ import annotations

import os
import re
import time
from collections.abc import MutableMapping
from typing import Any

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.draining import Draining
from service.errors import CLIENT_GONE, problem_response
from service.headers import header
from service.json_lines import JsonLines
from service.metrics import Metrics
from service.siblings import Siblings

__all__ = ["RequestTelemetry", "is_exported", "note", "server_timing"]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PREDICTING = ("/predict", "/infer")
_UNLOGGED = {"/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"}


def is_exported() -> bool:
    """Whether the environment names a place for OpenTelemetry's spans, metrics or logs."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    return any(os.environ.get(f"OTEL_EXPORTER_OTLP_{part}ENDPOINT") for part in ("", "TRACES_", "METRICS_", "LOGS_"))


def note(scope: Scope, **members: Any) -> None:
    """Add to the line that will be logged of a request."""
    scope["state"].setdefault("noted", {}).update(members)


def server_timing(*, decode: float, queue: float, forward: float, encode: float) -> tuple[bytes, bytes]:
    """A `Server-Timing` header: what the stages of a prediction took, from seconds."""
    shown = (
        f"decode;dur={1e3 * decode:.3f}, queue;dur={1e3 * queue:.3f}, "
        f"forward;dur={1e3 * forward:.3f}, encode;dur={1e3 * encode:.3f}"
    )
    return b"server-timing", shown.encode("ascii")


class RequestTelemetry:
    """Names each request, times, counts and logs it, and turns a bug into a 500.

    A request's id is the caller's `X-Request-ID` when it is a plain token, else a new one.
    """

    def __init__(
        self, app: ASGIApp, *, metrics: Metrics, logger: JsonLines, draining: Draining, siblings: Siblings
    ) -> None:
        self.app, self.metrics, self.logger, self.draining, self.siblings = app, metrics, logger, draining, siblings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, and record what became of it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        started, status = time.perf_counter(), 0

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message.setdefault("headers", [])
                headers.append((b"x-request-id", request_id.encode("ascii")))
                if self.draining.begun:
                    headers.append((b"connection", b"close"))
            await send(message)

        try:
            await self.app(scope, receive, named)
        except Exception:  # the last door: whatever it is, the caller learns no more than the id
            self.logger.exception("request failed", method=scope["method"], route=_route(scope), request_id=request_id)
            if status:
                raise
            detail = "something went wrong here; the log has it under this request's id"
            await problem_response(Request(scope), 500, "internal", detail)(scope, receive, named)
        finally:
            self._record(scope, status, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        method, route = scope["method"], _route(scope)
        if route in _UNLOGGED or self.siblings.is_asking(scope):
            return
        self.metrics.requested(method, route, status, seconds)
        if status == CLIENT_GONE and route.endswith(_PREDICTING):
            self.metrics.rejected("gone")
        self.logger.info(
            "request",
            method=method,
            route=route,
            status=status,
            duration_ms=round(seconds * 1e3, 2),
            request_id=scope["state"]["request_id"],
            **scope["state"].get("noted", {}),
        )


def _request_id(scope: Scope) -> str:
    given = header(scope, b"x-request-id")
    return given if given is not None and _REQUEST_ID.fullmatch(given) else os.urandom(16).hex()


def _route(scope: MutableMapping[str, Any]) -> str:
    """The template of the path, which has few values; a path that nothing serves has none."""
    return getattr(scope.get("route"), "path", "") or "unmatched"
