"""The app below /transient: routers, what becomes of their errors, and the guard in front of them."""

from __future__ import annotations

from functools import lru_cache

from fastapi import FastAPI

from airflow_transient import __version__
from airflow_transient.plugin import jobs_api, launch_api, page, queues_api, running_api, spec, statuses
from airflow_transient.plugin.answers import Printed
from airflow_transient.plugin.guard import Guard

ABOUT = (
    "Jobs that Airflow runs on borrowed compute, as documents. Sign in as for Airflow's own API: a bearer token, or "
    "the cookie of its pages."
)


@lru_cache(maxsize=1)
def the_app() -> FastAPI:
    """Airflow asks for a plugin's apps more than once."""
    return make_app()


def make_app() -> FastAPI:
    app = FastAPI(
        title="Transient compute",
        description=ABOUT,
        version=__version__,
        # Their pages load code from other hosts; the description itself is at /spec.
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        default_response_class=Printed,
    )
    for room in (spec, jobs_api, running_api, queues_api, launch_api, page):
        app.include_router(room.router)
    app.mount("/static", page.files, name="static")
    statuses.handle(app)
    app.add_middleware(Guard, routes=app.router.routes)
    return app
