"""The notebooks: well made, run with other parameters, and shown in a real JupyterLab.

nbval compares their stored outputs in ``make test``. When an output changes for a good reason, look at it, then store
it: ``python tests/test_notebooks.py`` runs the notebooks and keeps what they print.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
START = FOLDER / "00_start.ipynb"
TEMPORARY = re.compile(r"/tmp/(ipykernel_\d+|alphapanda-\w+)/")  # noqa: S108 - looked for, not written to
ABSOLUTE = re.compile(
    r"(?<![\w.:/])/(home|root|Users|work|tmp|var|usr|opt|mnt|private)/[\w.-]+|[A-Z]:\\\\Users"
)
CHROMIUM = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
]
LAB = {  # settings of the person who opens it: no news, every cell in the page, nothing asked
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
    "docmanager-extension/plugin": {"autosave": False},
}


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def code_cells(book: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in book["cells"] if cell["cell_type"] == "code"]


def outputs(book: dict[str, Any]) -> list[dict[str, Any]]:
    return [output for cell in code_cells(book) for output in cell["outputs"]]


# ── as files ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_there_are_these_notebooks() -> None:
    names = [
        "00_start",
        "10_research",
        "20_paper",
        "25_replay_and_errors",
        "30_promote",
        "40_zerodha",
        "50_schedule",
    ]
    assert [path.stem for path in NOTEBOOKS] == names


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestFile:
    def test_says_which_kernel_it_wants(self, path: Path) -> None:
        book = read(path)
        assert book["metadata"]["kernelspec"]["name"] == "python3"
        assert (book["nbformat"], book["nbformat_minor"]) >= (4, 5)
        assert "widgets" not in book["metadata"]

    def test_every_cell_has_an_id_of_its_own(self, path: Path) -> None:
        ids = [cell.get("id", "") for cell in read(path)["cells"]]
        assert all(re.fullmatch(r"[\w-]{1,64}", one) for one in ids)
        assert len(set(ids)) == len(ids)

    def test_parameters_come_first_and_are_typed(self, path: Path) -> None:
        """Papermill reads a type from the annotation; without one it cannot check what a person passes."""
        first, *others = code_cells(read(path))
        assert first["metadata"]["tags"] == ["parameters"]
        assert not any("parameters" in cell["metadata"].get("tags", []) for cell in others)
        for statement in ast.parse("".join(first["source"])).body:
            assert isinstance(statement, ast.AnnAssign)
            assert isinstance(statement.annotation, ast.Name)
            assert statement.annotation.id == type(ast.literal_eval(statement.value or "")).__name__

    def test_ran_from_top_to_bottom_without_an_error(self, path: Path) -> None:
        book = read(path)
        counts = [cell["execution_count"] for cell in code_cells(book)]
        assert counts == list(range(1, len(counts) + 1))
        assert not [o for o in outputs(book) if o["output_type"] == "error" or o.get("name") == "stderr"]

    def test_tells_nothing_of_the_machine_it_ran_on(self, path: Path) -> None:
        found = ABSOLUTE.search(json.dumps(outputs(read(path))))
        assert found is None, found
        assert path.stat().st_size < 1_000_000

    def test_is_plain_text_in_plain_words(self, path: Path) -> None:
        prose = "".join("".join(cell["source"]) for cell in read(path)["cells"])
        assert not re.search(r"[\u2600-\u27bf\U0001f300-\U0001faff]", prose)


# ── run with other parameters ────────────────────────────────────────────────────────────────────────────────────


def surroundings(tmp_path: Path) -> dict[str, str]:
    """An environment in which Jupyter neither reads nor writes the person's own folders."""
    places = {
        name: str(tmp_path / name.lower())
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")
    }
    return {
        **os.environ,
        **places,
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "JUPYTER_NO_CONFIG": "1",
    }


@pytest.mark.timeout(180)
def test_papermill_runs_the_first_one_with_other_parameters(tmp_path: Path) -> None:
    out = tmp_path / "out.ipynb"
    run = subprocess.run(
        [
            *(sys.executable, "-m", "papermill", START, out, "--no-progress-bar", "--cwd", tmp_path),
            *("-p", "day", "2026-11-20", "-p", "minutes", "20", "-p", "folder", tmp_path / "page"),
        ],
        env=surroundings(tmp_path), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    book = read(out)
    assert not [o for o in outputs(book) if o["output_type"] == "error"]
    injected = next(c for c in code_cells(book) if "injected-parameters" in c["metadata"]["tags"])
    assert "minutes = 20" in "".join(injected["source"])
    assert "minutes=20" in (tmp_path / "page" / "report-2026-11-20.html").read_text(encoding="utf-8")


# ── in a browser ─────────────────────────────────────────────────────────────────────────────────────────────────


def chromium() -> str:
    """A Chromium of this machine; without one the test is skipped at home and fails in CI."""
    found = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no Chromium: apt-get install chromium")
    return str(found)


def copy_without_outputs(path: Path, folder: Path) -> None:
    """What the page then shows was made by this run."""
    book = read(path)
    for cell in code_cells(book):
        cell["outputs"], cell["execution_count"] = [], None
    (folder / path.name).write_text(json.dumps(book), encoding="utf-8")


def use_theme(theme: str, tmp_path: Path) -> None:
    """For pages that JupyterLab shows from now on; with it the other settings of the person who opens it."""
    settings = tmp_path / "jupyter_config_dir" / "lab" / "user-settings" / "@jupyterlab"
    for name, values in {**LAB, "apputils-extension/themes": {"theme": theme}}.items():
        file = settings / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values), encoding="utf-8")


@contextmanager
def jupyterlab(folder: Path, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A server over ``folder`` on a port of its own; its address and token. It and its kernels end with the block."""
    use_theme("JupyterLab Light", tmp_path)
    environment = surroundings(tmp_path)
    del environment["JUPYTER_NO_CONFIG"]
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"),
                *("--ServerApp.port=0", "--LabApp.extension_manager=readonly", f"--ServerApp.root_dir={folder}"),
            ],
            env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            yield _address(server, tmp_path)
        finally:
            for sign, seconds in (
                (signal.SIGTERM, 20),
                (signal.SIGKILL, 20),
            ):  # asked, it ends its kernels first
                with suppress(ProcessLookupError):
                    os.killpg(server.pid, sign)
                with suppress(subprocess.TimeoutExpired):
                    server.wait(seconds)
                    break


def _address(server: subprocess.Popen[bytes], tmp_path: Path) -> tuple[str, str]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        for file in (tmp_path / "runtime").glob("jpserver-*.json"):
            with suppress(json.JSONDecodeError):
                told = read(file)
                return told["url"], told["token"]
        threading.Event().wait(0.1)
    raise AssertionError((tmp_path / "server.log").read_text(errors="replace"))


PROMPTS = "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(prompt => prompt.textContent)"
STARTED = PROMPTS + r".some(text => /\[[*\d]+\]/.test(text))"
FAILED = ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']"
ENDED = PROMPTS + rf'.every(text => /\[\d+\]/.test(text)) || document.querySelector("{FAILED}") !== null'


def run_all(page: Page, url: str, token: str, notebook: str) -> None:
    """Open a notebook and run it to its end; a cell that fails ends the test with what it said."""
    from playwright import sync_api

    page.goto(f"{url}lab/workspaces/auto-t/tree/{notebook}?reset&token={token}")
    page.wait_for_selector(".jp-NotebookPanel .jp-CodeCell", timeout=60_000)
    page.wait_for_selector("text=Kernel status: Idle", state="attached", timeout=60_000)
    page.wait_for_timeout(2_000)  # a run asked for earlier is lost
    for _ in range(3):
        page.click("text=Run >> nth=0")
        page.click('li[data-command="runmenu:run-all"]')
        with suppress(sync_api.TimeoutError):
            page.wait_for_function(STARTED, timeout=10_000)
            break
    page.wait_for_function(ENDED, timeout=120_000)
    assert page.locator(FAILED).all_inner_texts() == []
    page.wait_for_selector("text=Kernel status: Idle", state="attached", timeout=60_000)


@contextmanager
def browser_page(tmp_path: Path, height: int = 1_100) -> Iterator[tuple[Page, list[str]]]:
    """A page, and the addresses outside this machine that it asked for."""
    from playwright.sync_api import sync_playwright

    outside: list[str] = []

    def note(request: Any) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("data", "blob") and address.hostname not in ("127.0.0.1", "localhost"):
            outside.append(request.url)

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path / "profile", executable_path=chromium(), args=FLAGS, headless=True,
            viewport={"width": 1_360, "height": height},
        )  # fmt: skip
        context.on("request", note)
        try:
            yield context.new_page(), outside
        finally:
            context.close()


@pytest.mark.browser
@pytest.mark.timeout(300)
def test_jupyterlab_shows_the_report(tmp_path: Path) -> None:
    from tests.pages import expect

    chromium()
    folder = tmp_path / "notebooks"
    folder.mkdir()
    copy_without_outputs(START, folder)
    with jupyterlab(folder, tmp_path) as (url, token), browser_page(tmp_path) as (page, outside):
        run_all(page, url, token, START.name)
        card = page.locator(".jp-OutputArea-output .ap-card")
        expect(card).to_have_count(1)
        expect(card).to_contain_text("net P&L after charges")
        card.locator("svg").first.wait_for()
        page.keyboard.press("Escape")
        page.keyboard.press("Control+b")  # without the list of files
        page.locator(".jp-CodeCell", has=card).evaluate("cell => cell.scrollIntoView({block: 'start'})")
        page.wait_for_timeout(500)
        pictures = [tmp_path, *(Path(place) for place in (os.environ.get("ALPHAPANDA_PICTURES"),) if place)]
        for place in pictures:
            page.screenshot(path=place / "notebook.png")
        assert (tmp_path / "notebook.png").stat().st_size > 20_000
        assert outside == []


# ── storing outputs ──────────────────────────────────────────────────────────────────────────────────────────────


def refresh(path: Path) -> None:
    """Run a notebook and store what its cells show: no widgets, no paths of this machine, no versions."""
    import nbformat
    from nbclient import NotebookClient

    book: Any = nbformat.read(path, as_version=4)
    NotebookClient(
        book, timeout=120, coalesce_streams=True, record_timing=False, store_widget_state=False,
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()  # fmt: skip
    book.metadata.language_info = {"name": "python"}
    for cell in book.cells:
        if cell.cell_type == "code":
            kept = [
                o for o in cell.outputs if "application/vnd.jupyter.widget-view+json" not in o.get("data", {})
            ]
            cell.outputs = json.loads(TEMPORARY.sub("", json.dumps(kept)), object_hook=nbformat.from_dict)
    nbformat.write(book, path)


if __name__ == "__main__":
    for notebook in NOTEBOOKS:
        refresh(notebook)
