"""What the making of an image adds to a launch's journey: a builder, then its image, then the copies."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_transient.core.images.judging import Step, next_step
from airflow_transient.core.images.plan import is_image
from airflow_transient.core.images.spec import BakeSpec
from airflow_transient.core.intent import State
from airflow_transient.core.launch import Launch, LaunchKey
from airflow_transient.core.verdict import Outcome
from airflow_transient.core.words import in_short
from airflow_transient.errors import AccessError, Lost, RunError, SpecError, TransientError
from airflow_transient.operators.launch import LaunchOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_transient.aws.images import ImageLauncher
    from airflow_transient.core.intent import Intent
    from airflow_transient.core.verdict import Verdict
    from airflow_transient.operators.journal import Journal

#: Of the script's log so many lines come with the task's error.
TAIL = 10


class BakingOperator(LaunchOperator):
    """The steps of an image; their parameters are told where the words are."""

    kind = "image"

    # --- launch: the builder, unless the image is there

    def _launch_and_wait(self, context: Context, spec: BakeSpec, journal: Journal, intent: Intent) -> Any:
        begun = intent.state is not State.DRAWN or intent.launch or intent.request
        if not begun and not spec.force and (launch := self._made_before(spec, journal, intent)):
            return self._look_after(context, journal, launch)
        return super()._launch_and_wait(context, spec, journal, intent)

    def _made_before(self, spec: BakeSpec, journal: Journal, intent: Intent) -> Launch | None:
        """A launch that begins with the image of the same inputs, written down as any other."""
        launcher = self._images(self._launcher(self.region_name))
        key = LaunchKey(journal.owner, intent.launch_id, intent.generation, 0, journal.try_number)
        plan = launcher.plan(spec, key)
        image = launcher.same(plan)
        if image is None:
            return None
        self.log.info("%s (%s) was made of the same inputs: no machine is needed", image.id, image.name)
        launch = launcher.reusing(plan, image, key, spec, _now())
        journal.write(intent.placed(launch).complete())
        return launch

    def _arm_kill_schedule(self, spec: BakeSpec, launch: Launch) -> None:
        if not any(map(is_image, launch.ids)):
            super()._arm_kill_schedule(spec, launch)

    def _may_have_ended(self, launch: Launch) -> bool:
        """An image that was there before may be all that is wanted: then there is nothing to wait for."""
        return bool(launch.image and launch.image.reused) or super()._may_have_ended(launch)

    # --- verdict: on to the next step, until the image is delivered

    def _go_on(self, context: Context, journal: Journal, launcher: Any, launch: Launch, verdict: Verdict) -> Any:
        if verdict.outcome is not Outcome.SUCCEEDED:
            return super()._go_on(context, journal, launcher, launch, verdict)
        try:
            return self._step(context, journal, self._images(launcher), launch)
        except TransientError as error:
            self._after(journal, error)
            raise

    def _step(self, context: Context, journal: Journal, launcher: ImageLauncher, launch: Launch) -> Any:
        step = next_step(launch)
        self.log.info("%s: %s", in_short(launch.ids), step.value)
        if step is not Step.CREATE:
            self._end_builder(launcher, launch)
        if step is Step.DELIVER:
            return self._deliver(journal, launcher, launch)
        launch = launcher.make(launch, _now()) if step is Step.CREATE else launcher.copy(launch, _now())
        self.log.info("asked for %s", in_short(launch.ids))
        if intent := journal.read():
            journal.write(intent.placed(launch).complete())
        return self._wait(context, journal, launcher, launch)

    def _deliver(self, journal: Journal, launcher: ImageLauncher, launch: Launch) -> dict[str, Any]:
        images = launcher.delivered(launch)
        launcher.publish(launch, images)
        cleared = launcher.clear_old(launch, images)
        for words in cleared.warnings:
            self.log.warning("%s", words)
        plan = launch.image
        said = {
            "outcome": Outcome.SUCCEEDED.value,
            "image_id": images[launch.region].id,
            "name": images[launch.region].name,
            "reused": bool(plan and plan.reused),
            "regions": {region: image.id for region, image in images.items()},
            "snapshot_ids": {region: list(image.snapshots) for region, image in images.items()},
            "source": plan.source if plan else None,
            "inputs": plan.inputs if plan else None,
            "removed": list(cleared.removed),
            "seconds": int((_now() - launch.requested_at).total_seconds()),
            "token": launch.token,
        }
        if intent := journal.read():
            journal.write(intent.told(said))
        self.log.info("image %s (%s), %d s", said["image_id"], said["name"], said["seconds"])
        return said

    def _after(self, journal: Journal, error: TransientError) -> None:
        """Where no other try can go on with it, nothing is left behind; else the next one does."""
        if not journal.last_try and not isinstance(error, Lost | SpecError | AccessError):
            return
        self._give_up(journal)
        if isinstance(error, Lost) and journal.last:
            journal.write(journal.last.gone())

    def _tell(
        self, context: Context, journal: Journal, launcher: Any, launch: Launch, verdict: Verdict
    ) -> dict[str, Any]:
        try:
            return super()._tell(context, journal, launcher, launch, verdict)
        except RunError as error:
            tail = launcher.explain(launch, verdict.worst.id)[-TAIL:]
            error.args = ("\n".join([str(error), *tail]),)
            raise
        finally:
            self._clean_up(launcher, launch)

    def _clean_up(self, launcher: Any, launch: Launch) -> None:
        """It has failed: no builder, and no half image. How it failed is what is raised."""
        try:
            launcher.stop(launch)
        except TransientError as error:
            self.log.warning("not all of it could be removed (the reaper ends the machine): %s", error)

    def _end_builder(self, launcher: ImageLauncher, launch: Launch) -> None:
        try:
            launcher.end_builder(launch)
        except TransientError as error:
            self.log.warning("the machine could not be ended, the reaper will: %s", error)

    @staticmethod
    def _images(launcher: Any) -> ImageLauncher:
        images: ImageLauncher = launcher
        return images


def _now() -> datetime:
    return datetime.now(timezone.utc)
