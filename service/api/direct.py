"""The shortest way to the one endpoint whose own cost counts.

On a model that answers in a fraction of a millisecond, routing and dependency injection take as long as the
answer. `POST /predict` reads its request itself, so it can be asked ahead of both; the route behind it documents
it, and answers alike where this is left out.
"""

from __future__ import annotations

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service import errors
from service.api import predictions

__all__ = ["DirectPredictions"]


class DirectPredictions:
    """Answers `POST /predict`, and lets everything else through; goes inside all other middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        [self._route] = [route for route in predictions.router.routes if getattr(route, "path", "") == "/predict"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The endpoint's answer, or the problem document of its error."""
        if scope["type"] != "http" or scope["path"] != "/predict" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        scope["route"] = self._route
        request = Request(scope, receive, send)
        try:
            response = await predictions.answer(request)
        except Exception as error:
            handler = errors.handler_of(error)
            if handler is None:
                raise
            response = handler(request, error)
        await response(scope, receive, send)
