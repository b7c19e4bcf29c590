"""``alphapanda schedule`` and ``alphapanda alerts`` as they are typed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from alphapanda.alerts import Alerts, Finding
from alphapanda.clock import wall_ns
from alphapanda.commands.cli import main
from alphapanda.errors import ValidationError
from alphapanda.schedules.units import cron_line, systemd_unit
from alphapanda.workspace import Workspace
from tests.schedule_rig import notebook

Type = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Type:
    """Type a command in a workspace with one notebook; exit code, output, errors."""
    (tmp_path / "notebooks").mkdir()
    notebook(tmp_path / "notebooks" / "Opening Range.ipynb", "print(n)")
    monkeypatch.setenv("ALPHAPANDA_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)

    def type_it(line: str) -> tuple[int, str, str]:
        code = main(shlex.split(line))
        told = capsys.readouterr()
        return code, told.out, told.err

    return type_it


def test_from_nothing_to_nothing(typed: Type) -> None:
    assert typed("schedule list")[1].startswith("nothing is scheduled")
    assert typed("schedule history") == (0, "nothing ran yet\n", "")
    code, said, _ = typed(
        'schedule add "Opening Range.ipynb" --at 03:00 --any-day -p n=4 -p names=\'["a"]\' --timeout 5m'
    )
    assert code == 0
    assert said.startswith("opening-range: Opening Range.ipynb, at 03:00, any day; due ")
    assert "no hub runs here, so nothing is started yet: alphapanda up --detach" in said
    (one,) = json.loads(typed("schedule list --json")[1])
    assert (one["parameters"], one["timeout"]) == ({"n": 4, "names": ["a"]}, 300.0)
    assert json.loads(Path(".alphapanda/offered.json").read_text()) == ["watch"]
    assert "paused" in typed("schedule pause opening-range")[1]
    assert "paused" in typed("schedule list")[1]
    assert "is due" in typed("schedule resume opening-range")[1]
    assert "is removed" in typed("schedule remove opening-range")[1]
    assert typed("schedule list --json")[1] == "[]\n"
    told = [json.loads(line) for line in Path(".alphapanda/logs/audit.jsonl").read_text().splitlines()]
    assert [one["event"] for one in told] == [
        f"schedule.{verb}" for verb in ("add", "pause", "resume", "remove")
    ]
    assert {one["name"] for one in told} == {"opening-range"}
    assert all(one["by"] for one in told)


WRONG = [
    ("schedule add none.ipynb --at 09:10", "E_NOTEBOOK"),
    ("schedule add ../secret.ipynb --at 09:10", "E_NOTEBOOK"),
    ('schedule add "Opening Range.ipynb"', "E_USAGE"),
    ('schedule add "Opening Range.ipynb" --at 9', "E_TIME"),
    ('schedule add "Opening Range.ipynb" --at 09:10 --cron "* * * * *"', "E_USAGE"),
    ('schedule add "Opening Range.ipynb" --cron "0 9 * * 1-5"', "E_TIME"),
    ('schedule add "Opening Range.ipynb" --at 09:10 --timeout soon', "E_USAGE"),
    ('schedule add "Opening Range.ipynb" --at 09:10 --retries 99', "E_LIMIT"),
    ('schedule add "Opening Range.ipynb" --at 09:10 --timeout 2d', "E_LIMIT"),
    ('schedule add "Opening Range.ipynb" --at 09:10 -p n', "E_PARAM"),
    ('schedule add "Opening Range.ipynb" --at 09:10 -p n=x', "E_PARAM"),
    ('schedule add "Opening Range.ipynb" --at 09:10 -p n=1 -p n=2', "E_PARAM"),
    ('schedule add "Opening Range.ipynb" --at 09:10 -p lane=zerodha', "E_PARAM"),
    ('schedule add "Opening Range.ipynb" --at 09:10 -p limits={}', "E_PARAM"),
    ('schedule add "Opening Range.ipynb" --at 09:10 -p nn=1', "E_PARAM"),
    ("schedule run none", "E_UNKNOWN_NAME"),
    ("schedule pause none", "E_UNKNOWN_NAME"),
    ("alerts ack none --note x", "E_UNKNOWN_NAME"),
    ("alerts ack none", "E_USAGE"),
]


@pytest.mark.parametrize(("line", "code"), WRONG)
def test_what_is_wrong_is_said_with_a_fix(typed: Type, line: str, code: str) -> None:
    exit_code, said, told = typed(line)
    assert (exit_code, said) == (2, "")
    assert f"[{code}]" in told
    assert "\n  fix  " in told
    assert not Path(".alphapanda/offered.json").exists()


def test_alerts_tell_their_exit_code(typed: Type) -> None:
    code, said, _ = typed("alerts")
    assert (code, said.splitlines()[0]) == (0, "nothing needs anybody")
    assert "nobody keeps watch here" in said
    alerts = Alerts(Workspace.find())
    alerts.look([Finding(rule="r", subject="x\x1b[31m", level="error", title="<b>t</b>")], wall_ns(), 900.0)
    code, said, _ = typed("alerts list")
    assert (code, "\x1b[31m" in said, "<b>t</b>" in said) == (1, False, True)


def test_what_the_machine_may_start() -> None:
    workspace = Workspace(Path("/srv/my desk 100%"))
    unit, line = systemd_unit(workspace), cron_line(workspace)
    assert '-m alphapanda.hub "/srv/my desk 100%%"\n' in unit
    assert "WorkingDirectory=/srv/my desk 100%%\n" in unit
    assert r"cd '/srv/my desk 100\%' && " in line  # cron ends a command at a bare %
    assert line.count("alphapanda up --detach --quiet") == 2


@pytest.mark.parametrize("root", ["/srv/a\nExecStart=rm", '/srv/a"b', "/srv/$HOME", "/srv/a\\b"])
def test_a_folder_that_would_say_something_else_there_is_refused(root: str) -> None:
    with pytest.raises(ValidationError):
        systemd_unit(Workspace(Path(root)))
    with pytest.raises(ValidationError):
        cron_line(Workspace(Path(root)))
