"""Which names a pattern means, as in a shell: `*` stays in its folder, `**` is any number of them, dots are hidden."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

ANY_FOLDERS = "**"
_WILD = "*?["


def parts_of(pattern: str) -> tuple[str, ...]:
    """Several `**` in a row are one; one at the end means the files in all those folders."""
    parts: list[str] = []
    for part in pattern.split("/"):
        if part != ANY_FOLDERS or parts[-1:] != [ANY_FOLDERS]:
            parts.append(part)
    return (*parts, "*") if parts[-1] == ANY_FOLDERS else tuple(parts)


def matches(parts: Sequence[str], name: Sequence[str]) -> bool:
    """
    :param name: a file's folders and then its own name.
    """
    if not parts or not name:
        return not parts and not name
    if parts[0] == ANY_FOLDERS:
        return matches(parts[1:], name) or (_fits("*", name[0]) and matches(parts, name[1:]))
    return _fits(parts[0], name[0]) and matches(parts[1:], name[1:])


def leads(parts: Sequence[str], folder: Sequence[str]) -> bool:
    """Whether a file somewhere below this folder may match."""
    if not parts:
        return False
    if not folder:
        return True
    if parts[0] == ANY_FOLDERS:
        return leads(parts[1:], folder) or (_fits("*", folder[0]) and leads(parts, folder[1:]))
    return len(parts) > 1 and _fits(parts[0], folder[0]) and leads(parts[1:], folder[1:])


def head(pattern: str) -> str:
    """What every matching name begins with."""
    return pattern[: min((pattern.find(each) for each in _WILD if each in pattern), default=len(pattern))]


def _fits(part: str, name: str) -> bool:
    return (part.startswith(".") or not name.startswith(".")) and fnmatchcase(name, part)
