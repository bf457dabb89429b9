"""What a file is called on its way: its job's id, and why some files cannot go."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from airflow_transient.core.batch.spec import LONGEST_KEY, NAME, EnqueueSpec


@dataclass(frozen=True)
class Found:
    """
    A file of the source.

    `name`: relative to the source, with slashes. `version`: changes when its content does. `place`: its path or key.
    """

    name: str
    place: str
    size: int
    version: str


@dataclass(frozen=True)
class Wish:
    """What is to become of it: its input in S3, its output, its job's id."""

    file: Found
    id: str
    key: str
    input: str
    output: str


@dataclass(frozen=True)
class Problem:
    """Why a file was not enqueued. `passing`: another try may do it."""

    name: str
    words: str
    passing: bool = False

    def __str__(self) -> str:
        return f"{ascii(self.name)[1:-1]}: {self.words}"


def job_id(address: str, version: str) -> str:
    """The same for the same content in the same place; 128 bits in 32 characters."""
    return hashlib.sha256(json.dumps([address, version]).encode()).hexdigest()[:32]


@dataclass
class Namer:
    """Each file's wish, or why there is none. Keeps 16 bytes a file where outputs might meet, and else nothing."""

    spec: EnqueueSpec
    _outputs: set[bytes] = field(default_factory=set)
    _is_input: Callable[[str], bool] = field(init=False)
    _is_file: Callable[[str], bool] = field(init=False)

    def __post_init__(self) -> None:
        self._is_input, self._is_file = self.spec.meant(), self.spec.wanted()

    def wish(self, file: Found) -> Wish | Problem:
        key = self.spec.inputs.prefix + file.name
        output = self.spec.output_of(file.name)
        if words := next(self._troubles(file.name, key, output), None):
            return Problem(file.name, words)
        address = f"s3://{self.spec.inputs.bucket}/{key}"
        return Wish(file, job_id(address, file.version), key, address, output)

    def _troubles(self, name: str, key: str, output: str) -> Iterator[str]:
        try:
            sizes = {"input": len(key.encode()), "output": len(output.partition("://")[2].partition("/")[2].encode())}
        except UnicodeEncodeError:
            yield "its name is not UTF-8, as S3's keys are"
            return
        for what, size in sizes.items():
            if size > LONGEST_KEY:
                yield f"its {what} would have a key of {size:,} bytes, and S3 takes {LONGEST_KEY:,}"
        if "\0" in key:
            yield "a NUL character in its name, which no command line can hold"
        inputs = str(self.spec.inputs)
        if output.startswith(inputs) and self._is_input(output[len(inputs) :]):
            yield f"its output {output} would be one of the inputs: let outputs or pattern tell them apart"
        if self._in_source(output):
            yield f"its output {output} would be one of the files of source: let outputs or pattern tell them apart"
        if not self.spec.in_place and self._in_source(inputs + name):
            yield f"its copy {inputs}{name} would be one of the files of source: give another input_prefix"
        if NAME not in self.spec.outputs and not self._new(output):
            yield f"another file has the same output, {output}: put {NAME} into outputs"

    def _in_source(self, address: str) -> bool:
        source = self.spec.source
        if isinstance(source, str) or not address.startswith(str(source)):
            return False
        return self._is_file(address[len(str(source)) :])

    def _new(self, output: str) -> bool:
        """Names differ, and so do outputs that hold them; those of `a.wav` and `a.flac` may not."""
        digest = hashlib.sha256(output.encode()).digest()[:16]
        seen = digest in self._outputs
        self._outputs.add(digest)
        return not seen
