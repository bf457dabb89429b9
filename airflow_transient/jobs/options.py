"""The arguments of `airflow transient jobs`, as argparse takes them. Every `airflow` command imports this file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Arguments = dict[tuple[str, ...], dict[str, Any]]

ID: Arguments = {("id",): {"help": "The id of a job", "metavar": "ID"}}
OUTPUT: Arguments = {
    ("-o", "--output"): {"help": "table or json (default: table)", "choices": ("table", "json"), "default": "table"}
}
PLAIN: Arguments = {
    ("--plain",): {"help": "Environment values that Airflow would mask, too", "action": "store_true"},
}
REVISION: Arguments = {
    ("--if-revision",): {"help": "Only while this is its revision (`get` tells it)", "type": int, "metavar": "N"}
}


@dataclass(frozen=True)
class Verb:
    help: str
    arguments: Arguments = field(default_factory=dict)
    description: str | None = None


VERBS = {
    "list": Verb(
        "List the jobs, with their last and next runs",
        {
            ("--skip",): {"help": "Begin after so many (default: 0)", "type": int, "default": 0, "metavar": "N"},
            ("--count",): {"help": "Not more than so many (default: all)", "type": int, "metavar": "N"},
            **PLAIN,
            **OUTPUT,
        },
    ),
    "get": Verb("Print a job's document, as the API does", {**ID, **PLAIN, **OUTPUT}),
    "put": Verb(
        "Create a job, or change fields of one",
        {
            ("file",): {"help": "A JSON document; - reads standard input", "metavar": "FILE"},
            ("--id",): {"help": "The job; default: the document's `id`, else its `taskDefinition`", "metavar": "ID"},
            **REVISION,
            **OUTPUT,
        },
        "A job that is there keeps the fields which the document does not name.",
    ),
    "delete": Verb(
        "Delete a job and end its runs",
        {**ID, ("-y", "--yes"): {"help": "Do not ask", "action": "store_true"}, **REVISION, **OUTPUT},
    ),
    "run": Verb("Run a job now; prints the id of the run", {**ID, **OUTPUT}),
    "import": Verb(
        "Take over jobs from an export of the ECS Scheduler, or of this Airflow's",
        {
            ("file",): {
                "help": "A JSON list, the answer of GET /jobs, a file of one document per line, a snapshot of jobs, or "
                "a folder of <id>.json; - reads standard input",
                "metavar": "FILE",
            },
            ("--replace",): {"help": "Write over jobs that exist (default: refuse those)", "action": "store_true"},
            ("--all-or-nothing",): {"help": "Write none where one is refused", "action": "store_true"},
            ("--dry-run",): {"help": "Say what would become of each, and write nothing", "action": "store_true"},
            **OUTPUT,
        },
        "One write for all. Exit code 1: a document was refused.",
    ),
    "next": Verb(
        "When a job fires next, or a schedule would",
        {
            ("id",): {"help": "The id of a job", "metavar": "ID", "nargs": "?"},
            ("--schedule",): {"help": "A schedule that no job has yet", "metavar": "'S M H ...'"},
            ("--timezone",): {"help": "Of --schedule (default: UTC)", "metavar": "ZONE"},
            ("--count",): {"help": "So many fires, up to 100 (default: 5)", "type": int, "default": 5, "metavar": "N"},
            **OUTPUT,
        },
    ),
}
