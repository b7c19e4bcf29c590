"""The Panel server of ``dashboards/``: its address, who may come in, and the one reader behind all open pages."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("BOKEH_RESOURCES", "server")  # nothing is loaded from a network

import panel as pn
from panel.io.server import get_server
from tornado.iostream import StreamClosedError
from tornado.web import RedirectHandler, RequestHandler, StaticFileHandler
from tornado.websocket import WebSocketClosedError

from alphapanda import logs
from alphapanda.access import Access
from alphapanda.errors import ConfigurationError, InfrastructureError
from alphapanda.overview import Reader
from alphapanda.panes import executed
from alphapanda.panes.desk import Desk, use
from alphapanda.panes.gate import HEALTH, LOGIN, LOGOUT, PRIVATE, Gate, Visitor
from alphapanda.panes.history import notebook_of
from alphapanda.panes.login import login_handler
from alphapanda.settings import Settings
from alphapanda.workspace import Workspace

PAGES = ("portfolio", "errors", "runs")
VENDOR = Path(__file__).parent / "vendor"
BODY_MAX, MESSAGE_MAX, HEADER_MAX = 64 * 1024, 256 * 1024, 16 * 1024  # bytes


def files() -> dict[str, Path]:
    """The file of each page: of the installed package, else of the repository."""
    package = Path(__file__).parents[1]
    for folder in (package / "dashboards", package.parent / "dashboards"):
        found = {name: folder / f"{name}.py" for name in PAGES if (folder / f"{name}.py").is_file()}
        if found:
            return found
    raise ConfigurationError(
        "no dashboards are installed", fix="install alphapanda again: its wheel brings them"
    )


class Health(RequestHandler):
    """That we serve, and nothing else."""

    def get(self) -> None:
        """``ok``."""
        self.set_header("Cache-Control", "no-store")
        self.write("ok")


def executed_handler(desk: Desk) -> type[RequestHandler]:
    """The handler of notebooks as schedules ran them: as pages to read or as files, for nothing of one may run here."""

    class Executed(RequestHandler):
        """One notebook by its run's number."""

        async def get(self, number: str, file: str | None) -> None:
            """404 for a run that kept none."""
            path = await asyncio.to_thread(notebook_of, desk, int(number))
            if path is None:
                self.set_status(404)
                await self.finish("this run kept no notebook\n")
                return
            self.set_header("Content-Security-Policy", executed.POLICY)
            self.set_header("Cache-Control", "no-store")
            if file:
                self.set_header("Content-Type", "application/x-ipynb+json")
                self.set_header("Content-Disposition", f'attachment; filename="{number}.ipynb"')
                await self.finish(await asyncio.to_thread(path.read_bytes))
                return
            try:
                await self.finish(await asyncio.to_thread(executed.page, path, int(number)))
            except InfrastructureError as error:
                self.set_status(422)
                self.set_header("Content-Type", "text/plain; charset=utf-8")
                await self.finish(f"{error.message}; {error.fix}: /executed/{number}.ipynb\n")

    return Executed


class Pages:
    """The server from now until ``close``; it needs a running event loop."""

    def __init__(self, workspace: Workspace, settings: Settings) -> None:
        given = settings.dashboards
        self.gate = Gate(workspace, given, Access(workspace))
        self.reader = Reader(workspace, settings, period=given.refresh_seconds).start()
        self.desk = use(Desk(workspace, settings, self.reader, self.gate))
        pn.config.sizing_mode = "stretch_width"
        apps: dict[str, Any] = {f"/{name}": str(path) for name, path in files().items()}
        first = next(iter(files()))
        vendor = ("/vendor/(.*)", StaticFileHandler, {"path": str(VENDOR)})
        self.server = get_server(
            apps,
            port=given.port,
            address=given.host,
            auth_provider=self.gate,
            cookie_secret=self.gate.secret,
            extra_patterns=[
                ("/", RedirectHandler, {"url": f"/{first}", "permanent": False}),
                (LOGIN, login_handler(self.gate, tuple(files()))),
                (LOGOUT, _logout(self.gate)),
                (HEALTH, Health),
                (r"/executed/(\d{1,12})(\.ipynb)?", executed_handler(self.desk)),
                vendor,
            ],
            use_index=False,
            redirect_root=False,
            secret_key=self.gate.secret.encode(),
            sign_sessions=True,
            **PRIVATE,
            websocket_max_message_size=MESSAGE_MAX,
            check_unused_sessions_milliseconds=5_000,
            unused_session_lifetime_milliseconds=10_000,
            stats_log_frequency_milliseconds=3_600_000,
            http_server_kwargs={
                "max_body_size": BODY_MAX,
                "max_header_size": HEADER_MAX,
                "idle_connection_timeout": 30.0,
                "body_timeout": 10.0,
            },
        )
        web: Any = self.server._tornado  # pyright: ignore[reportPrivateUsage] - Bokeh names it nowhere else
        for context in web.applications.values():
            context.application.add(Visitor(self.gate))
        self.gate.guard(web.wildcard_router.rules)
        asyncio.get_running_loop().set_exception_handler(_heard)
        self.server.start()
        logs.channel("application").info("dashboards.serve", url=self.url)

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the pages."""
        host = self.desk.settings.dashboards.host
        return f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{self.server.port}"  # noqa: S104

    def health(self) -> dict[str, Any]:
        """For the heartbeat."""
        return {"state": "serving", "url": self.url, "visits": len(self.desk.visits)}

    async def close(self) -> None:
        """Serve no more."""
        self.server.stop()
        await self.desk.close()
        self.reader.close()


def _heard(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A page that was closed while it was written to is no fault."""
    if not isinstance(context.get("exception"), WebSocketClosedError | StreamClosedError):
        loop.default_exception_handler(context)


def _logout(gate: Gate) -> type[RequestHandler]:
    class Logout(RequestHandler):
        """POST forgets the login of this browser."""

        def post(self) -> None:
            """Back to the form."""
            self.clear_cookie(gate.cookie, path="/")
            self.redirect(LOGIN, status=303)

    return Logout
