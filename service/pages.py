"""The web page at `/`, and the description of the interface at `/docs`: static files, none from elsewhere."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from fastapi import FastAPI
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

__all__ = ["add_pages"]

_WEB = Path(__file__).parent / "web"


def add_pages(app: FastAPI) -> None:
    """Serve both pages, and what they load."""
    swagger = Path(str(resources.files("fastapi_offline"))) / "static"

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(_WEB / "index.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return FileResponse(_WEB / "docs.html")

    app.mount("/web", StaticFiles(directory=_WEB), name="web")
    app.mount("/swagger", StaticFiles(directory=swagger), name="swagger")
