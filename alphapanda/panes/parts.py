"""The parts a page is made of: each a small ES module in the browser, and here what was sent to it.

A part says ``hello`` once it stands in a page, and again when it was rebuilt; until then nothing is sent, and what it
is sent first is all it shows. After that only what changed travels, as one JSON text a message: Bokeh would walk every
value of a nested one.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, cast

import msgspec
import param
from panel.custom import JSComponent

HERE = Path(__file__).parent
Heard = Callable[[dict[str, Any]], None]
Rows = Mapping[str, Sequence[Any]]  # cells by the row's key


def module(name: str) -> str:
    """The text of a part's module, behind what all have in common."""
    return "\n".join((HERE / f"{one}.js").read_text("utf-8") for one in ("common", name)) + "\n"


def sheet(*names: str) -> list[str]:
    """The style sheets of a part."""
    return [(HERE / f"{one}.css").read_text("utf-8") for one in ("part", *names)]


class Part(JSComponent):
    """Something on a page. ``options`` is what never changes of it; ``hear`` gets what a person does with it."""

    options = param.Dict(default={}, doc="what the browser's half is told once")
    _esm = "export function render() {}\n"
    __abstract = True

    def __init__(
        self, title: str = "", *, hear: Heard | None = None, wide: str = "whole", **options: Any
    ) -> None:
        super().__init__(
            options={"title": title, **options},
            sizing_mode="stretch_width",
            css_classes=["ap-part", *(f"ap-{one}" for one in wide.split())],
            margin=0,
        )
        self.hear: Heard = hear or (lambda message: None)
        self.there = False  # it has said hello
        self._loop: asyncio.AbstractEventLoop | None = None
        with suppress(RuntimeError):  # where no server runs
            self._loop = asyncio.get_running_loop()

    def present(self, content: Any) -> None:
        """Bring it up to date; nothing is sent where nothing changed."""
        if self.there and (message := self.changes(content)) is not None:
            self.tell(message)

    def changes(self, content: Any) -> Any:
        """What to send so that the browser shows ``content``; None for nothing."""
        raise NotImplementedError

    def forget(self) -> None:
        """The browser's half is new: it has been sent nothing."""

    def tell(self, message: Any) -> None:
        """Send one message."""
        self._send_msg(msgspec.json.encode(message).decode())

    def _handle_msg(self, data: Any) -> None:
        """Panel calls this in the loop's thread or, from 1.10 on, in one of its own; the rest belongs to the loop."""
        if self._loop is None:
            self._took(data)
        else:
            self._loop.call_soon_threadsafe(self._took, data)

    def _took(self, data: Any) -> None:
        if not isinstance(data, dict):
            return
        message = cast("dict[str, Any]", data)
        if message.get("do") == "hello":
            self.there = True
            self.forget()
        self.hear(message)


class Whole(Part):
    """A part whose content is so small that it is sent whole."""

    __abstract = True

    def __init__(self, title: str = "", **given: Any) -> None:
        super().__init__(title, **given)
        self.forget()

    def forget(self) -> None:
        """See ``Part``."""
        self._sent: Any = None

    def changes(self, content: Any) -> Any:
        """All of it, if any of it differs."""
        if content == self._sent:
            return None
        self._sent = content
        return content


class Frame(Whole):
    """The head of a page: where one is, whose money, how old the data is, and the kill switch."""

    _esm = module("frame")
    _stylesheets: ClassVar[list[Any]] = sheet("frame")


class Figures(Whole):
    """Labelled figures in a row: ``{"label", "value", "kind", "tone", "note"}`` each."""

    _esm = module("figures")
    _stylesheets: ClassVar[list[Any]] = sheet("figures")


class Meters(Whole):
    """Limits as bars: ``{"label", "used", "limit", "kind"}`` each."""

    _esm = module("meters")
    _stylesheets: ClassVar[list[Any]] = sheet("figures")


class Detail(Whole):
    """Facts of one thing that was picked: ``{"title", "facts": [[label, text]], "acts": [[name, label]], "key"}``;
    ``stays`` where nobody may close it."""

    _esm = module("detail")
    _stylesheets: ClassVar[list[Any]] = sheet("detail")


class Column(NamedTuple):
    """A column of a table. ``kind`` is how its values are shown: text, code, int, money (paise), price (rupees), time
    (wall or tape ms), state, side, lane (a namespace), percent, ago (wall ms), acts; ``width`` is in characters, 0
    shares what is left."""

    name: str
    kind: str = "text"
    width: int = 0
    narrow: bool = True  # whether a phone shows it, too


class Table(Part):
    """Dense rows that sort and filter in the browser; changed cells alone are sent.

    ``sort`` is the column it is sorted by at first, with a minus in front for largest first; ``empty`` is what to do
    while there are no rows. A person's pick arrives as ``{"do": "pick", "key"}``, a button of an ``acts`` column as
    ``{"do": ACT, "key"}``.
    """

    _esm = module("table")
    _stylesheets: ClassVar[list[Any]] = sheet("table")

    def __init__(
        self, title: str, columns: Sequence[Column], *, sort: str = "", empty: str = "Nothing yet.",
        height: int = 320, pick: bool = False, **given: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            title,
            columns=[one._asdict() for one in columns],
            sort=sort,
            empty=empty,
            height=height,
            pick=pick,
            **given,
        )
        self._sent: dict[str, list[Any]] = {}
        self._empty_told = False

    def forget(self) -> None:
        """See ``Part``."""
        self._sent, self._empty_told = {}, False

    def changes(self, content: Rows) -> Any:
        """New rows, cells that differ by column, and rows that are gone."""
        sent, put, cells = self._sent, dict[str, Any](), dict[str, Any]()
        for key, row in content.items():
            known = sent.get(key)
            if known is None:
                put[key] = row
            elif known is not row and known != row:
                cells[key] = {
                    str(i): new for i, (old, new) in enumerate(zip(known, row, strict=True)) if old != new
                }
        gone = [key for key in sent if key not in content]
        self._sent = dict(content)  # pyright: ignore[reportAttributeAccessIssue]
        if not (put or cells or gone) and self._empty_told:
            return None
        self._empty_told = True
        return {name: value for name, value in (("put", put), ("set", cells), ("gone", gone)) if value}


class Curve(Part):
    """A line over tape time: points of (ms, paise), oldest first."""

    _esm = module("curve")
    _stylesheets: ClassVar[list[Any]] = sheet("figures")

    def __init__(self, title: str = "", *, empty: str = "Nothing yet.", **given: Any) -> None:
        super().__init__(title, empty=empty, **given)
        self._sent: Sequence[tuple[int, int]] | None = None

    def forget(self) -> None:
        """See ``Part``."""
        self._sent = None

    def changes(self, content: Sequence[tuple[int, int]]) -> Any:
        """The points from the first that differs."""
        sent, self._sent = self._sent, content
        if sent is None:
            return {"from": 0, "points": content}
        if sent == content:
            return None
        same = 0
        for old, new in zip(sent, content, strict=False):
            if old != new:
                break
            same += 1
        return {"from": same, "points": content[same:]}


class Candles(Part):
    """Minute candles of one instrument with fills on them: ``{"symbol", "bars": [[s, o, h, l, c]], "marks": [...]}``.

    A choice of another arrives as ``{"do": "symbol", "symbol"}``.
    """

    _esm = module("candles")
    _stylesheets: ClassVar[list[Any]] = sheet("figures")

    def __init__(self, title: str = "", **given: Any) -> None:
        super().__init__(title, **given)
        self.forget()

    def forget(self) -> None:
        """See ``Part``."""
        self._sent: dict[str, Any] = {}

    def changes(self, content: dict[str, Any]) -> Any:
        """Bars from the first that differs; the rest of it where it differs."""
        sent, self._sent = self._sent, content
        if sent == content:
            return None
        told = {name: value for name, value in content.items() if sent.get(name) != value}
        if sent.get("symbol") == content["symbol"] and "bars" in told:
            same, old = 0, sent["bars"]
            while same < min(len(old), len(content["bars"])) and old[same] == content["bars"][same]:
                same += 1
            if same < len(old) - 1 or same > len(old):
                same = 0
            told |= {"from": same, "bars": content["bars"][same:]}
        elif "symbol" in told:
            told |= {"from": 0, "bars": content["bars"]}
        return told
