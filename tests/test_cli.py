"""The commands: what they print, what they write, and how they end."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alphapanda.commands import cli, doctor
from alphapanda.commands.cli import demo_report, main
from alphapanda.money import rupees

MINE = """
import alphapanda as ap
import helper

class Cross(ap.Strategy):
    symbols = ["NSE:INFY"]
    size: int = ap.Param(10, low=1, high=1000)
    slow: float = ap.Param(0.0, low=0.0)
    both: bool = ap.Param(True)

    def on_bar(self, bar):
        self.order_target("NSE:INFY", helper.sign(bar.minute) * self.size)

class Broken(Cross):
    def on_bar(self, bar):
        raise RuntimeError("no good day")
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the user's own with a strategy file, a helper beside it and a file of ticks."""
    (tmp_path / "mine.py").write_text(MINE, "utf-8")
    (tmp_path / "helper.py").write_text("def sign(n):\n    return 1 if n % 2 else -1\n", "utf-8")
    lines = [f"2026-11-20 09:{15 + n // 12}:{n % 12 * 5:02d},{1500 + n % 7 * 0.05:.2f}" for n in range(500)]
    (tmp_path / "ticks.csv").write_text("timestamp,price\n" + "\n".join(lines[:400]) + "\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("mine", "helper"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def run(capsys: Any, *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


# ── demo ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_demo_prints_the_reports_figures_and_writes_a_page_that_needs_no_network(
    mine: Path, capsys: Any
) -> None:
    code, out, _ = run(capsys, "demo", "--recorded", "--no-open")
    report = demo_report()
    stats = report.stats
    assert code == 0
    for key in ("net_pnl", "final_equity", "charges", "max_drawdown", "turnover"):
        assert stats.text(key) in out, key
    for kind in ("brokerage", "stt", "gst"):
        found = [k for k in stats if k.startswith(f"charges_{kind}")]
        assert all(rupees(stats.paise(k)) in out for k in found), kind
    for row in report.result.fills[-10:]:
        assert rupees(sum(row.charges)) in out
    assert report.digest in out
    page = (mine / ".alphapanda" / "demo.html").read_text("utf-8")
    assert stats.text("net_pnl").lstrip("+") in page
    assert stats.text("charges") in page
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//|@import|url\(\s*["']?https?:""", page)
    assert str(Path(".alphapanda") / "demo.html") in out
    assert (mine / ".alphapanda" / ".gitignore").read_text("utf-8") == "*\n"


def test_demo_trades_both_ways_is_denied_now_and_then_and_repeats_itself() -> None:
    one, two = demo_report(), demo_report()
    assert one.digest == two.digest
    assert not one.halted
    assert one.stats["denials"] > 0
    assert {f.side for f in one.result.fills} == {"BUY", "SELL"}
    assert {o.leg for o in one.result.orders} >= {"", "sl", "tp"}
    assert {o.status for o in one.result.orders} >= {"filled", "denied", "expired", "cancelled"}
    assert one.stats["open_trades"] == 0
    assert all(line.charges > 0 and line.trades > 4 for line in one.by_strategy)


def test_demo_into_a_folder_that_cannot_be_made(mine: Path, capsys: Any) -> None:
    code, _, err = run(capsys, "demo", "--recorded", "--no-open", "--out", "mine.py/below")
    assert code == 2
    assert "cannot be written" in err
    assert "fix" in err


# ── backtest ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_backtest_of_a_file_prints_a_report_and_writes_a_page(mine: Path, capsys: Any) -> None:
    given = (
        "backtest",
        "mine.py:Cross",
        "--data",
        "2026-11-20",
        "--param",
        "size=5",
        "--html",
        "out/page.html",
    )
    code, out, err = run(capsys, *given, "--capital", "5,00,000")
    assert code == 0
    assert "Cross" in out
    assert "₹5,00,000.00" in out
    assert (mine / "out" / "page.html").exists()
    assert "page.html" in err


def test_an_index_is_not_traded_unless_it_stands_for_its_future(mine: Path, capsys: Any) -> None:
    strategy = "import alphapanda as ap\n\nclass Once(ap.Strategy):\n    def on_bar(self, bar):\n"
    (mine / "once.py").write_text(strategy + "        self.order_target(bar.symbol, 50)\n", "utf-8")
    given = ("backtest", "once.py:Once", "--data", "ticks.csv", "--symbol", "NSE:NIFTY 50", "--json")
    given += ("--timezone", "Asia/Kolkata")
    found = [json.loads(run(capsys, *given, *more)[1]) for more in ((), ("--tradable",))]
    assert [one["stats"]["fills"] > 0 for one in found] == [False, True]
    assert "cannot be traded" in " ".join(found[0]["denials"])


def test_backtest_as_json_is_json_and_nothing_else(mine: Path, capsys: Any) -> None:
    given = ("backtest", "mine.py:Cross", "--data", "ticks.csv", "--symbol", "NSE:INFY", "--json")
    code, out, _ = run(
        capsys, *given, "--timezone", "Asia/Kolkata", "--param", "both=no", "--param", "slow=2"
    )
    found = json.loads(out)
    assert code == 0
    assert found["parameters"] == {"size": 10, "slow": 2.0, "both": False}
    assert found["stats"]["capital"] == 1_000_000
    assert len(found["digest"]) == 32
    assert found["halted"] == {}


def test_a_halted_strategy_ends_with_1_and_its_line(mine: Path, capsys: Any) -> None:
    code, out, _ = run(capsys, "backtest", "mine.py:Broken", "--data", "2026-11-20")
    assert code == 1
    assert "no good day" in out
    assert "mine.py:" in out


BAD = [
    (("demoo",), "did you mean 'demo'", 2),
    ((), "required", 2),
    (("backtest", "mine.py:Cross"), "--data", 2),
    (("backtest", "mine.py:Crosss", "--data", "2026-11-20"), "did you mean 'Cross'", 2),
    (("backtest", "mine.py", "--data", "2026-11-20"), "say which", 2),
    (("backtest", "mein.py:Cross", "--data", "2026-11-20"), "no such file", 2),
    (("backtest", "no.such.module:Cross", "--data", "2026-11-20"), "cannot be imported", 2),
    (("backtest", "mine.py:Cross", "--data", "1999-01-01"), "1999-01-01", 2),
    (("backtest", "mine.py:Cross", "--data", "tikcs.csv"), "tikcs.csv", 2),
    (("backtest", "mine.py:Cross", "--data", "ticks.csv", "--symbol", "NSE:INFY"), "timezone", 2),
    (("backtest", "mine.py:Cross", "--data", "2026-11-20", "--param", "sizze=3"), "did you mean 'size'", 2),
    (("backtest", "mine.py:Cross", "--data", "2026-11-20", "--param", "size=0"), "lowest value 1", 2),
    (("backtest", "mine.py:Cross", "--data", "2026-11-20", "--param", "size=ten"), "'ten'", 2),
    (("backtest", "mine.py:Cross", "--data", "2026-11-20", "--param", "size"), "name=value", 2),
    (("backtest", "mine.py:Cross", "--data", "2026-11-20", "--capital", "-5"), "capital", 2),
    (("backtest", "mine.py:Cross", "--data", "2026-11-20", "--capital", "nan"), "capital", 2),
]


@pytest.mark.parametrize(("arguments", "said", "expected"), BAD)
def test_what_is_wrong_is_one_block_with_a_fix(
    mine: Path, capsys: Any, arguments: tuple[str, ...], said: str, expected: int
) -> None:
    code, out, err = run(capsys, *arguments)
    assert code == expected
    assert out == ""
    assert said in err
    assert err.startswith("error  ")
    assert "\n  fix  " in err
    assert "Traceback" not in err


def test_a_file_that_does_not_run_is_told_with_its_line(mine: Path, capsys: Any) -> None:
    for text, line in (("import alphapanda as ap\n1/0\n", 2), ("x = 1\ny = (\n", 2)):
        (mine / "broken.py").write_text(text, "utf-8")
        code, _, err = run(capsys, "backtest", "broken.py:X", "--data", "2026-11-20")
        assert code == 2
        assert f"broken.py:{line} cannot be imported" in err


def test_debug_shows_where(mine: Path, capsys: Any) -> None:
    code, _, err = run(capsys, "backtest", "mine.py:Crosss", "--data", "2026-11-20", "--debug")
    assert code == 2
    assert "Traceback" in err
    code, _, err = run(capsys, "--debug", "demoo")
    assert "Traceback" in err


def test_an_unexpected_error_is_a_block_too(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def breaks() -> None:
        raise RuntimeError("no \x1b[31mred")

    monkeypatch.setattr(cli, "demo_report", breaks)
    code, _, err = run(capsys, "demo", "--recorded", "--no-open")
    assert code == 1
    assert "RuntimeError: no red" in err
    assert "--debug" in err


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def stops() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "demo_report", stops)
    assert run(capsys, "demo", "--recorded", "--no-open")[0] == 130


# ── doctor ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_doctor_is_green_here(mine: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(mine))  # other tests may run a JupyterLab meanwhile
    code, out, _ = run(capsys, "doctor")
    assert code == 0, out
    for word in (
        "python",
        "bundled day",
        "verified",
        "rulebook",
        "settings",
        "time zone",
        "writable",
        "memory",
    ):
        assert word in out


def test_doctor_names_what_is_missing_and_the_fix(
    mine: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (mine / ".env").write_text("RISK__MAX_DAILY_LOS=5\n", "utf-8")
    monkeypatch.setattr(
        doctor, "requires", lambda _: ["msgspec", "no-such-thing>=1", "nor-this; extra == 'x'"]
    )
    code, out, _ = run(capsys, "doctor")
    assert code == 1
    assert "RISK__MAX_DAILY_LOSS" in out
    assert "lacking no-such-thing" in out
    assert "alphapanda[x]" in out


def test_doctor_says_where_the_rulebook_ends() -> None:
    import datetime as dt

    (row,) = [f for f in doctor.findings(dt.date(2049, 1, 4)) if f.what == "rulebook"]
    assert row.state == "warning"
    assert "2049" in row.shown
    assert row.fix


def test_a_check_that_breaks_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    import datetime as dt

    def breaks() -> Any:
        raise OSError("gone")

    monkeypatch.setattr(doctor, "_machine", breaks)
    (row,) = [f for f in doctor.findings(dt.date(2026, 11, 20)) if f.state == "failed"]
    assert row.shown == "OSError: gone"


# ── as a user starts it ──────────────────────────────────────────────────────────────────────────────────────────


def test_the_installed_command(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("alphapanda")

    def started(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([command, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert started("--version").stdout.startswith("alphapanda 0.")
    assert "backtest" in started("--help").stdout
    wrong = started("backtets")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "did you mean 'backtest'" in wrong.stderr
    demo = started("demo", "--recorded", "--out", "pages")
    assert demo.returncode == 0, demo.stderr
    assert demo.stderr == ""
    assert (tmp_path / "pages" / "demo.html").stat().st_size > 50_000


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    command = f"{Path(sys.executable).with_name('alphapanda')} demo --recorded --no-open | head -1"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=60)  # noqa: S602 - a pipe is the test
    assert done.stderr == ""
