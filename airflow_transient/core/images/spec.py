"""What the author asks for: an image, made by a script on a machine that exists only for it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any, ClassVar

from airflow_transient.core.ec2.spec import Ec2Spec
from airflow_transient.core.launch import TAG_PREFIX, LaunchKey
from airflow_transient.core.reading import duration, names, text, truth, whole
from airflow_transient.errors import SpecError

#: Image names have 3 to 128 of these characters (CreateImage, API reference); ours add a hash and, forced, a token.
_NAME = re.compile(r"[A-Za-z0-9()\[\] ./'@_-]{3,80}\Z")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d\Z")
_PARAMETER = re.compile(r"/?[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*\Z")
#: A tag's value holds it; SSM takes about 1,000.
_LONGEST_PARAMETER = 256
#: They travel in the boot script, which is held in memory by the worker and by the machine's shell.
MAX_FILES, MAX_FILE_BYTES = 200, 1024 * 1024
#: Where a file would be gone, or in the way of the boot script.
_NO_PLACE = ("/run/", "/proc/", "/sys/", "/dev/", "/tmp/", "/var/run/", "/var/lib/transient/", "/var/lib/cloud/")  # noqa: S108
#: Counts up when what a builder makes of the same words changes: then images are made anew. 2: no authorized_keys.
RECIPE = 2

FAMILY, INPUTS = TAG_PREFIX + "image-family", TAG_PREFIX + "image-inputs"
SOURCE, SCRIPT = TAG_PREFIX + "image-source", TAG_PREFIX + "image-script"
#: The task and the generation that made it, as on the machines of a launch.
MAKER = TAG_PREFIX + "launch"
#: And a hash: a tag for each parameter that an image was ever published by, with the parameter's name.
PUBLISHED = TAG_PREFIX + "image-parameter-"


@dataclass(frozen=True)
class File:
    """A file of the image, as it was read where the DAG runs."""

    content: bytes
    executable: bool = False

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest() + ("+x" if self.executable else "")


@dataclass(frozen=True, kw_only=True)
class BakeSpec(Ec2Spec):
    """
    A job on one machine that stops when it is done, because its disk becomes the image `name`-<hash of the inputs>.

    `image` is the base.
    """

    name: str = ""
    files: Mapping[str, File] = field(default_factory=dict)
    regions: tuple[str, ...] = ()
    parameter: str | None = None
    keep_last: int | None = None
    force: bool = False
    image_timeout: timedelta = timedelta(hours=1)

    stays: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _NAME.match(self.name):
            raise SpecError(f"name is {self.name!r}: 3 to 80 letters, digits, spaces and any of ()[]./-'@_")
        if self.script is None:
            raise SpecError("an image is made by a script")
        if self.count != 1:
            raise SpecError(f"count is {self.count}: one machine makes an image")
        if self.keep_last is not None and self.keep_last < 1:
            raise SpecError(f"keep_last is {self.keep_last}: it must be at least 1, the image that was just made")
        if not timedelta(minutes=5) <= self.image_timeout <= timedelta(hours=12):
            raise SpecError(f"image_timeout is {self.image_timeout}: it must be from 5 minutes to 12 hours")
        _check_places(self.regions, self.parameter)
        _check_files(self.files)

    @classmethod
    def of(cls, **words: Any) -> BakeSpec:
        """From the operator's words, with the files already read."""
        machine = Ec2Spec.of(**words)
        return cls(
            **{f.name: getattr(machine, f.name) for f in fields(Ec2Spec)},
            name=text(words.get("name"), "name") or "",
            files=words.get("files") or {},
            regions=tuple(dict.fromkeys(names(words.get("copy_to_regions")))),
            parameter=text(words.get("ssm_parameter"), "ssm_parameter"),
            keep_last=whole(words.get("keep_last"), "keep_last"),
            force=truth(words.get("force"), "force") or False,
            image_timeout=duration(words.get("image_timeout", timedelta(hours=1)), "image_timeout"),
        )

    @property
    def lifetime(self) -> timedelta:
        """The machine is needed until the image is whole."""
        return super().lifetime + self.image_timeout

    def secret_free_words(self) -> Iterable[tuple[str, str]]:
        yield from super().secret_free_words()
        yield from ((f"files[{place!r}]", file.content.decode(errors="ignore")) for place, file in self.files.items())


def inputs(spec: BakeSpec, source: str, deployment: str) -> str:
    """One short word for all that decides what is in the image; not where it is built, nor how large a machine does.

    `deployment` is in it, too: what one Airflow was handed, another's `keep_last` would take away.
    """
    said = {
        "recipe": RECIPE,
        "deployment": deployment,
        "source": source,
        "script": spec.script,
        "files": {place: file.digest for place, file in spec.files.items()},
        "environment": dict(spec.environment),
        "secrets": dict(spec.secrets),
        "volume_size": spec.volume_size,
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def image_name(spec: BakeSpec, digest: str, key: LaunchKey | None = None) -> str:
    """The same for the same inputs; a forced one is told from it by its launch."""
    return f"{spec.name}-{digest}" + (f"-{key.name}" if spec.force and key else "")


def image_tags(spec: BakeSpec, source: str, digest: str, key: LaunchKey) -> dict[str, str]:
    """Of the image and of its snapshots. No deadline: an image is made to stay."""
    ours = {
        **key.owner.tags,
        MAKER: key.name,
        FAMILY: spec.name,
        INPUTS: digest,
        SOURCE: source,
        SCRIPT: hashlib.sha256((spec.script or "").encode()).hexdigest(),
        **published_by(spec.parameter),
    }
    return {name: value[:256] for name, value in {"Name": spec.name, **spec.tags, **ours}.items()}


def published_by(parameter: str | None) -> dict[str, str]:
    """The tag of an image that this parameter names, or named."""
    return {PUBLISHED + hashlib.sha256(parameter.encode()).hexdigest()[:8]: parameter} if parameter else {}


def _check_places(regions: tuple[str, ...], parameter: str | None) -> None:
    for region in regions:
        if not _REGION.match(region):
            raise SpecError(f"copy_to_regions: {region!r} is no region such as eu-west-1")
    if parameter and (not _PARAMETER.match(parameter) or re.match(r"/?(aws|ssm)", parameter, re.IGNORECASE)):
        raise SpecError(f"ssm_parameter is a name such as /images/worker, not under aws or ssm, and not {parameter!r}")
    if parameter and len(parameter) > _LONGEST_PARAMETER:
        raise SpecError(f"ssm_parameter has {len(parameter)} characters: {_LONGEST_PARAMETER} is the most")


def _check_files(files: Mapping[str, File]) -> None:
    for place in files:
        parts = place.split("/")
        if not place.startswith("/") or not all(parts[1:]) or ".." in parts or re.search(r"[\x00-\x1f]", place):
            raise SpecError(f"files: {place!r} is no full path of a file on the machine, such as /opt/app/app.conf")
        if f"{place}/".startswith(_NO_PLACE):
            raise SpecError(f"files: {place!r} would not be in the image; put it elsewhere, such as under /opt")
    if len(files) > MAX_FILES:
        raise SpecError(f"files: {len(files)} of them, and {MAX_FILES} is the most: pack them, or fetch them from S3")
    size = sum(len(file.content) for file in files.values())
    if size > MAX_FILE_BYTES:
        raise SpecError(
            f"files: {size:,} bytes, and {MAX_FILE_BYTES:,} is the most in all: keep them in S3 and let the script "
            "fetch them"
        )
