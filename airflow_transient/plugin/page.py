"""The page's own files: HTML, modules and styles, without any data. Whoever may reach Airflow may read them."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

STATIC = Path(__file__).parent / "static"


class Files(StaticFiles):
    """Asked for anew each time, and mostly answered by 304: after an upgrade no module of the old page may be left."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


#: To be mounted at /static.
files = Files(directory=STATIC)

router = APIRouter()


@router.get("/page", include_in_schema=False)
async def page(request: Request) -> Response:
    """`dag_id`, `run_id`, `task_id` and `map_index` in the query are read in the browser: the page of one launch."""
    return await files.get_response("index.html", request.scope)
