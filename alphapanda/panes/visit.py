"""One open page: who looks, at which namespace, and the loop that keeps its parts up to date.

The loop is ours, and always awaits between two looks: a periodic callback of Panel's that takes longer than its period
starves every other page of the server. A page in a hidden tab is sent nothing until somebody looks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import panel as pn
from bokeh.document import Document
from panel.io.resources import BASE_TEMPLATE
from panel.io.state import set_curdoc

from alphapanda import logs
from alphapanda.access import Person
from alphapanda.clock import monotonic, wall_ns
from alphapanda.overview import Lane, Overview
from alphapanda.panes import desk as desks
from alphapanda.panes.acts import Acts, Said
from alphapanda.panes.head import head
from alphapanda.panes.login import look
from alphapanda.panes.parts import HERE, Frame, Part, sheet

Build = Callable[[Overview, "Visit"], Any]
NOBODY = Person("nobody", "view")
BEAT_SECONDS = 1.0  # the page is told at least so often that we live
MILLISECOND = 1_000_000


class Visit:
    """An open page. ``namespace`` is the one it shows; ``picked`` is what a person chose on it, by name."""

    def __init__(self, desk: desks.Desk, document: Document, page: str) -> None:
        self.desk, self.page = desk, page
        self.person, self._by_ticket = _who(document)
        self.namespace, self.visible, self.ended = "paper", True, False
        self.picked: dict[str, str] = {}
        self.acts = Acts(self)
        self.frame = Frame(hear=self._heard, wide="frame")
        self._document = document
        self._parts: list[tuple[Part, Build]] = [(self.frame, head)]
        self._changed = asyncio.Event()  # a person has done something: look at once
        self._task: asyncio.Task[None] | None = None

    def add(self, part: Part, build: Build) -> Part:
        """Show what ``build`` says in ``part``. One that takes long asks ``made``."""
        self._parts.append((part, build))
        return part

    def made(self, make: Callable[..., Any], overview: Overview, *facts: Any) -> Any:
        """What ``make(overview, *facts)`` says, which other pages may have asked already."""
        return self.desk.made(make, overview, *facts)

    def lane(self, overview: Overview) -> Lane:
        """The namespace this page shows."""
        return overview.lanes.get(self.namespace) or Lane(self.namespace, self.namespace != "paper")

    def serve(self, title: str, *parts: Part) -> Any:
        """Make a page of these parts, and look after it from now on."""
        rows = pn.Column(
            self.frame, *parts, css_classes=["ap-page"], sizing_mode="stretch_width", margin=0,
            stylesheets=sheet("page"),
        )  # fmt: skip
        if self._document.session_context is not None:
            self._document.template = _template()
            self._document.template_variables["base"] = BASE_TEMPLATE
            self.desk.visits.add(self)
            self._task = asyncio.get_running_loop().create_task(self._follow())
            pn.state.on_session_destroyed(lambda _: self.leave())
        return rows.servable(title=f"{title} · Alpha Panda")

    # ── keeping it up to date

    async def _follow(self) -> None:
        number, beat = 0, 0.0
        while not self.ended:
            self._changed.clear()
            if self.visible and monotonic() - beat >= BEAT_SECONDS:
                beat = monotonic()
                self._beat()
            overview = self.desk.overview
            if self.visible:
                number = overview.number
                self.show(overview)
            await asyncio.sleep(0 if self._changed.is_set() else self.desk.period * 0.8)
            await self._news(number)

    async def _news(self, number: int) -> None:
        """Until there is something to look at, or a person has done something."""
        waiting = [
            asyncio.ensure_future(self.desk.news(number)),
            asyncio.ensure_future(self._changed.wait()),
        ]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=BEAT_SECONDS)
        finally:  # also when the page is closed meanwhile
            for one in waiting:
                one.cancel()

    def _beat(self) -> None:
        if self.person is not NOBODY and not self.stands():
            self._tell({"leave": True})
            return
        self._tell({"beat": wall_ns() // MILLISECOND})

    def stands(self) -> bool:
        """Whether who opened this page may still be here."""
        gate = self.desk.gate
        return gate is not None and gate.stands(self.person, self._by_ticket)

    def show(self, overview: Overview) -> None:
        """Bring every part up to date; one that fails says so and stops no other."""
        with set_curdoc(self._document):
            for part, build in self._parts:
                if not part.there:
                    continue
                try:
                    part.present(build(overview, self))
                except Exception as error:  # noqa: BLE001 - whatever is wrong with one part, the others go on
                    logs.channel("error").exception("page.failed", page=self.page, part=type(part).__name__)
                    self._tell({"said": [{"text": f"a part of this page failed: {error}", "bad": True}]})
                    part.there = False

    def look(self) -> None:
        """Look at once, and not when there is news."""
        self._changed.set()

    def tell(self, *said: Said) -> None:
        """Show a person what became of what they did."""
        self._tell({"said": said})

    def _tell(self, message: dict[str, Any]) -> None:
        if self.frame.there:
            with set_curdoc(self._document):
                self.frame.tell(message)

    # ── what a person does

    def _heard(self, message: dict[str, Any]) -> None:
        match message.get("do"):
            case "look":
                self.visible = message.get("visible") is not False
            case "namespace":
                name = str(message.get("name", ""))[:80]
                if name in self.desk.overview.lanes:
                    self.namespace = name
                    self.picked.clear()
            case "hello":
                pass
            case _:
                self.acts.heard(message)
        self.look()

    def pick(self, kind: str) -> Callable[[dict[str, Any]], None]:
        """A part's ``hear`` that remembers which row was picked, under ``kind``, and does what its buttons say."""

        def heard(message: dict[str, Any]) -> None:
            if message.get("do") in ("pick", "symbol"):
                self.picked[kind] = str(message.get("key", ""))[:300]
            elif message.get("do") == "drop":
                self.picked.pop(kind, None)
            elif message.get("do") != "hello":
                self.acts.heard(message)
            self.look()

        return heard

    def leave(self) -> None:
        """The page is closed."""
        self.ended = True
        self.desk.visits.discard(self)
        if self._task is not None:
            self._task.cancel()


def visit(page: str) -> Visit:
    """The page that is being opened now; called by a dashboard's file."""
    document = pn.state.curdoc or Document()
    return Visit(desks.current(), document, page)


def _who(document: Document) -> tuple[Person, bool]:
    """Who opens a page, as the gate wrote into its signed session token."""
    context = document.session_context
    payload: Any = getattr(context, "token_payload", None) or {} if context is not None else {}
    told = payload.get("person")
    if not told:
        return NOBODY, False
    return msgspec.convert(told, Person), bool(payload.get("ticket"))


def _template() -> Any:
    from panel.io.resources import BASE_TEMPLATE as base  # noqa: N811

    text = (HERE / "page.html").read_text("utf-8").replace("LOOK", look())
    return base.environment.from_string(text)
