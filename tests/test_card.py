"""The live card in a real JupyterLab: it follows its run, and Stop works whatever the kernel is doing."""

from __future__ import annotations

import json
import os
import re
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
from tests.pages import expect
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
HELD = """import ctypes
open({!r}, "w").close()
ctypes.PyDLL(None).open({!r}, 0)"""  # one C call that does not let go of the interpreter; the file says it is next
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
                self.page.wait_for_function(ASKED, arg=number, timeout=10_000)
                return
        raise AssertionError(f"cell {number} does not start")

    def busy(self, number: int) -> bool:
        return "[*]" in self.cell(number).locator(".jp-InputPrompt").inner_text()

    def finish(self, number: int, timeout: float = 90_000) -> None:
        """Wait for its end; an error fails the test with what it said."""
        expect(self.cell(number).locator(".jp-InputPrompt")).to_have_text(
            re.compile(r"\[\d+\]"), timeout=timeout
        )
        expect(self.cell(number).locator("[data-mime-type='application/vnd.jupyter.error']")).to_have_text([])

    def run(self, number: int) -> None:
        self.start(number)
        self.finish(number)

    def card(self, number: int) -> Locator:
        """The card that a cell shows, once its run does something."""
        card = self.cell(number).locator(".ap-live")
        expect(card).to_have_attribute("data-state", "running", timeout=90_000)
        return card

    def state(self, name: str) -> str:
        """What the hub says of the newest run of this name, without kernel and browser."""
        runs = Workspace(self.file.parent).runs.glob(f"{name}-*")
        return RunSpec.read(max(runs, key=lambda run: int(run.name.rpartition("-")[2]))).state

    def saved(self) -> str:
        """Save the notebook: what its file then holds, all of it."""
        before = self.file.stat().st_mtime_ns
        found = ""

        def done() -> bool:
            nonlocal found
            found = self.file.read_text()
            with suppress(json.JSONDecodeError):  # it is being written
                return self.file.stat().st_mtime_ns != before and bool(json.loads(found))
            return False

        for _ in range(6):  # a busy machine loses the key press
            self.page.keyboard.press("Control+s")
            with suppress(AssertionError):
                until(done, 10)
                return found
        raise AssertionError("the notebook is not saved")

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
    enough, gate, begun = tmp_path / "enough", tmp_path / "gate", tmp_path / "begun"
    os.mkfifo(gate)
    cells = [
        f"import ipykernel\nprint(ipykernel.__version__)\n{CONNECT}\n{CELL}",
        show("Loop"), show("Held"), LOOP.format(str(enough)), HELD.format(str(begun), bytes(gate)),
    ]  # fmt: skip
    with desk.lab(cells, path) as it:
        it.run(0)
        expect(it.cell(0).locator(".jp-OutputArea")).to_have_text(re.compile(rf"^\s*{re.escape(wanted)}\."))
        it.run(1)
        it.run(2)
        loop, held = it.card(1), it.card(2)

        it.start(3)
        pause(1.0)
        age = loop.locator(".ap-age")
        expect(age).to_have_attribute("data-tape", re.compile("."))
        figures = age.get_attribute("data-tape") or ""
        expect(age, "it lives while the cell computes").not_to_have_attribute("data-tape", figures)
        seconds = pressed(it, loop, "loop")
        assert it.busy(3)
        expect(loop).to_have_attribute("data-state", "stopped")
        assert it.busy(3)
        told(wanted, "pure Python loop", seconds)
        enough.touch()
        it.finish(3)

        it.start(4)
        until(begun.exists, 60)
        pause(1.0)
        seconds = pressed(it, held, "held")
        expect(held).to_contain_text("Stopped by the hub")
        assert it.busy(4), "it waited for the C call"
        expect(held).to_have_attribute("data-state", "stopped")
        expect(held.locator(".ap-state")).to_have_text("stopped")
        told(wanted, "one long C call", seconds)
        it.picture(f"card-held-{wanted}", tmp_path)
        os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))  # somebody still waits for it
        it.finish(4)
        expect(held).to_have_attribute("data-state", "stopped")
        assert it.outside == []


def pressed(it: Lab, card: Locator, name: str) -> float:
    """Press Stop and its first answer, which keeps positions; seconds from there to the end as the hub tells it."""
    card.get_by_role("button", name="Stop", exact=True).click()
    answer = card.locator(".ap-ask").get_by_role("button").first
    expect(answer).to_have_text(re.compile("^Stop(, keep positions)?$"))
    answer.click()
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
        expect(it.cell(2).locator(".ap-wait")).to_contain_text("fills")
        expect(card).not_to_contain_text("₹–")
        expect(card.locator("svg polyline")).to_have_count(1)
        expect(card).to_have_attribute("data-lane", "paper")
        expect(card.locator(".ap-age")).to_contain_text("data ")
        it.picture(f"card-{theme.split()[1].lower()}", tmp_path)

        stopper = card.get_by_role("button", name="Stop", exact=True)  # by keyboard, and a change of mind
        stopper.press("Enter")
        expect(card.locator(".ap-ask")).to_have_count(1)
        expect(card.locator(".ap-ask").get_by_role("button").first).to_be_focused()
        it.picture(f"card-asking-{theme.split()[1].lower()}", tmp_path)
        it.page.keyboard.press("Escape")
        expect(card.locator(".ap-ask")).to_have_count(0)
        expect(stopper).to_be_focused()

        def received() -> int:
            """Messages to this card within two seconds."""
            frames.clear()
            it.page.wait_for_timeout(2_000)
            return len(frames)

        it.page.expose_function("countFrame", lambda: frames.append(""))
        it.page.evaluate(COUNT)
        until(lambda: 2 <= received() <= 14, 60)
        card.evaluate("card => { card.parentElement.style.display = 'none' }")
        until(lambda: received() == 0, 30)  # once the kernel has heard that nobody looks
        card.evaluate("card => { card.parentElement.style.display = '' }")
        until(lambda: received() > 0, 30)

        saved = it.saved()
        assert "Cards" in saved
        assert "ap-live" in saved
        it.page.reload()  # another page over the same kernel
        again = it.card(1)
        expect(again).not_to_contain_text("₹–")
        stopper = again.get_by_role("button", name="Stop", exact=True).first
        stopper.press("Enter")
        again.locator(".ap-ask").get_by_role("button").first.press("Enter")
        expect(again).to_have_attribute("data-state", "stopped")
        until(lambda: it.state("cards") == "stopped")
        expect(stopper).to_be_hidden()
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
        expect(halted).to_contain_text("10**9 // (self.gap - 4)")
        it.run(3)
        alone = it.card(3)
        it.picture("card-halted", tmp_path)
        it.start(4)
        expect(alone).to_have_attribute("data-stale", "", timeout=60_000)
        expect(alone.locator(".ap-said")).to_contain_text("has ended")
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
