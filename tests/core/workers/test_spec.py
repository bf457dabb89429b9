"""The command lines that an author's words make."""

from __future__ import annotations

import json
import shlex
import subprocess
from typing import Any

import pytest

from airflow_transient.core.ecs.words import MAX_OVERRIDES
from airflow_transient.core.workers.spec import WORK, Shipped, WorkersSpec
from airflow_transient.errors import SpecError

GOOD = {"sqs_queue": "jobs", "command": ["cp"], "results": "s3://bucket/work"}
SHIPPED = Shipped("https://signed/?X=1&Y='2'", "0" * 64)


def spec(**words: Any) -> WorkersSpec:
    return WorkersSpec.of({**GOOD, **words})


def test_templates_render_to_text() -> None:
    told = spec(processes="4", interval="30", max_dead_letters="3", max_count="7")
    assert (told.processes, told.interval, told.max_dead_letters, told.max_count) == (4, 30.0, 3, 7)


def test_no_limit_of_dead_letters_and_the_default_place_of_failures() -> None:
    told = spec(max_dead_letters=None)
    assert (told.max_dead_letters, told.failures) == (None, "s3://bucket/work/failures")


@pytest.mark.parametrize("name", ["a b", "it's", "$(reboot)", "--", "\n", "é"])
def test_a_command_reaches_the_worker_as_it_stands(name: str) -> None:
    script = spec(command=["convert-it", name]).machine_script(SHIPPED)
    last = script.rstrip("\n").split("\nexec ", 1)[1]
    assert shlex.split(last)[-3:] == ["--", "convert-it", name]


def test_a_machine_works_on_its_disk_in_a_folder_of_its_own_unless_the_author_names_another() -> None:
    script = spec(worker_options=["--temp", "/mnt/nvme"]).machine_script(SHIPPED)
    made, last = script.rstrip("\n").split("\n")[-2:]
    assert made == f"install -d -m 700 {WORK} || exit 3"
    words = shlex.split(last)
    assert [words[n + 1] for n, word in enumerate(words) if word == "--temp"] == [WORK, "/mnt/nvme"]


def test_a_container_works_where_its_image_says() -> None:
    assert "--temp" not in spec().container_override("main", SHIPPED)["command"]


def test_a_text_is_run_by_sh_with_input_and_output_as_its_words() -> None:
    words = spec(command='tr a-z A-Z <"$1" >"$2"').arguments()
    assert words[words.index("--") + 1 :] == ("sh", "-c", 'tr a-z A-Z <"$1" >"$2"', "job")


def test_the_script_is_one_that_bash_reads_and_its_url_is_in_no_process_list() -> None:
    script = spec(worker_options=["--no-output"]).machine_script(SHIPPED)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    assert [line for line in script.splitlines() if "signed" in line] == [
        f"export WORKER_URL={shlex.quote(SHIPPED.url)} WORKER_SHA256={SHIPPED.sha256}"
    ]


def test_a_containers_override_leaves_room_for_a_long_url() -> None:
    """A session token makes a signed URL 2 KB long."""
    made = spec().container_override("main", Shipped("https://x/" + "y" * 2000, "0" * 64))
    assert len(json.dumps({"containerOverrides": [made]})) < MAX_OVERRIDES / 2


@pytest.mark.parametrize(
    "words",
    [
        {"command": ["cp", "\0"]},
        {"command": "  "},
        {"processes": 257},
        {"interval": 0},
        {"idle_timeout": 0},
        {"job_timeout": 12 * 3600},
        {"failures": "bucket/prefix"},
        {"max_count": 1001},
        {"results": "bucket"},
        {"worker_options": ["--no-output", "--", "cp"]},
    ],
    ids=str,
)
def test_what_cannot_be_built_is_refused(words: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        spec(**words)
