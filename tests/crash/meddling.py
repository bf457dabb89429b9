"""What is done to runs from outside: answers lost, tasks taken back, the triggerer killed, clears and marks."""

from __future__ import annotations

from itertools import zip_longest

from airflow_transient.localcloud import LocalCloud
from tests.crash.counting import running
from tests.crash.points import ACTS, BURST, LOST, TRIGGERER, Point, Runs
from tests.crash.runs import Airflow, wait_for


def lose_answers(cloud: LocalCloud, airflow: Airflow, runs: Runs) -> None:
    """Before the others, and of each action one by one: a fault hits the next call, whoever makes it."""
    by_action = ([name for name, point in runs.items() if LOST.get(point.at) == action] for action in LOST.values())
    for names in zip_longest(*by_action):
        losing = [(name, cloud.faults.lose_answer(LOST[runs[name].at])) for name in names if name]
        for name, _ in losing:
            airflow.trigger(name, runs[name])
        for name, fault in losing:
            wait_for(lambda fault=fault: cloud.faults.hits(fault) > 0, f"{name} to lose its answer")


#: run id -> what of it runs.
Up = dict[str, list[str]]


class Meddling:
    """Each run is met as soon as it is ready for what is to be done to it."""

    def __init__(self, cloud: LocalCloud, airflow: Airflow, runs: Runs) -> None:
        self._cloud, self._airflow = cloud, airflow
        self._left = {name: point for name, point in runs.items() if point.met}
        self._marked = [name for name, point in runs.items() if point.at in ACTS and point.at != "cleared"]

    def over(self) -> bool:
        """One look at all that is left."""
        up = running(self._cloud)
        for name, point in list(self._left.items()):
            if self._ready(name, point, up):
                self._meet(name, point, up)
                del self._left[name]
        return not self._left

    def _ready(self, name: str, point: Point, up: Up) -> bool:
        if point.taken_back:
            return len(up.get(name, ())) == BURST
        if not self._airflow.waits(name, point):
            return False
        return point.at != TRIGGERER or not self._acting(up)

    def _acting(self, up: Up) -> bool:
        """A mark is answered by the trigger, where one lives; where none does, by the reaper."""
        return any(point.at in ACTS for point in self._left.values()) or any(name in up for name in self._marked)

    def _meet(self, name: str, point: Point, up: Up) -> None:
        if point.taken_back:
            self._cloud.reclaim(up[name][0])
        elif point.at == TRIGGERER:
            self._airflow.triggerer.kill()
        else:
            self._airflow.act(name, point)
        if point.at not in ACTS:
            self._airflow.release(name)
