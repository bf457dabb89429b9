"""What can go wrong, and whose move is next. The tree is the retry behaviour (`airflow_transient.retry` reads it).

TransientError
├── SpecError (also ValueError)   the author's: fix the DAG                 fail
├── LaunchError                   AWS refused to start it                   Airflow's default
│   ├── CapacityError             no room now, in any pool                  retry later
│   └── AccessError               not allowed                               fail, naming the missing permission
└── RunError                      it started, then ended badly
    ├── JobFailed                 the job's own exit code                   fail: the author's choice
    ├── BootFailed                the machine never reached the job         retry once
    ├── Interrupted               AWS took the machine back                 retry soon
    ├── Stopped                   someone else ended it                     fail
    ├── Overdue                   outlived its deadline and was stopped     Airflow's default
    └── Lost                      gone without a receipt                    Airflow's default
        └── Unverified            it ended by itself, nobody knows how      fail: it may have done its work

A message names the launch, what was seen, and what to do next.
"""

from __future__ import annotations


class TransientError(Exception):
    """Anything this package raises on purpose."""


class SpecError(TransientError, ValueError):
    """What was asked for cannot be launched as written; nothing was, or it is undone."""


class LaunchError(TransientError):
    """AWS refused to start it, or gave no clear answer; the next try asks again with the same token."""


class CapacityError(LaunchError):
    """No room now, in any pool."""


class AccessError(LaunchError):
    """The credentials are not allowed to do what the launch needs."""


class RunError(TransientError):
    """It started, then ended badly."""


class JobFailed(RunError):
    """The job ended with an exit code other than 0, was killed by a signal, or left an unusable result."""

    #: "retry" or "fail" where the author's exit code lists say so.
    wish: str | None = None


class BootFailed(RunError):
    """The machine came up but never reached the job."""


class Interrupted(RunError):
    """AWS took the machine back: a spot reclaim or a failed host."""


class Stopped(RunError):
    """Someone else ended it: a person, another program, or Airflow on request."""


class Overdue(RunError):
    """It outlived its deadline and was stopped."""


class Lost(RunError):
    """It is gone and left no receipt: nobody can say how the job ended."""


class Unverified(Lost):
    """It shut itself down, as it does when all is well; whether its job did its work nobody can say."""
