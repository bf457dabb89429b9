"""Send files to be worked on: into S3, and a message for each into a queue."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from airflow_transient.core.batch.manifest import run_name
from airflow_transient.core.batch.spec import FAIL, SKIP, EnqueueSpec
from airflow_transient.errors import SpecError
from airflow_transient.hooks.aws import DEFAULT_CONN_ID, TransientHook
from airflow_transient.operators.literals import all_plain, all_written
from airflow_transient.operators.secrets import refuse_masked
from airflow_transient.retry import transient_retry_policy

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.retry_policy import RetryPolicy

#: In Airflow's task state store, which outlives crash, retry and clear.
KEY = "airflow_transient.enqueue"
READABLE = "the messages in the queue. Let the job fetch it with the worker's own role"
WORDS = (
    "source",
    "sqs_queue",
    "outputs",
    "input_prefix",
    "manifest_prefix",
    "pattern",
    "newer_than",
    "parameters",
    "message_format",
    "message_group",
    "once",
    "if_empty",
    "uploads",
)


class EnqueueFilesOperator(BaseOperator):
    """
    Put the files of a directory, or of a folder in S3, where queue workers find them, and send a message for each.

    The object is there before its message. Each file is sent at least once: a try that was cut short is gone on with by
    the next one, which sends what the manifest in S3 does not list, so that about a hundred messages may come twice.
    A task that is cleared after it has ended well sends everything anew (unless ``once``). A file that cannot be
    enqueued holds up no other: it is named when the others have gone, and the task fails.

    Everything is templated unless it says otherwise. A wrong value raises ``SpecError``, where the DAG file is parsed
    if no template is involved; so do a missing directory, bucket or queue, while it runs. A missing permission raises
    ``AccessError``. The XCom ``return_value`` is a dict: ``enqueued`` (by all tries of this run; ``earlier`` of these
    by tries before the last), ``skipped_already`` (sent by other runs), ``left_out`` (links that lead out of the
    directory, what is no file, files that had gone at their turn), ``bytes``, ``queue`` (as it was named),
    ``manifest`` (``s3://…/``) and ``seconds`` (of the last try).

    :param source: a directory on the worker, as a full path; or ``s3://bucket/folder``. Links out of the directory,
        and links to folders, are not followed.
    :param sqs_queue: its name, URL or ARN, standard or FIFO. Region and account of a URL or an ARN win over the
        connection's. (``queue`` is Airflow's own word for the workers that a task runs on.)
    :param outputs: where the worker puts what becomes of a file: ``s3://bucket/out/{name}``, also with ``{stem}``, the
        name without its last extension: ``s3://bucket/out/{stem}.png``. A slash at the end stands for ``/{name}``.
        Names are relative to ``source`` and keep their folders.
    :param input_prefix: ``s3://bucket/folder`` that the files are uploaded or copied to under their names. Default:
        with a source in S3 they stay where they are.
    :param manifest_prefix: ``s3://bucket/folder`` for what was sent; default ``_manifests/`` below the inputs.
    :param pattern: of names, relative to ``source``, as in a shell: ``*.txt``; ``**/*.txt`` for all folders below, too.
        Default ``*``. Names that begin with a dot match only a pattern that has it.
    :param newer_than: a datetime, or its ISO text: files that were written to after it. Without a zone it is UTC.
    :param once: leave out files that were ever enqueued to this queue under this ``manifest_prefix`` with the same
        name and content (size and time of change, or ETag). Needs s3:ListBucket and s3:GetObject there.
    :param if_empty: what to do where nothing is enqueued: ``"skip"`` (default) the task and what follows, ``"fail"``,
        or ``"succeed"``.
    :param parameters: texts that follow INPUT and OUTPUT on each job's command line.
    :param message_format: ``"v1"`` (docs/worker.md); ``"seed"``, the list of boto 2 producers in base64, for old
        workers, or ``"seed-plain"``: those say the prefix of ``outputs`` only.
    :param message_group: of all messages. On a FIFO queue they are then worked on one after the other, in the order of
        their names; default: each file has a group of its own. On a standard queue it is a tenant of a fair queue.
    :param uploads: files on their way at a time, 1 to 64; default 16.
    :param aws_conn_id: Airflow connection of type ``aws``; default ``aws_default``, which may be absent.
    :param region_name: AWS region; default: the connection's.
    :param retries: default 2.
    :param retry_policy: default ``airflow_transient.retry.transient_retry_policy``.
    """

    ui_color = "#c4a7e7"
    template_fields: Sequence[str] = (*WORDS, "aws_conn_id", "region_name")

    def __init__(
        self,
        *,
        source: str | os.PathLike[str],
        sqs_queue: str,
        outputs: str,
        input_prefix: str | None = None,
        manifest_prefix: str | None = None,
        pattern: str = "*",
        newer_than: datetime | str | None = None,
        parameters: Sequence[str] = (),
        message_format: str = "v1",
        message_group: str | None = None,
        once: bool | str = False,
        if_empty: str = SKIP,
        uploads: int | str = 16,
        aws_conn_id: str | None = DEFAULT_CONN_ID,
        region_name: str | None = None,
        retries: int = 2,
        retry_policy: RetryPolicy | None = transient_retry_policy,
        **kwargs: Any,
    ) -> None:
        super().__init__(retries=retries, retry_policy=retry_policy, **kwargs)
        self.source = os.fspath(source) if isinstance(source, os.PathLike) else source
        self.sqs_queue = sqs_queue
        self.outputs = outputs
        self.input_prefix = input_prefix
        self.manifest_prefix = manifest_prefix
        self.pattern = pattern
        self.newer_than = newer_than
        self.parameters = parameters
        self.message_format = message_format
        self.message_group = message_group
        self.once = once
        self.if_empty = if_empty
        self.uploads = uploads
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        if all_written(self._words()):
            self.make_spec()

    def _words(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in WORDS}

    def make_spec(self) -> EnqueueSpec:
        return EnqueueSpec.of(**all_plain(self._words()))

    def execute(self, context: Context) -> Any:
        spec = self.make_spec()
        refuse_masked(((f"parameters[{n}]", words) for n, words in enumerate(spec.parameters)), READABLE)
        run = Run.of(context)
        if run.told:
            self.log.info("an earlier try has enqueued all, and died before Airflow was told; clear the task to repeat")
            return run.told
        said = self._enqueue(spec, run, context)
        if not said["enqueued"]:
            return self._nothing(spec, said)
        run.tell(said)
        return said

    def _enqueue(self, spec: EnqueueSpec, run: Run, context: Context) -> dict[str, Any]:
        from airflow_transient.aws.enqueue import Tools, enqueue

        self.log.info("enqueuing %s of %s to %s", spec.pattern, spec.source, spec.sqs_queue)
        hook = TransientHook(self.aws_conn_id, self.region_name)
        ti = context["ti"]
        words = {"dag": ti.dag_id, "run": ti.run_id, "task": ti.task_id, "map_index": ti.map_index}
        words |= {"source": str(spec.source), "pattern": spec.pattern, "outputs": spec.outputs, "queue": spec.sqs_queue}
        tools = Tools(say=lambda line: self.log.info("%s", line))
        said = enqueue(spec, run.name, hook.client, words, run.resumed, tools).to_dict()
        self.log.info(
            "%d enqueued to %s in %.1f s (%d by an earlier try), %d sent by other runs, %d left out%s",
            *(said["enqueued"], spec.sqs_queue, said["seconds"], said["earlier"], said["skipped_already"]),
            *(said["left_out"], f": {said['manifest']}" if said["enqueued"] else ""),
        )
        return said

    def _nothing(self, spec: EnqueueSpec, said: dict[str, Any]) -> dict[str, Any]:
        newer = f" newer than {spec.newer_than}" if spec.newer_than else ""
        already = f": {said['skipped_already']:,} were enqueued before" if said["skipped_already"] else ""
        words = f"nothing to enqueue in {spec.source} that matches {spec.pattern}{newer}{already}"
        if spec.if_empty == SKIP:
            raise AirflowSkipException(words)
        if spec.if_empty == FAIL:
            raise SpecError(words)
        self.log.info("%s", words)
        return said


@dataclass(frozen=True)
class Run:
    """
    What the tries of one task have in common: the folder of their manifest, and how it ended.

    A clear after the end begins a new run; Airflow raises `max_tries` then. `airflow tasks test` finds the state of an
    earlier run with the same date, and begins anew each time.
    """

    name: str
    resumed: bool
    max_tries: int
    told: dict[str, Any] | None
    store: Any

    @classmethod
    def of(cls, context: Any) -> Run:
        ti = context["ti"]
        store = None if os.environ.get("AIRFLOW_TEST_MODE") == "True" else context["task_state_store"]
        tries = ti.max_tries or 0
        kept = (store.get(KEY) if store else None) or {}
        told = kept.get("told")
        if kept and not (told and kept["max_tries"] != tries):
            return cls(kept["name"], True, tries, told, store)
        index = -1 if ti.map_index is None else int(ti.map_index)
        # The name is random: dag and run ids repeat between deployments, and a deleted run may be made again.
        run = cls(run_name(ti.dag_id, ti.run_id, ti.task_id, index, uuid.uuid4().hex[:16]), False, tries, None, store)
        run._keep(None)
        return run

    def tell(self, said: dict[str, Any]) -> None:
        self._keep(said)

    def _keep(self, told: dict[str, Any] | None) -> None:
        if self.store:
            self.store.set(KEY, {"name": self.name, "max_tries": self.max_tries, "told": told})
