"""How somebody who stands at this machine comes to a page: the address, and a ticket that nobody types.

    way = entry(workspace, "portfolio")
    way.address, way.login, way.ticket

The ticket goes into a form that is posted, never into an address: those are logged, shared and remembered.
"""

from __future__ import annotations

from html import escape
from typing import Any, NamedTuple

from alphapanda.access import Access
from alphapanda.clock import monotonic, pause
from alphapanda.errors import InfrastructureError, UnknownNameError
from alphapanda.hub.client import HubClient
from alphapanda.processes import person
from alphapanda.workspace import Workspace, replace_file

PAGES = ("portfolio", "errors", "runs")
PATIENCE = 60.0  # seconds until the server of the pages has to be there


class Entry(NamedTuple):
    """Where a page is, where the ticket is posted to, and the ticket: good once, for a minute."""

    page: str
    address: str
    login: str
    ticket: str

    def __repr__(self) -> str:
        return f"Entry({self.address!r})"  # a ticket is a secret


def entry(
    workspace: Workspace, page: str = PAGES[0], role: str = "live", patience: float = PATIENCE
) -> Entry:
    """Have the hub keep the pages' server and make a ticket for it. Blocks until it serves.

    Whoever can call this can write in the workspace and so do anything; ``role`` is what the page lets them do.
    InfrastructureError if no hub runs or the server does not come up, UnknownNameError for no such page.
    """
    if page not in PAGES:
        raise UnknownNameError("page", page, PAGES)
    hub = HubClient(workspace)
    hub.ask({"do": "offer", "roles": ["dashboards"]})
    until, child = monotonic() + patience, dict[str, Any]()
    while monotonic() < until:
        status = hub.ask({"do": "status"}, 5.0)
        child = {one["role"]: one for one in status["children"]}.get("dashboards", {})
        health: dict[str, Any] = child.get("health") or {}
        if health.get("url") and health.get("pid") == child.get("pid"):
            url = str(health["url"])
            ticket = Access(workspace).ticket(f"{person()} at this machine", role)
            return Entry(page, f"{url}/{page}", f"{url}/login", ticket)
        pause(0.1)
    raise InfrastructureError(
        f"the pages are not served: {child.get('error') or child.get('state') or 'not kept'}",
        fix="see `alphapanda status` and `alphapanda logs error`",
        code="E_PAGES",
    )


def door(workspace: Workspace, way: Entry) -> str:
    """The address of a file that only we can read and that posts the ticket once it is opened in a browser."""
    path = workspace.home / "open-page.html"
    fields = "".join(
        f'<input type="hidden" name="{name}" value="{escape(value)}">'
        for name, value in (("ticket", way.ticket), ("to", way.page))
    )
    replace_file(
        path,
        (
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>Alpha Panda</title>'
            f'<form method="post" action="{escape(way.login)}">{fields}<button>Open the page</button></form>'
            "<script>document.forms[0].submit()</script></html>\n"
        ).encode(),
    )
    return path.as_uri()
