"""``ap.login()`` in a real JupyterLab, by mouse: the broker's page, the redirect, what is pasted, what is not."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from alphapanda.sandbox.serve import Sandbox
from tests.pages import expect
from tests.sandbox_rig import broker
from tests.test_card import Desk, Lab
from tests.test_notebooks import code_cells

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

ROOT = Path(__file__).resolve().parent.parent
pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def free_address() -> str:
    """An address of this machine where nobody listens."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as probe:
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


def at_the_broker(it: Lab, form: Locator) -> tuple[Page, str]:
    """Log in on the page that the form links to: that page, and the address people are sent to from it."""
    link = form.get_by_role("link")
    expect(link).to_have_attribute("href", re.compile("^http"))
    with it.page.context.expect_page() as opened:
        link.click()
    tab = opened.value
    with tab.expect_request(lambda request: "request_token=" in request.url) as sent:
        tab.get_by_role("button").click()
    return tab, sent.value.url


def shown(form: Locator, state: str, text: str) -> None:
    """Wait for a text that is new, and then for the state: the one before may be called the same."""
    expect(form).to_contain_text(text)
    expect(form).to_have_attribute("data-state", state)


def test_a_person_logs_in_by_mouse(desk: Desk, tmp_path: Path) -> None:
    caught = free_address()
    with Sandbox.thread(broker(), redirect_url=caught) as sandbox:
        given = {
            "ZERODHA__API_KEY": "sandboxkey",
            "ZERODHA__API_SECRET": "sandboxsecret",
            "ZERODHA__ROOT_URL": sandbox.url,
            "XDG_CONFIG_HOME": str(tmp_path / "config"),
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
        }
        cells = [
            f"import os\nos.environ.update({given!r})\nimport alphapanda as ap",
            f"ap.login(redirect={free_address()!r})",
            f"ap.login(redirect={caught!r})",
            "ap.login()",
        ]
        with desk.lab(cells, str(ROOT)) as it:
            it.run(0)
            it.run(1)
            form = it.cell(1).locator(".ap-login")
            shown(form, "open", "Log in at the sandbox, 127.0.0.1")
            it.picture("login-open", tmp_path)
            tab, address = at_the_broker(it, form)  # nobody listens where it leads: the address is pasted
            tab.close()
            field, press = form.get_by_role("textbox"), form.get_by_role("button")
            field.fill("nonsense")
            press.click()
            shown(form, "failed", "neither a request token")
            expect(field).to_have_value("")
            it.picture("login-failed", tmp_path)
            field.fill(re.sub(r"state=[^&]*", "state=of-another", address))
            press.click()
            shown(form, "failed", "another login")
            field.fill(address)
            press.click()
            shown(form, "done", "SB0001 is logged in")
            expect(field).to_be_hidden()
            it.picture("login-done", tmp_path)

            it.run(2)
            form = it.cell(2).locator(".ap-login")
            shown(form, "open", "SB0001 is logged in already")
            tab, again = at_the_broker(it, form)
            tab.get_by_text("Alpha Panda has the login").wait_for()
            expect(tab).not_to_have_url(re.compile("request_token"))
            tab.screenshot(path=tmp_path / "redirected.png")
            tab.close()
            shown(form, "done", "SB0001 is logged in")

            sandbox.do(lambda of: of.access.close())
            it.run(3)
            form = it.cell(3).locator(".ap-login")
            shown(form, "open", "ended early")
            it.picture("login-dead", tmp_path)

            saved = it.saved()
            assert all(cell["outputs"] for cell in code_cells(json.loads(saved))[1:]), "it is what people see"
            tokens = [re.search(r"request_token=(\w+)", one)[1] for one in (address, again)]  # type: ignore[index]
            kept = saved + it.page.content()
            assert not [token for token in tokens if token in kept]
            assert it.outside == []
