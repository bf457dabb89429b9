"""A snapshot in an Airflow Variable: every part of a deployment can read it, and no disk or bucket is needed.

Code that parses DAG files asks the API server for it; only a server (the API server, a command line with the
database's address) writes, by one UPDATE that also names the value it replaces: a compare-and-set on every database.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_transient.jobs.store import Snapshot, StoreConflict, StoreDamaged, StoreUnreachable

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

log = logging.getLogger(__name__)

_URL = re.compile(r"variable://([A-Za-z0-9_.-]{1,250})\Z")
#: What SQLite, Postgres and MySQL say where another transaction is in the way.
BUSY = ("database is locked", "deadlock detected", "could not serialize", "Deadlock found", "Lock wait timeout")
DESCRIPTION = "The jobs of airflow_transient: change them through its API, not here."


class VariableStore:
    """No versions are kept: the database's backups have them."""

    def __init__(self, url: str) -> None:
        match = _URL.match(url)
        if match is None:
            raise StoreUnreachable(
                f"{url!r} names no Variable: write variable:// and its name, variable://transient_jobs"
            )
        self.url = url
        self.name = match[1]

    def read(self) -> Snapshot:
        if _parses():
            return self._snapshot(self._asked_for())
        with _session(self.url) as session:
            row = self._row(session)
            return self._snapshot(row.val if row else None, row is not None)

    def _asked_for(self) -> str | None:
        """
        From the API server, through Airflow.

        Airflow says the same of a Variable that is not there and of one it could not ask for (3.3: `_get_variable`
        logs what its backends raise and goes on): nothing found is told as nothing, and `last_good` knows better.
        """
        from airflow.sdk import Variable

        try:
            found = Variable.get(self.name, default=None)
        except Exception as error:
            raise StoreUnreachable(f"{self.url}: {type(error).__name__}: {error}") from error
        return None if found is None else str(found)

    def _snapshot(self, text: str | None, there: bool = False) -> Snapshot:
        if text is None and there:
            raise StoreDamaged(
                f"{self.url}: it cannot be decrypted: give this process the [core] fernet_key it was written with"
            )
        try:
            return Snapshot() if text is None else Snapshot.from_json(text)
        except ValueError as error:
            raise StoreDamaged(
                f"{self.url}: {error}. It is left as it is, and no versions are kept: bring it back from a backup of "
                "the database, or delete the Variable to begin with no jobs"
            ) from None

    def replace(self, new: Snapshot, expected: int) -> None:
        if _parses():
            raise StoreUnreachable(f"{self.url}: only the API server and the command line write jobs")
        with _session(self.url) as session:
            row = self._row(session)
            found = self._snapshot(row.val if row else None, row is not None).revision
            if found != expected or not self._put(session, row, new.to_json()):
                raise StoreConflict(f"{self.url}: another writer came first")

    def _row(self, session: Session) -> Any:
        from airflow.models.variable import Variable
        from sqlalchemy import select

        return session.scalar(select(Variable).where(Variable.key == self.name))

    def _put(self, session: Session, row: Any, text: str) -> bool:
        """Whether it was still as it had been read. A row that another transaction holds is waited for."""
        from airflow.models.variable import Variable
        from sqlalchemy import update
        from sqlalchemy.exc import IntegrityError

        fresh = Variable(key=self.name, val=text, description=DESCRIPTION)
        if row is None:
            session.add(fresh)
            try:
                session.flush()
            except IntegrityError:
                session.rollback()
                return False
            return True
        # The stored text is unlike any other: it is encrypted with a number used once, or holds the id of its write.
        same = (Variable.id == row.id, Variable._val == row._val)
        values = {"_val": fresh._val, "is_encrypted": fresh.is_encrypted}
        done: Any = session.execute(
            update(Variable).where(*same).values(values).execution_options(synchronize_session=False)
        )
        return bool(done.rowcount)


def _parses() -> bool:
    """Whether this is code of a DAG file or a task, which Airflow keeps away from its database."""
    return getattr(sys.modules.get("airflow.sdk.execution_time.task_runner"), "SUPERVISOR_COMMS", None) is not None


@contextmanager
def _session(url: str) -> Iterator[Session]:
    from airflow.utils.session import create_session
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError

    try:
        with create_session() as session:
            yield session
    except SQLAlchemyError as error:
        said = error.orig if isinstance(error, DBAPIError) else error
        kind = StoreConflict if any(word in str(said) for word in BUSY) else StoreUnreachable
        log.warning("%s: %s", url, said)  # it may name the database's host and user: not for whoever asks
        raise kind(f"{url}: Airflow's database did not do as asked ({type(error).__name__})") from error
