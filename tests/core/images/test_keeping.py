"""Which older images may go: a table. In doubt none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_transient.core.images.keeping import Image, older, parameters_of, parted

TAGS = {
    "transient:managed-by": "airflow_transient",
    "transient:image-family": "worker",
    "transient:owner": "prod/dag/run/task/-1",
}


def image(day: int, **changed: object) -> Image:
    made = Image(f"ami-{day}", f"worker-{day}", "available", f"2026-11-{day:02}T00:00:00.000Z", TAGS)
    return replace(made, **changed)  # type: ignore[arg-type]


FOUR = [image(4), image(2), image(1), image(3)]


def ids(images: tuple[Image, ...]) -> list[str]:
    return [each.id for each in images]


@pytest.mark.parametrize(
    ("images", "keep", "current", "gone"),
    [
        pytest.param(FOUR, 2, "ami-4", ["ami-1", "ami-2"], id="oldest first"),
        pytest.param(FOUR, 9, "ami-4", [], id="fewer than are kept"),
        pytest.param(FOUR, 1, "ami-1", ["ami-2", "ami-3", "ami-4"], id="what is used again counts as the newest"),
        pytest.param([image(2), image(1, tags={})], 1, "ami-2", [], id="without our tags"),
        pytest.param(
            [image(2), image(1, tags={**TAGS, "transient:owner": "dev/dag/run/task/-1"})],
            1,
            "ami-2",
            [],
            id="another deployment's",
        ),
        pytest.param(
            [image(2), image(1, tags={**TAGS, "transient:owner": "production/dag/run/task/-1"})],
            1,
            "ami-2",
            [],
            id="a deployment whose name only begins like ours",
        ),
        pytest.param(
            [
                image(2),
                image(1, tags={**TAGS, "transient:owner": "prod/eu/dag/run/task/-1", "transient:dag": "dag"}),
            ],
            1,
            "ami-2",
            [],
            id="a deployment whose name goes on behind a slash",
        ),
        pytest.param(
            [image(2), image(1, tags={**TAGS, "transient:image-family": "other"})], 1, "ami-2", [], id="another family"
        ),
        pytest.param([image(2), image(1, state="pending")], 1, "ami-2", [], id="somebody is making it"),
    ],
)
def test_all_but_the_newest_are_candidates(images: list[Image], keep: int, current: str, gone: list[str]) -> None:
    assert ids(older(images, "worker", "prod", keep, current)) == gone


def test_the_parameters_of_images_are_told_by_their_tags() -> None:
    one, two = (
        image(day, tags={**TAGS, f"transient:image-parameter-{day}": name, "transient:image-parameter-9": "/b"})
        for day, name in ((1, "/a"), (2, "/b"))
    )
    assert parameters_of([one, two, image(3)]) == ("/a", "/b")


def test_what_somebody_may_need_stays_with_the_reason() -> None:
    images = [image(1), image(2), image(3, public=True), image(4)]
    go, stay = parted(images, {"ami-1": "instance i-1 runs it", "ami-9": "…"}, {"ami-2": "it is shared"})
    assert ids(go) == ["ami-4"]
    assert [(kept.image.id, kept.why) for kept in stay] == [
        ("ami-1", "instance i-1 runs it"),
        ("ami-2", "it is shared"),
        ("ami-3", "it is public"),
    ]
