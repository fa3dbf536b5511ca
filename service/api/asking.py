"""A prediction for a caller, by whichever door it came: made while the caller is there, noted, counted, timed."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

from fastapi import Request, Response

from service.api.dependencies import ServiceParts
from service.api.patience import unless_gone
from service.errors import CLIENT_GONE
from service.inference.engine import Image, Prediction
from service.inference.servables import Servable
from service.telemetry import note, server_timing

__all__ = ["predicted"]


async def predicted(
    request: Request,
    parts: ServiceParts,
    meant: Servable,
    images: Sequence[Image],
    write: Callable[[Prediction], Awaitable[Response]],
    *,
    timeout_s: float | None,
) -> Response:
    """What `write` makes of the engine's answer, with where its time went; where the caller has gone, nothing.

    Raises:
        ModaError: of `Engine.predict`.
    """
    found = await unless_gone(request, parts.engine.predict(meant, images, timeout_s=timeout_s))
    if found is None:
        return Response(status_code=CLIENT_GONE)
    begun = time.perf_counter()
    response = await write(found)
    encode = time.perf_counter() - begun
    parts.metrics.encoded(encode)
    stages = found.stages
    note(
        request.scope,
        model_digest=meant.model,
        images=len(found.probabilities),
        batch_size=stages.batch,
        queue_ms=round(1e3 * stages.queue, 3),
        infer_ms=round(1e3 * stages.forward, 3),
    )
    timing = server_timing(decode=stages.decode, queue=stages.queue, forward=stages.forward, encode=encode)
    response.raw_headers.append(timing)
    return response
