"""From the context of a callback to what is known of its launches.

The context of a task's callback is a worker's; that of a DAG's is made in the DAG processor, of less. Each piece that
is missing there, or cannot be read, is left out.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

from airflow_transient.core.launch import Launch
from airflow_transient.core.report import LAUNCHES_TOLD, Told
from airflow_transient.links.launch import LAUNCH_KEY, VERDICT_KEY, LaunchLink
from airflow_transient.notifications.costs import cost_in_words

log = logging.getLogger(__name__)

RETURN_KEY = "return_value"
#: So many tasks of a run are asked for what they launched, in two or three questions each.
ASKED = 200
#: Seconds, after which no further launch of a run is priced: the DAG processor kills a callback after
#: [dag_processor] dag_file_processor_timeout, 50 s by default.
COSTS = 10.0
T = TypeVar("T")
#: One task instance of a run: the task, its map index, its state.
Instance = tuple[Any, int, str | None]


def is_of_run(context: Mapping[str, Any]) -> bool:
    """A DAG's callback is told a reason, and borrows some task instance of its run, if any."""
    return "reason" in context or "ti" not in context


def run_of(context: Mapping[str, Any]) -> tuple[str, str, str, str | None]:
    """(DAG id, run id, "failed", "succeeded", or "ended" where nobody says how; why)."""
    reason = context.get("reason")
    ending = {"success": "succeeded", None: "ended"}.get(reason, "failed")
    dag_id = getattr(context.get("dag"), "dag_id", None) or getattr(context.get("ti"), "dag_id", "")
    return str(dag_id), str(context.get("run_id") or ""), ending, str(reason) if reason else None


def of_task(context: Mapping[str, Any]) -> Told:
    """The task whose callback this is."""
    ti = context["ti"]
    state = _text(getattr(ti, "state", None))
    instance = (context.get("task") or getattr(ti, "task", None), _map_index(ti), state)
    error = context.get("exception")
    address = _try(lambda: str(ti.log_url), "")
    return _told(
        ti.dag_id,
        ti.run_id,
        instance,
        task_id=ti.task_id,
        log_url=address,
        error=_words(error) if error else None,
        try_number=getattr(ti, "try_number", None),
    )


def of_run(context: Mapping[str, Any]) -> list[Told] | None:
    """
    All tasks of the run that launch, as far as they have begun; None where Airflow cannot be asked, as in `dag.test()`.

    Which those are their links tell: no operator is imported for it.
    """
    dag_id, run_id, *_ = run_of(context)
    dag = context.get("dag")
    tasks = [task for task in getattr(dag, "tasks", ()) if _launches(task)]
    states = _try(lambda: _states(dag_id, run_id), None)
    if states is None:
        return None
    found = [instance for task in tasks for instance in _instances(task, states)]
    if len(found) > ASKED:
        log.info("the report asks for %d of %d tasks of this run only", ASKED, len(found))
    # A failure is told before a success, and only so many are told at all.
    found = sorted(found, key=lambda instance: instance[2] == "success")[:ASKED]
    end = time.monotonic() + COSTS
    return [
        _told(
            dag_id, run_id, i, log_url=_address(dag_id, run_id, i), price=n < LAUNCHES_TOLD and time.monotonic() < end
        )
        for n, i in enumerate(found)
    ]


def _told(
    dag_id: str, run_id: str, instance: Instance, task_id: str = "", log_url: str = "", price: bool = True, **more: Any
) -> Told:
    task, map_index, state = instance
    key: dict[str, Any] = {
        "dag_id": dag_id,
        "run_id": run_id,
        "task_id": task_id or task.task_id,
        "map_index": map_index,
    }
    said = _read(LAUNCH_KEY, key)
    verdict = _verdict(key, state)
    launch = _launch(said)
    return Told(
        **key,
        state=state,
        launch=launch,
        verdict=verdict,
        cost=_try(lambda: cost_in_words(launch, _billed(verdict), _connection(task)), None)
        if launch and price
        else None,
        links=(*_links(task, said, verdict), *([("task log", log_url)] if log_url else [])),
        **more,
    )


def _verdict(key: Mapping[str, Any], state: str | None) -> Mapping[str, Any]:
    """What the task returned, else what it left when it failed. Whoever may edit XComs can write anything there."""
    for name in (RETURN_KEY, VERDICT_KEY) if state == "success" else (VERDICT_KEY, RETURN_KEY):
        said = _read(name, key)
        if said.get("outcome"):
            return said
    return {}


def _read(name: str, key: Mapping[str, Any]) -> Mapping[str, Any]:
    from airflow.sdk.execution_time.xcom import XCom

    said = _try(lambda: XCom.get_one(key=name, **key), None)
    return said if isinstance(said, Mapping) else {}


def _launch(said: Mapping[str, Any]) -> Launch | None:
    return _try(lambda: Launch.from_dict(said), None) if said.get("ids") else None


def _billed(verdict: Mapping[str, Any]) -> int:
    seconds = verdict.get("billed_seconds")
    return seconds if isinstance(seconds, int) else 0


def _links(task: Any, launch: Mapping[str, Any], verdict: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The buttons of the task."""
    if not launch.get("ids"):
        return ()
    failed = verdict.get("failed")
    worst = failed[0] if isinstance(failed, list) and failed and isinstance(failed[0], Mapping) else {}
    known = {**launch, **({"failed": worst["id"]} if worst.get("id") else {})}
    named = [(link.name, _try(lambda link=link: str(link.url(known)), "")) for link in _our_links(task)]  # type: ignore[misc]
    return tuple((name, url) for name, url in named if url)


def _our_links(task: Any) -> list[LaunchLink]:
    links = getattr(task, "operator_extra_links", None) or ()
    return [link for link in links if isinstance(link, LaunchLink)]


def _launches(task: Any) -> bool:
    return bool(_our_links(task))


def _connection(task: Any) -> str | None:
    """As rendered; of a task that is not, what is no template."""
    given = getattr(task, "aws_conn_id", None) or (getattr(task, "partial_kwargs", None) or {}).get("aws_conn_id")
    return given if isinstance(given, str) and "{{" not in given else "aws_default"


# --- the run's tasks


def _states(dag_id: str, run_id: str) -> dict[str, str | None]:
    """ "task" -> its state, "task_0" of one that is mapped."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    told = RuntimeTaskInstance.get_task_states(dag_id=dag_id, run_ids=[run_id])
    return dict(told.get(run_id) or {})


def _instances(task: Any, states: Mapping[str, str | None]) -> Iterator[Instance]:
    """Those that have begun."""
    if states.get(task.task_id):
        yield task, -1, _text(states[task.task_id])
    start = f"{task.task_id}_"
    for name, state in states.items():
        number = name.removeprefix(start)
        if name.startswith(start) and number.isdecimal() and state and not _is_task(task, name):
            yield task, int(number), _text(state)


def _is_task(task: Any, name: str) -> bool:
    """Whether a task of this very name exists: then it is no mapped one."""
    return name in (getattr(getattr(task, "dag", None), "task_dict", None) or {})


def _address(dag_id: str, run_id: str, instance: Instance) -> str:
    """Of the task's log in Airflow, as Airflow writes it itself."""
    from airflow.sdk import conf

    task, map_index, _ = instance
    base = _try(lambda: str(conf.get("api", "base_url", fallback="")), "").rstrip("/")
    mapped = f"/mapped/{map_index}" if map_index >= 0 else ""
    return f"{base}/dags/{dag_id}/runs/{quote(run_id)}/tasks/{task.task_id}{mapped}" if base else ""


# --- small things


def mask(text: str) -> str:
    """Without what Airflow's masker knows: connections and variables that this process has read."""
    from airflow.sdk.log import redact  # type: ignore[attr-defined]

    return str(redact(text))


def _words(error: Any) -> str:
    return f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else str(error)


def _text(said: Any) -> str | None:
    """Of a state, whether it came as a word or as Airflow's enum."""
    return None if said is None else str(getattr(said, "value", said))


def _map_index(ti: Any) -> int:
    index = getattr(ti, "map_index", None)
    return -1 if index is None else int(index)


def _try(read: Callable[[], T], otherwise: T) -> T:
    try:
        return read()
    except Exception as error:  # what cannot be read is left out
        log.debug("left out of the report: %s", error)
        return otherwise
