"""A message to a person: a subject, and parts of rows, as text, as HTML and for chats. It knows of no launch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

#: SNS takes subjects of 100 ASCII characters (Publish in botocore's model), and messages of 256 KB.
SUBJECT_LIMIT = 100
#: Bytes. As HTML it may be six times as long, one `&#x27;` for each `'`; Slack takes 40,000 characters of text.
TEXT_LIMIT = 32 * 1024


@dataclass(frozen=True)
class Part:
    """One launch, or what is said of all: rows under a title, and the end of a log."""

    title: str
    rows: tuple[tuple[str, str], ...] = ()
    log: str = ""

    @property
    def text(self) -> str:
        width = max((len(name) for name, _ in self.rows), default=0)
        told = [
            f"  {name:<{width}}  {value.replace(chr(10), chr(10) + ' ' * (width + 4))}" for name, value in self.rows
        ]
        log = ["", *(f"  | {line}" for line in self.log.splitlines())] if self.log else []
        return "\n".join([self.title, *told, *log])

    @property
    def html(self) -> str:
        rows = "".join(
            f'<tr><th align="left" valign="top">{escape(name)}</th><td>{_cell(value)}</td></tr>'
            for name, value in self.rows
        )
        log = f"<pre>{escape(self.log)}</pre>" if self.log else ""
        return f"<h3>{escape(self.title)}</h3><table>{rows}</table>{log}"


@dataclass(frozen=True)
class Report:
    """
    What a notifier is handed, as `report` in its templates.

    :param outcome: of a task its launch's, of a DAG run how the run has ended.
    :param subject: one line of ASCII, 100 characters at most.
    """

    outcome: str
    subject: str
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """32 KiB at most."""
        return "\n\n".join(part.text for part in self.parts) + "\n"

    @property
    def html(self) -> str:
        return "".join(part.html for part in self.parts)

    def __str__(self) -> str:
        return self.text


class ForChat(Report):
    """The same for a field of markup such as Slack's, where `<…>` is a link, or wakes a channel: escaped as Slack says
    (docs.slack.dev, "Formatting message text")."""

    @classmethod
    def of(cls, report: Report) -> ForChat:
        return cls(report.outcome, _without_markup(report.subject), report.parts)

    @property
    def text(self) -> str:
        return cut(_without_markup(super().text), TEXT_LIMIT)


def fitting(parts: Sequence[Part], launches: int) -> tuple[Part, ...]:
    """As many as fit into the limit; the first of all always does."""
    kept, room = [parts[0]], TEXT_LIMIT - 200 - _size(parts[0])
    for part in parts[1:]:
        room -= _size(part) + 2
        if room < 0:
            break
        kept.append(part)
    left = launches - (len(kept) - 1)
    return (*kept, Part(f"… and {left} more launches")) if left else tuple(kept)


def _size(part: Part) -> int:
    return len(part.text.encode())


def as_subject(words: str) -> str:
    """SNS refuses line breaks, control characters and what is not ASCII."""
    line = " ".join(plain(words).encode("ascii", "replace").decode().split())
    return line if len(line) <= SUBJECT_LIMIT else line[: SUBJECT_LIMIT - 3] + "..."


def plain(text: str) -> str:
    """Without control characters: a log may hold a terminal's colours, and worse."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)


def cut(text: str, limit: int) -> str:
    """In bytes."""
    data = text.encode()
    return text if len(data) <= limit else data[: limit - 4].decode(errors="ignore") + " …"


def _without_markup(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _cell(value: str) -> str:
    if value.startswith(("https://", "http://")) and not set(value) & set(" \n"):
        return f'<a href="{escape(value)}">{escape(value)}</a>'
    return escape(value).replace("\n", "<br>")
