"""The page where a token is typed, and the POST that takes it or a ticket.

The answer to a good one is a page that goes on by itself, not a redirect: a form posted from a file or a notebook comes
from another site, and a browser would follow its redirect without the cookie that was just set.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from pathlib import Path
from typing import Any

from tornado.web import RequestHandler

from alphapanda import logs
from alphapanda.access import Person
from alphapanda.panes.gate import LOGIN, Gate
from alphapanda.report.page import esc

HERE = Path(__file__).parent
WRONG = "That token opens nothing: it is mistyped, has ended, or was revoked."
USED = "This link was used already, or is older than a minute. Ask for a new one: <code>alphapanda dashboard</code>."


def login_handler(gate: Gate, pages: tuple[str, ...]) -> type[RequestHandler]:
    """The handler of ``/login``; ``pages`` are those it may lead to, the first where nobody says."""

    class Login(RequestHandler):
        """GET shows the form; POST takes ``token`` or ``ticket``."""

        def get(self) -> None:
            """The form; who has logged in goes on."""
            if gate.person(self.request) is not None:
                self.redirect(f"/{self._to()}")
                return
            self._show("")

        def post(self) -> None:
            """401 for what opens nothing."""
            ticket = self.get_body_argument("ticket", "")
            if ticket:
                person = gate.access.use_ticket(ticket)
            else:
                person = gate.access.person(self.get_body_argument("token", ""))
            how = "ticket" if ticket else "token"
            if person is None:
                logs.channel("audit").warning("dashboard.refused", how=how, peer=self.request.remote_ip)
                self.set_status(401)
                self._show(USED if ticket else WRONG)
                return
            logs.channel("audit").info("dashboard.login", by=person.name, role=person.role, how=how)
            self._go_on(person, bool(ticket))

        def _go_on(self, person: Person, by_ticket: bool) -> None:
            gate.admit(self, person, by_ticket)
            self.set_header("Cache-Control", "no-store")
            to = self._to()
            self.write(
                f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Alpha Panda</title>'
                f'<meta http-equiv="refresh" content="0;url=/{to}"></head>'
                f'<body><a href="/{to}">Open {to}</a></body></html>'
            )

        def _to(self) -> str:
            asked = self.get_argument("to", "")
            return asked if asked in pages else pages[0]

        def _show(self, said: str) -> None:
            self.set_header("Cache-Control", "no-store")
            form = (HERE / "login.html").read_text("utf-8")
            self.write(
                form.replace("{look}", look()).replace("{said}", said).replace("{to}", esc(self._to()))
                .replace("{action}", LOGIN)
            )  # fmt: skip

        def write_error(self, status_code: int, **kwargs: Any) -> None:
            """A sentence, and nothing of ours."""
            self.finish(f"{status_code}: this was not understood; go back to /login\n")

    return Login


def look() -> str:
    """Colours and letters of every page."""
    return (HERE / "look.css").read_text("utf-8")
