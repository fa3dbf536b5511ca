"""What the service tells its operator: one JSON line per request, and counters for Prometheus."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import MutableMapping
from typing import Any

import structlog
from fastapi import Request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import problem_response

__all__ = ["Metrics", "RequestTelemetry", "request_logger"]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_UNLOGGED = {"/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"}
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)


class Metrics:
    """The counters of one service process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "moda_http_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self.duration = Histogram(
            "moda_http_request_duration_seconds",
            "From the first byte of a request to the last of its answer.",
            ("method", "route"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.images = Counter("moda_images_predicted", "Images classified.", registry=self.registry)
        self.inference = Histogram(
            "moda_inference_seconds",
            "Time that the device spent on one request's images.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.loads = Histogram(
            "moda_model_load_seconds",
            "From a model that is not in memory to one that can predict.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.cached_models = Gauge("moda_cached_models", "Models ready to predict.", registry=self.registry)
        self.cached_bytes = Gauge("moda_cached_bytes", "Bytes that they hold.", registry=self.registry)

    def exposition(self) -> bytes:
        """All of them in Prometheus's text format."""
        return generate_latest(self.registry)


def request_logger() -> Any:
    """A logger that writes one JSON object per line to standard output."""
    return structlog.wrap_logger(
        structlog.PrintLogger(),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
    )


class RequestTelemetry:
    """Names each request, times, counts and logs it, and turns a bug into a 500.

    A request's id is the caller's `X-Request-ID` when it is a plain token, else a new one.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics, logger: Any) -> None:
        self.app, self.metrics, self.logger = app, metrics, logger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, and record what became of it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope))
        scope.setdefault("state", {})["request_id"] = request_id
        started, status = time.perf_counter(), 0

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, named)
            except Exception:  # the last door: whatever it is, the caller learns no more than the id
                self.logger.exception("request failed", method=scope["method"], route=_route(scope))
                if status:
                    raise
                detail = "something went wrong here; the log has it under this request's id"
                await problem_response(Request(scope), 500, "internal", detail)(scope, receive, named)
            finally:
                self._record(scope, status, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        method, route = scope["method"], _route(scope)
        if route in _UNLOGGED:
            return
        self.metrics.requests.labels(method, route, status).inc()
        self.metrics.duration.labels(method, route).observe(seconds)
        self.logger.info("request", method=method, route=route, status=status, duration_ms=round(seconds * 1e3, 2))


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _route(scope: MutableMapping[str, Any]) -> str:
    """The template of the path, which has few values; a path that nothing serves has none."""
    return getattr(scope.get("route"), "path", "") or "unmatched"
