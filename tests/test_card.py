"""The live card in a real JupyterLab: it follows its run, and Stop works whatever the kernel is doing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from alphapanda.clock import pause
from alphapanda.errors import InfrastructureError
from alphapanda.hub.client import HubClient
from alphapanda.workspace import RunSpec, Workspace
from tests.test_notebook_client import CELL, CONNECT, hub, until
from tests.test_notebooks import browser_page, chromium, jupyterlab, use_theme

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = [pytest.mark.long, pytest.mark.browser, pytest.mark.timeout(400)]
KERNELS = ("6.31", "7.3", "7.4")  # each routes widget messages in another way
LOOP = """import os, time
while not os.path.exists({!r}):
    end = time.time() + 0.5
    while time.time() < end:
        pass"""
HELD = "import ctypes\nctypes.PyDLL(None).open({!r}, 0)"  # one C call that does not let go of the interpreter
ASKED = r"n => /\[[*\d]+\]/.test(document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')[n].textContent)"


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


def search_path(wanted: str, folder: Path) -> str:
    """Where a kernel finds this version of ipykernel: a folder with nothing else in it; "" for the one installed."""
    if version("ipykernel").startswith(f"{wanted}."):
        return ""
    target = folder / wanted
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    install = (
        [uv, "pip", "install", "--python", sys.executable] if uv else [sys.executable, "-m", "pip", "install"]
    )
    made = subprocess.run(
        [*install, "--quiet", "--no-deps", "--target", str(target), f"ipykernel=={wanted}.*", "nest-asyncio"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no ipykernel {wanted}: {made.stderr[-300:]}")
    return str(target)


class Lab:
    """A notebook in a browser: cells are run one by one."""

    def __init__(self, page: Page, file: Path, outside: list[str]) -> None:
        self.page, self.file, self.outside = page, file, outside

    def cell(self, number: int) -> Locator:
        return self.page.locator(".jp-CodeCell").nth(number)

    def start(self, number: int) -> None:
        """Run a cell and wait until it does."""
        from playwright import sync_api

        for _ in range(6):  # a busy machine loses the key press
            self.cell(number).locator(".jp-InputArea-editor").click()
            self.page.keyboard.press("Control+Enter")
            with suppress(sync_api.TimeoutError):
                self.page.wait_for_function(ASKED, arg=number, timeout=5_000)
                return
        raise AssertionError(f"cell {number} does not start")

    def busy(self, number: int) -> bool:
        return "[*]" in self.cell(number).locator(".jp-InputPrompt").inner_text()

    def finish(self, number: int) -> None:
        """Wait for its end; an error fails the test with what it said."""
        until(lambda: not self.busy(number), 90)
        assert (
            self.cell(number).locator("[data-mime-type='application/vnd.jupyter.error']").all_inner_texts()
            == []
        )

    def run(self, number: int) -> None:
        self.start(number)
        self.finish(number)

    def card(self, number: int) -> Locator:
        """The card that a cell shows, once its run does something."""
        card = self.cell(number).locator(".ap-live")
        card.wait_for(timeout=60_000)
        self.page.wait_for_function(
            "c => c.dataset.state === 'running'", arg=card.element_handle(), timeout=60_000
        )
        return card

    def state(self, name: str) -> str:
        """What the hub says of the newest run of this name, without kernel and browser."""
        runs = Workspace(self.file.parent).runs.glob(f"{name}-*")
        return RunSpec.read(max(runs, key=lambda run: int(run.name.rpartition("-")[2]))).state

    def picture(self, name: str, tmp_path: Path) -> None:
        for place in (tmp_path, *(Path(p) for p in (os.environ.get("ALPHAPANDA_PICTURES"),) if p)):
            self.page.screenshot(path=place / f"{name}.png")


class Desk:
    """One workspace with its hub, one JupyterLab and one browser: what takes long to start, for all tests here."""

    def __init__(
        self, tmp_path: Path, place: Path, server: tuple[str, str], page: Page, outside: list[str]
    ) -> None:
        self.tmp_path, self.place, self.outside = tmp_path, place, outside
        self.url, self.token = server
        self.context = page.context
        self.shown = 0

    @contextmanager
    def lab(self, cells: list[str], python_path: str = "", theme: str = "JupyterLab Light") -> Iterator[Lab]:
        """A notebook with these cells in a page of its own, its kernel idle; its kernel and its runs end with it."""
        self.shown += 1
        name, file = f"tested{self.shown}", self.place / f"scratch{self.shown}.ipynb"
        spec = {"name": name, "display_name": name, "language": "python"}
        file.write_text(json.dumps(notebook(cells, spec)))
        kernel = self.tmp_path / "jupyter_data_dir" / "kernels" / name
        kernel.mkdir(parents=True)
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        env = {"ALPHAPANDA_HOME": str(self.place), "PYTHONPATH": python_path, "PYTHONWARNINGS": "ignore"}
        (kernel / "kernel.json").write_text(json.dumps({**spec, "argv": argv, "env": env}))
        use_theme(theme, self.tmp_path)
        self.outside.clear()
        page = self.context.new_page()
        try:
            page.goto(f"{self.url}lab/workspaces/auto-t/tree/{file.name}?reset&token={self.token}")
            page.wait_for_selector(".jp-NotebookPanel .jp-CodeCell", timeout=60_000)
            page.wait_for_selector("text=Kernel status: Idle", state="attached", timeout=60_000)
            page.keyboard.press("Control+b")  # without the list of files
            page.wait_for_timeout(2_000)  # a run asked for earlier is lost
            yield Lab(page, file, self.outside)
        finally:
            page.close()
            self.tidy()

    def tidy(self) -> None:
        """End every kernel and every run."""
        known, kernels = {"Authorization": f"token {self.token}"}, f"{self.url}api/kernels"
        for one in self.context.request.get(kernels, headers=known).json():
            self.context.request.delete(f"{kernels}/{one['id']}", headers=known)
        with suppress(InfrastructureError):  # no cell has started the hub
            HubClient(Workspace(self.place)).ask({"do": "stop_all"})


def notebook(cells: list[str], spec: dict[str, str]) -> dict[str, Any]:
    """A notebook as a file holds it."""
    empty = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    made = [{**empty, "id": f"c{i}", "source": cell} for i, cell in enumerate(cells)]
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": spec}, "cells": made}


@contextmanager
def opened(tmp_path: Path) -> Iterator[Desk]:
    """A desk; the fixture ``desk`` has one for a module."""
    chromium()
    place = tmp_path / "place"
    place.mkdir()
    with (
        hub(place),
        jupyterlab(place, tmp_path) as server,
        browser_page(tmp_path, 900) as (page, outside),
    ):
        yield Desk(tmp_path, place, server, page, outside)


def show(name: str, **options: Any) -> str:
    given = "".join(f", {key}={value!r}" for key, value in options.items())
    return f"{name} = await session.run(Turn(), name={name!r}{given})\n{name}"


@pytest.mark.parametrize("wanted", KERNELS)
def test_stop_works_while_the_kernel_is_busy(wanted: str, kernels: Path, desk: Desk, tmp_path: Path) -> None:
    path = search_path(wanted, kernels)
    enough, gate = tmp_path / "enough", tmp_path / "gate"
    os.mkfifo(gate)
    cells = [
        f"import ipykernel\nprint(ipykernel.__version__)\n{CONNECT}\n{CELL}",
        show("Loop"), show("Held"), LOOP.format(str(enough)), HELD.format(bytes(gate)),
    ]  # fmt: skip
    with desk.lab(cells, path) as it:
        it.run(0)
        assert it.cell(0).locator(".jp-OutputArea").inner_text().strip().startswith(f"{wanted}.")
        it.run(1)
        it.run(2)
        loop, held = it.card(1), it.card(2)

        it.start(3)
        pause(1.0)
        figures = loop.locator(".ap-foot").inner_text()
        until(lambda: loop.locator(".ap-foot").inner_text() != figures)  # it lives while the cell computes
        seconds = pressed(it, loop, "loop", "Stop, keep positions")
        assert it.busy(3)
        until(lambda: loop.get_attribute("data-state") == "stopped")
        assert it.busy(3)
        told(wanted, "pure Python loop", seconds)
        enough.touch()
        it.finish(3)

        it.start(4)
        pause(1.5)
        seconds = pressed(it, held, "held", "Stop, keep positions")
        until(lambda: "Stopped by the hub" in held.inner_text() or not it.busy(4))
        assert it.busy(4), "it waited for the C call"
        assert held.get_attribute("data-state") == "stopped"
        assert held.locator(".ap-state").inner_text().strip() == "stopped"
        told(wanted, "one long C call", seconds)
        it.picture(f"card-held-{wanted}", tmp_path)
        os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))  # somebody still waits for it
        it.finish(4)
        until(lambda: held.get_attribute("data-state") == "stopped")
        assert it.outside == []


def pressed(it: Lab, card: Locator, name: str, answer: str) -> float:
    """Press Stop and the confirmation; seconds from there to the run's end as the hub tells it."""
    card.get_by_role("button", name="Stop", exact=True).click()
    choice = card.get_by_role("button", name=answer)
    (choice if choice.count() else card.locator(".ap-ask").get_by_role("button").first).click()
    began = time.monotonic()
    until(lambda: it.state(name) == "stopped", 30)
    return time.monotonic() - began


def told(wanted: str, while_: str, seconds: float) -> None:
    """For whoever reads the figures."""
    sys.stderr.write(f"ipykernel {wanted}, {while_}: stopped {seconds:.2f} s after the click\n")


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_the_card_follows_its_run(theme: str, desk: Desk, tmp_path: Path) -> None:
    talking = CONNECT.replace("quiet=True", "")
    cells = [f"{talking}\n{CELL}", show("Cards"), "await Cards.wait(fills=3, seconds=60)"]
    with desk.lab(cells, theme=theme) as it:
        frames: list[str] = []
        it.run(0)
        it.run(1)
        card = it.card(1)
        it.run(2)
        assert "fills" in it.cell(2).locator(".ap-wait").inner_text()
        until(lambda: "₹–" not in card.inner_text())
        until(lambda: card.locator("svg polyline").count() == 1)
        assert card.get_attribute("data-lane") == "paper"
        assert "data " in card.locator(".ap-age").inner_text()
        it.picture(f"card-{theme.split()[1].lower()}", tmp_path)

        stopper = card.get_by_role("button", name="Stop", exact=True)  # by keyboard, and a change of mind
        stopper.focus()
        it.page.keyboard.press("Enter")
        assert card.locator(".ap-ask").count() == 1
        it.picture(f"card-asking-{theme.split()[1].lower()}", tmp_path)
        it.page.keyboard.press("Escape")
        assert card.locator(".ap-ask").count() == 0
        assert it.page.evaluate("document.activeElement.textContent") == "Stop"

        def received() -> int:
            """Messages to this card within two seconds."""
            frames.clear()
            it.page.wait_for_timeout(2_000)
            return len(frames)

        it.page.evaluate(COUNT)
        it.page.expose_function("countFrame", lambda: frames.append(""))
        shown = received()
        card.evaluate("card => { card.parentElement.style.display = 'none' }")
        it.page.wait_for_timeout(1_500)
        assert received() == 0
        card.evaluate("card => { card.parentElement.style.display = '' }")
        until(lambda: received() > 0)
        assert 2 <= shown <= 14

        it.page.keyboard.press("Control+s")
        until(lambda: all(word in it.file.read_text() for word in ("Cards", "ap-live")))
        it.page.reload()  # another page over the same kernel
        again = it.card(1)
        assert "₹–" not in again.inner_text()
        again.get_by_role("button", name="Stop", exact=True).focus()
        it.page.keyboard.press("Enter")
        it.page.keyboard.press("Enter")
        until(lambda: again.get_attribute("data-state") == "stopped")
        assert it.state("cards") == "stopped"
        assert again.get_by_role("button", name="Stop", exact=True).is_hidden()
        it.picture(f"card-stopped-{theme.split()[1].lower()}", tmp_path)
        assert it.outside == []


COUNT = """() => {
  const cell = document.querySelectorAll('.jp-CodeCell')[1];
  const foot = cell.querySelector('.ap-money');
  new MutationObserver(() => window.countFrame()).observe(foot, { childList: true });
}"""


def test_a_dead_kernel_and_a_halted_strategy_look_like_it(desk: Desk, tmp_path: Path) -> None:
    broken = CELL.replace("class Turn", "class Broken").replace("self.gap * 10**9", "10**9 // (self.gap - 4)")
    cells = [
        f"{CONNECT}\n{broken}", "run = await session.run(Broken())\nrun", "await run.wait(until='halted', seconds=60)",
        f"{CELL}\n{show('Alone')}", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
    ]  # fmt: skip
    with desk.lab(cells) as it:
        it.run(0)
        it.run(1)
        it.run(2)
        halted = it.cell(1).locator(".ap-live[data-state=halted]")
        halted.wait_for(timeout=30_000)
        until(lambda: "10**9 // (self.gap - 4)" in halted.inner_text())
        it.run(3)
        alone = it.card(3)
        it.picture("card-halted", tmp_path)
        it.start(4)
        until(lambda: alone.get_attribute("data-stale") is not None, 60)
        until(lambda: "has ended" in alone.locator(".ap-said").inner_text())
        until(lambda: it.state("alone") == "stopped", 40)
        it.picture("card-dead-kernel", tmp_path)


def test_the_script_that_needs_no_kernel(tmp_path: Path) -> None:
    """Run by hand: it says what the hub said, also when there is none."""
    full = Path(__file__).parents[1] / "alphapanda" / "notebook" / "stop_now.py"
    ran = subprocess.run(
        [sys.executable, "-I", full, tmp_path / "hub.sock", "run-1"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.startswith('@@stop {"ok": false, "state": "", "message": "the hub does not answer')
