"""A page of the dashboards in a cell: the browser shows it straight from its server, so that a busy kernel holds
nothing up. The ticket that logs it in travels as a message, which no notebook keeps.
"""

# pyright: reportUntypedBaseClass=false, reportUnknownMemberType=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import traitlets
from anywidget import AnyWidget

from alphapanda.entry import entry
from alphapanda.errors import AlphaPandaException
from alphapanda.workspace import Workspace


class Dashboard(AnyWidget):
    """The page in the browser. What is saved of it is its name and height."""

    _esm = Path(__file__).parent / "dashboard.js"
    page = traitlets.Unicode("").tag(sync=True)
    height = traitlets.Int(640).tag(sync=True)

    def __init__(self, workspace: Workspace, page: str, role: str, height: int) -> None:
        super().__init__(page=page, height=height)
        self._workspace, self._role = workspace, role
        self.on_msg(self._message)

    def __repr__(self) -> str:
        return f"{self.page} dashboard; in a browser: alphapanda dashboard {self.page}"

    def _message(self, _widget: Any, content: dict[str, Any], _buffers: Any) -> None:
        if content.get("do") == "open":
            threading.Thread(target=self._open, name="alphapanda-dashboard", daemon=True).start()

    def _open(self) -> None:
        try:
            way = entry(self._workspace, self.page, self._role)
        except AlphaPandaException as error:
            self.send({"said": f"{error.message}; {error.fix}"})
        else:
            self.send({"login": way.login, "address": way.address, "ticket": way.ticket})
