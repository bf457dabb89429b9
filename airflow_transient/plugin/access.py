"""Who asks, what Airflow lets them do, and what is hidden from everyone.

The one file of the plugin that touches Airflow's auth manager and masker: neither is of its public interface. Rights
are asked per DAG, as Airflow's own API does: by id, before anybody looks whether it exists, so that a refusal (403)
is the same for a job that exists and for one that does not.
"""

from __future__ import annotations

from collections.abc import Collection, MutableMapping
from dataclasses import dataclass
from typing import Any, Literal

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import bearer_scheme, get_user
from airflow.configuration import conf
from fastapi import HTTPException, Request

from airflow_transient.errors import TransientError

Method = Literal["GET", "POST", "PUT", "DELETE"]

#: A key of our own in the ASGI scope: `request.state` is shared with Airflow's middleware.
SCOPE_KEY = "airflow_transient.who"
VERBS = {"GET": "see", "POST": "create", "PUT": "change", "DELETE": "delete"}


class NotSignedIn(TransientError):
    """No credentials, or none that Airflow takes (HTTP: 401)."""


class Forbidden(TransientError):
    """Signed in, and not allowed to (HTTP: 403)."""


@dataclass(frozen=True)
class Who:
    """
    Someone Airflow knows.

    :param ambient: their browser adds the credentials by itself, whichever site made it ask.
    """

    user: Any
    ambient: bool = False

    @property
    def name(self) -> str:
        return str(self.user.get_name())

    def may(self, method: Method, dag_id: str | None = None, *, runs: bool = False) -> bool:
        """
        :param dag_id: None: DAGs in general.
        :param runs: of the DAG's runs, instead of the DAG itself: POST starts one.
        """
        return self._may(method, dag_id, DagAccessEntity.RUN if runs else None)

    def may_task(self, method: Method, dag_id: str | None, *, logs: bool = False) -> bool:
        """
        :param dag_id: None: task instances of all DAGs; PUT marks, clears and stops them.
        :param logs: what they have written, instead of how they are.
        """
        return self._may(method, dag_id, DagAccessEntity.TASK_LOGS if logs else DagAccessEntity.TASK_INSTANCE)

    def _may(self, method: Method, dag_id: str | None, entity: DagAccessEntity | None) -> bool:
        return bool(
            get_auth_manager().is_authorized_dag(
                method=method,
                access_entity=entity,
                details=DagDetails(id=dag_id, team_name=_team(dag_id)),
                user=self.user,
            )
        )

    def must(self, method: Method, dag_id: str | None = None, *, runs: bool = False) -> None:
        """:raises Forbidden: naming what is missing."""
        if not self.may(method, dag_id, runs=runs):
            of_what = f"runs of the DAG {dag_id}" if runs else f"the DAG {dag_id}" if dag_id else "DAGs"
            raise Forbidden(
                f"You may not {VERBS[method]} {of_what}: ask an administrator of this Airflow for the right."
            )

    def readable(self, dag_ids: Collection[str]) -> set[str]:
        """Those of them they may see. Not asked of Airflow's own list, which lacks a DAG that is not parsed yet."""
        manager = get_auth_manager()
        seen: set[str] = set()
        for team, ids in _by_team(set(dag_ids)).items():
            seen |= manager.filter_authorized_dag_ids(dag_ids=ids, user=self.user, method="GET", team_name=team)
        return seen


async def who(request: Request) -> Who:
    """For a route: `Annotated[Who, Depends(who)]`. The guard has let nobody else through."""
    signed_in: Who = request.scope[SCOPE_KEY]
    return signed_in


async def sign_in(scope: MutableMapping[str, Any]) -> Who:
    """
    As in Airflow's API: a bearer token, else the user its middleware found, else the cookie.

    Airflow answers 401 to an expired token and 403 to one it cannot read; here both are 401, because both are mended
    by signing in.
    """
    request = Request(scope)
    bearer = await bearer_scheme(request)
    try:
        user = await get_user(request, None, bearer)
    except HTTPException as refusal:
        raise NotSignedIn(str(refusal.detail)) from refusal
    return Who(user, ambient=bearer is None or _everyone_is_admin())


def trusted_origins() -> tuple[str, ...]:
    """Other sites whose pages Airflow's own API takes orders from."""
    return tuple(conf.getlist("api", "access_control_allow_origins") or ())


def own_origin() -> str:
    """What [api] base_url says; behind a proxy the Host header may be another."""
    return str(conf.get("api", "base_url", fallback="") or "")


def _everyone_is_admin() -> bool:
    """SimpleAuthManager then adds the token itself: to requests that other sites make as well."""
    return bool(conf.getboolean("core", "simple_auth_manager_all_admins", fallback=False))


def _team(dag_id: str | None) -> str | None:
    return next(iter(_by_team({dag_id}))) if dag_id else None


def _by_team(dag_ids: set[str]) -> dict[str | None, set[str]]:
    """A job's DAG that is not parsed yet belongs where the jobs' service DAG does: they come from one file."""
    if not conf.getboolean("core", "multi_team", fallback=False):
        return {None: dag_ids}
    from airflow.models.dag import DagModel

    from airflow_transient.jobs.port import SERVICE_DAG

    known = DagModel.get_dag_id_to_team_name_mapping([*dag_ids, SERVICE_DAG])
    teams: dict[str | None, set[str]] = {}
    for dag_id in dag_ids:
        teams.setdefault(known.get(dag_id, known.get(SERVICE_DAG)), set()).add(dag_id)
    return teams


def redact(value: Any, name: str | None = None) -> Any:
    """
    What Airflow's masker leaves of it: `***` for what has a sensitive name, and for secrets this process has read.

    Airflow has two maskers: connections read through its SDK are known to the second only.
    """
    from airflow._shared.secrets_masker import redact as of_core
    from airflow.sdk.log import redact as of_sdk  # type: ignore[attr-defined]

    return of_sdk(of_core(value, name), name)
