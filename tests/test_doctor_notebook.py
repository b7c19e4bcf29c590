"""Doctor says when others can reach what can trade: Jupyter left open, code that starts with every Python."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from alphapanda.checks import Check
from alphapanda.commands.doctor_notebook import exposed, jupyter, served, startup


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings or servers but a test's own."""
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))


def found() -> Check:
    return next(one for one in jupyter() if one.what == "jupyter")


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("IdentityProvider", "token", ""),
        ("ServerApp", "token", ""),
        ("ServerApp", "allow_origin", "*"),
        ("ServerApp", "disable_check_xsrf", True),
        ("ServerApp", "allow_root", True),
        ("ServerApp", "ip", "0.0.0.0"),  # noqa: S104
        ("ServerApp", "ip", "*"),
    ],
)
@pytest.mark.parametrize("form", ["json", "py"])
def test_a_setting_that_opens_jupyter_is_a_failure(
    tmp_path: Path, form: str, section: str, name: str, value: object
) -> None:
    assert found().state == "ok"
    file = tmp_path / "JUPYTER_CONFIG_DIR" / f"jupyter_server_config.{form}"
    file.write_text(
        json.dumps({section: {name: value}}) if form == "json" else f"c.{section}.{name} = {value!r}\n"
    )
    row = found()
    assert row.state == "failed"
    assert f"{section}.{name}" in row.shown
    assert row.fix


def test_settings_that_are_safe_or_no_settings_are_none(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("c.ServerApp.ip = '127.0.0.1'\nc.ServerApp.token = 'abc'\nraise SystemExit\n")
    assert exposed(file) == []
    file.write_text("c.ServerApp.token = (")
    assert exposed(file) == []
    assert exposed(tmp_path / "none.json") == []


def test_a_running_server_without_a_token_is_named_and_a_dead_one_is_not(tmp_path: Path) -> None:
    facts = {"pid": os.getpid(), "port": 8888, "hostname": "localhost", "token": "", "password": False}
    file = tmp_path / "JUPYTER_RUNTIME_DIR" / "jpserver-1.json"
    file.write_text(json.dumps(facts))
    assert "8888 asks for no token" in found().shown
    file.write_text(json.dumps(facts | {"token": "t", "hostname": "10.0.0.1"}))
    assert "not this machine alone" in served(file)[0]
    file.write_text(json.dumps(facts | {"pid": 2**22 + 1}))
    assert found().state == "ok"


def test_a_start_up_file_of_no_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = startup()
    assert row.state == "ok", row.shown
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "paths.pth").write_text("/somewhere\n")
    monkeypatch.syspath_prepend(str(folder))
    assert next(iter(startup())).state == "ok"
    (folder / "evil.pth").write_text("import os; os.system('true')\n")
    (row,) = startup()
    assert (row.state, "evil.pth" in row.shown) == ("failed", True)
