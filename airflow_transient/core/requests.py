"""One attempt to launch, written down resolved: what is asked for, by whoever asks first and whoever asks again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from airflow_transient.core.launch import Launch
from airflow_transient.core.spec import Pool


@dataclass(frozen=True)
class Request:
    """One attempt, resolved: what is sent, verbatim, by whoever asks first and whoever asks again.

    `launch` is the handle as far as there is one, `wanted` how many more members are asked for, by `token`.
    `user_data` is base64, because it may be gzip and this value is kept as JSON. `over`: members of earlier
    attempts that have ended, and are no answer to this one; the intent keeps them.
    """

    launch: Launch
    pool: Pool
    token: str
    wanted: int
    arguments: Mapping[str, Any]
    user_data: str = ""
    warnings: tuple[str, ...] = field(default=())
    over: tuple[str, ...] = field(default=(), compare=False)

    def to_dict(self) -> dict[str, Any]:
        pool = [self.pool.instance_type, self.pool.subnet_id, self.pool.market]
        said = asdict(self) | {"launch": self.launch.to_dict(), "pool": pool, "warnings": list(self.warnings)}
        del said["over"]
        return said

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Request:
        asked = said["arguments"]
        return cls(
            launch=Launch.from_dict(said["launch"]),
            pool=Pool(*said["pool"]),
            token=said["token"] if "token" in said else asked["ClientToken"],
            wanted=said["wanted"] if "wanted" in said else asked["MaxCount"],
            arguments=asked,
            user_data=said["user_data"],
            warnings=tuple(said["warnings"]),
        )
