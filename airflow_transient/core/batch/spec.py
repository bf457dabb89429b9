"""What the author of a batch asks for: which files, to which queue, and where their outputs go. Frozen, valid."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TypeVar

from airflow_transient.core.batch import pattern as patterns
from airflow_transient.core.reading import text, truth, whole
from airflow_transient.core.spec import S3Prefix
from airflow_transient.errors import SpecError

#: Message formats: our document; the list of producers made with boto 2, as base64 (as boto 2 sends it) and plain.
V1, SEED, SEED_PLAIN = FORMATS = ("v1", "seed", "seed-plain")
SKIP, FAIL, SUCCEED = IF_EMPTY = ("skip", "fail", "succeed")
NAME, STEM = "{name}", "{stem}"
MANIFESTS = "_manifests/"
LONGEST_KEY = 1024
MOST_AT_ONCE = 64

_TOKEN = re.compile(r"\{(name|stem)\}")
_URL = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(.+)", re.DOTALL)
#: SQS: 128 characters of these.
_GROUP = re.compile(r"[!-~]{1,128}")


X = TypeVar("X")


@dataclass(frozen=True)
class EnqueueSpec:
    """`source`: a directory of this machine, or a folder in S3. `outputs`: with its tokens in it."""

    source: str | S3Prefix
    inputs: S3Prefix
    outputs: str
    sqs_queue: str
    manifests: S3Prefix
    pattern: str = "*"
    newer_than: datetime | None = None
    parameters: tuple[str, ...] = ()
    message_format: str = V1
    message_group: str | None = None
    once: bool = False
    if_empty: str = SKIP
    uploads: int = 16

    @classmethod
    def of(
        cls,
        *,
        source: Any,
        sqs_queue: Any,
        outputs: Any,
        input_prefix: Any = None,
        manifest_prefix: Any = None,
        pattern: Any = "*",
        newer_than: Any = None,
        parameters: Any = (),
        message_format: Any = V1,
        message_group: Any = None,
        once: Any = False,
        if_empty: Any = SKIP,
        uploads: Any = 16,
    ) -> EnqueueSpec:
        """From words as they come out of templates. Raises SpecError."""
        place = _source(source)
        inputs = _inputs(input_prefix, place)
        spec = cls(
            source=place,
            inputs=inputs,
            outputs=_outputs(outputs),
            sqs_queue=_needed(text(sqs_queue, "sqs_queue"), "sqs_queue is missing: the name, URL or ARN to send to"),
            manifests=_folder(manifest_prefix, "manifest_prefix") or S3Prefix(inputs.bucket, inputs.prefix + MANIFESTS),
            pattern=_pattern(pattern),
            newer_than=_moment(newer_than),
            parameters=_parameters(parameters),
            message_format=_one_of(message_format, FORMATS, "message_format"),
            message_group=_group(message_group),
            once=truth(once, "once") or False,
            if_empty=_one_of(if_empty, IF_EMPTY, "if_empty"),
            uploads=_uploads(uploads),
        )
        spec._check_seed_form()
        if spec.manifests in (spec.source, spec.inputs):
            raise SpecError("manifest_prefix is a folder of its own, and none where files are looked for")
        return spec

    @property
    def in_place(self) -> bool:
        """Whether the files are where workers look for them."""
        return self.source == self.inputs

    def output_of(self, name: str) -> str:
        stem = name[: len(name) - len(extension)] if (extension := _extension(name)) else name
        return _TOKEN.sub(lambda found: name if found[0] == NAME else stem, self.outputs)

    @property
    def output_prefix(self) -> tuple[str, str]:
        """(bucket, prefix) of an output that is a prefix and the name: all that the old message can say."""
        found = _URL.fullmatch(self.outputs)
        if not found or not self.outputs.endswith(NAME) or _TOKEN.search(self.outputs[: -len(NAME)]):
            raise SpecError(
                f"message_format {self.message_format!r} says where outputs go as a prefix only, to which its workers "
                f"add the name and an extension of theirs: outputs must end in {NAME} and have no other token"
            )
        return found[1], found[2].removesuffix(NAME)

    def wanted(self) -> Callable[[str], bool]:
        """Whether a name, relative to the source, is a file of it: meant by the pattern, no manifest, and no copy."""
        meant, copy = self.meant(), self._is_copy()
        return lambda name: meant(name) and not copy(name)

    def meant(self) -> Callable[[str], bool]:
        """Whether a name is meant by the pattern, and is no manifest of ours or of another's."""
        parts, mine = patterns.parts_of(self.pattern), self._is_manifest()
        return lambda name: patterns.matches(parts, name.split("/")) and not mine(name)

    def _is_copy(self) -> Callable[[str], bool]:
        """A folder for copies may lie below the source: what is listed there would be copied again, for ever."""
        source, inputs = str(self.source), str(self.inputs)
        if isinstance(self.source, str) or self.in_place or not inputs.startswith(source):
            return lambda name: False
        return lambda name: f"{source}{name}".startswith(inputs)

    def _is_manifest(self) -> Callable[[str], bool]:
        """Manifests lie in S3; a directory may have such a folder of its own."""
        source = self.source
        if isinstance(source, str):
            return lambda name: False
        ours = str(self.manifests)
        return lambda name: f"/{MANIFESTS}" in f"/{name}" or f"{source}{name}".startswith(ours)

    def _check_seed_form(self) -> None:
        if self.message_format == V1:
            return
        bucket, _ = self.output_prefix
        if bucket != self.inputs.bucket:
            raise SpecError(f"message_format {self.message_format!r} knows one bucket for inputs and outputs")
        if self.parameters:
            raise SpecError(f"message_format {self.message_format!r} has no place for parameters")


def _source(words: Any) -> str | S3Prefix:
    if isinstance(words, os.PathLike):
        words = os.fspath(words)
    place = _needed(text(words, "source"), "source is missing: a directory, or s3://bucket/prefix")
    if place.startswith("s3://"):
        return _needed(_folder(place, "source"), "source is missing")
    if not os.path.isabs(place):
        raise SpecError(f"source is a full path (/data/in) or s3://bucket/prefix, not {place!r}")
    return place


def _inputs(words: Any, source: str | S3Prefix) -> S3Prefix:
    if given := _folder(words, "input_prefix"):
        return given
    if isinstance(source, str):
        raise SpecError("input_prefix is missing: where in S3 the files are to go, s3://bucket/prefix")
    return source


def _folder(words: Any, what: str) -> S3Prefix | None:
    try:
        return S3Prefix.of(text(words, what))
    except SpecError:
        raise SpecError(f"{what} is an address such as s3://bucket/prefix, not {words!r}") from None


def _outputs(words: Any) -> str:
    output = _needed(text(words, "outputs"), "outputs is missing: where outputs go, such as s3://bucket/out/{name}")
    if output.endswith("/"):
        output += NAME
    if not _URL.fullmatch(output):
        raise SpecError(f"outputs is an address such as s3://bucket/out/{NAME}, not {output!r}")
    if not _TOKEN.search(output):
        raise SpecError(f"outputs {output!r} would be the same for all files: put {NAME} or {STEM} into it")
    return output


def _pattern(words: Any) -> str:
    pattern = text(words, "pattern") or "*"
    if pattern.startswith("/") or any(part in ("", ".", "..") for part in pattern.split("/")):
        raise SpecError(f"pattern {pattern!r} is relative to source: *.txt, or **/*.txt for all folders below, too")
    return pattern


def _moment(words: Any) -> datetime | None:
    """Without a zone it is UTC, as Airflow's `ds` is."""
    if words is None or words == "":
        return None
    try:
        iso = str(words).strip().replace("Z", "+00:00")  # which Python 3.10 does not read
        found = words if isinstance(words, datetime) else datetime.fromisoformat(iso)
    except ValueError:
        raise SpecError(f"newer_than is a moment such as 2026-11-21T06:00:00+00:00, not {words!r}") from None
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def _parameters(words: Any) -> tuple[str, ...]:
    if words is None or words == "":
        return ()
    listed = isinstance(words, Sequence) and not isinstance(words, str | bytes)
    if not listed or not all(isinstance(each, str) for each in words):
        raise SpecError(f"parameters is a list of texts, which follow INPUT and OUTPUT on the command line: {words!r}")
    return tuple(words)


def _group(words: Any) -> str | None:
    group = text(words, "message_group")
    if group and not _GROUP.fullmatch(group):
        raise SpecError(f"message_group is 1 to 128 letters, digits and punctuation marks, not {group!r}")
    return group


def _uploads(words: Any) -> int:
    number = whole(words, "uploads")
    if number is None or not 1 <= number <= MOST_AT_ONCE:
        raise SpecError(f"uploads is {words!r}: 1 to {MOST_AT_ONCE} files at a time")
    return number


def _one_of(words: Any, known: tuple[str, ...], what: str) -> str:
    if words not in known:
        raise SpecError(f"{what} is {words!r}: it must be one of {known}")
    return str(words)


def _needed(found: X | None, sentence: str) -> X:
    if not found:
        raise SpecError(sentence)
    return found


def _extension(name: str) -> str:
    """`.gz` of `a.tar.gz`; a name that only begins with a dot has none."""
    return os.path.splitext(name.rpartition("/")[2])[1]
