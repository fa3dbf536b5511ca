"""The service as an ASGI application: `uvicorn service.app:create_app --factory`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from typing import Any

from fastapi import FastAPI

from moda_core.errors import ModaError
from moda_core.storage.registry import Registry
from service import __version__, errors, schemas, security, telemetry
from service.api import aliases, compositions, datasets, jobs, models, operations, predictions, submissions
from service.api.dependencies import ServiceParts
from service.api.direct import DirectPredictions
from service.collecting import short_collections
from service.draining import Draining
from service.exports import Exports
from service.inference.device import chosen_device
from service.inference.engine import Engine
from service.inference.forms import Forms, real_images
from service.inference.servables import Servables
from service.json_lines import JsonLines
from service.metrics import Metrics
from service.oip import router as inference_protocol
from service.oip.residents import Residents
from service.oip.schemas import InferenceRequest, RepositoryIndex, RepositoryLoad
from service.pages import add_pages
from service.readiness import Checks
from service.settings import Settings
from service.siblings import Siblings
from service.warming import WarmUp
from worker.jobs import Jobs
from worker.reaper import Reaper

__all__ = ["create_app"]

_DESCRIPTION = """\
Train an image classifier to be modular, cut it into one module per class, compose small models from the
modules without training, predict with them, and repair other models with a module.

Every error is a problem document (RFC 9457). Long work is a job: `202` and a `Location` to follow.
"""

_READ_BY_HAND = (schemas.PredictRequest, schemas.DatasetImport, InferenceRequest, RepositoryIndex, RepositoryLoad)


def create_app(settings: Settings | None = None, siblings: Siblings | None = None) -> FastAPI:
    """The application; nothing is opened before it starts, and all is closed when it ends.

    Args:
        settings: the environment's, when left out.
        siblings: the other processes of the service; none, when left out.
    """
    settings, siblings = settings or Settings(), siblings or Siblings()
    metrics, draining = Metrics(), Draining()
    exported = telemetry.is_exported()
    app = FastAPI(
        title="MODA",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=_lifespan(settings, siblings, metrics, draining),
        docs_url=None,
        redoc_url=None,
        responses=errors.PROBLEM_RESPONSES,
        telemetry={"auto_configure": exported, "tracing": exported, "metrics": exported, "logs": exported},
    )
    errors.install(app)
    # The last one added is the outermost.
    uploads = dict.fromkeys(("/models", "/datasets"), settings.max_upload_bytes)
    if not exported:
        app.add_middleware(DirectPredictions)
    app.add_middleware(security.SameOrigin)
    app.add_middleware(security.BodyLimit, limit_bytes=settings.max_body_bytes, uploads=uploads)
    app.add_middleware(security.KnownHosts, names=(settings.host, *settings.allowed_hosts))
    app.add_middleware(
        telemetry.RequestTelemetry, metrics=metrics, logger=JsonLines(), draining=draining, siblings=siblings
    )
    app.add_middleware(security.SecurityHeaders)
    rooms = (compositions, predictions, submissions, jobs, aliases, models, datasets, operations, inference_protocol)
    for room in rooms:
        app.include_router(room.router)
    add_pages(app)
    _document(app)
    return app


def _lifespan(
    settings: Settings, siblings: Siblings, metrics: Metrics, draining: Draining
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        registry = Registry(settings.registry_location)
        work = Jobs(settings.redis_url)
        reaper = Reaper(work)

        def renew(root: str) -> None:
            loop.call_soon_threadsafe(engine.models.renew, root)

        engine = Engine(
            registry,
            forms=Forms(
                settings.home / "forms",
                chosen_device(settings.device),
                allow=settings.forms,
                images=partial(real_images, registry),
                chosen=renew,
            ),
            cache_bytes=settings.cache_bytes,
            max_pixels=settings.max_pixels,
            metrics=metrics,
            limits=settings.limits,
        )
        exports, residents = Exports(), Residents(engine)
        app.state.parts = ServiceParts(
            settings,
            registry,
            work,
            engine,
            Servables(registry),
            metrics,
            residents,
            exports,
            Checks(registry, work, engine),
            siblings,
        )
        warm_up = WarmUp(registry, engine.is_quiet)
        reaper.start()
        warm_up.start()
        try:
            with suppress(ModaError):  # which the log has; the name is then served on demand
                await residents.follow(siblings.agreed(), registry)
            reminding = asyncio.create_task(siblings.remind())
            with short_collections(), draining.on_sigterm():
                yield
            reminding.cancel()
        finally:
            warm_up.stop()
            reaper.stop()
            exports.close()
            engine.close()
            work.close()

    return lifespan


def _document(app: FastAPI) -> None:
    """Add to the OpenAPI document what FastAPI cannot see: schemas that are read by hand."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            known = document["components"]["schemas"]
            for model in (*_READ_BY_HAND, schemas.Problem):
                schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
                known.update(schema.pop("$defs", {}))
                known[model.__name__] = schema
            for name in ("HTTPValidationError", "ValidationError"):
                known.pop(name, None)
            for operations_of_path in document["paths"].values():
                for operation in operations_of_path.values():
                    operation["responses"].pop("422", None)  # a problem like the others
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]
