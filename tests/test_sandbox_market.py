"""What moves the sandbox's market: the seeded model, a tape, a test; its clock, and the command that starts it all."""

from __future__ import annotations

import argparse
import datetime as dt
import stat
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from alphapanda.commands.cli import main
from alphapanda.errors import ConfigurationError, UnknownNameError, ValidationError
from alphapanda.events import MINUTE, SECOND
from alphapanda.sandbox import command
from alphapanda.sandbox.access import Account
from alphapanda.sandbox.broker import Broker
from alphapanda.sandbox.faults import KINDS
from alphapanda.sandbox.market import Market
from alphapanda.sandbox.sources import Recorded, Synthetic
from alphapanda.sandbox.time import Time
from alphapanda.settings import Settings
from alphapanda.tapes.tape import Tape
from tests.sandbox_rig import FREE, INFY, TEN, UNIVERSE, Client, at, market

FRIDAY = dt.date(2026, 11, 20)


def options(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(list(given))


def test_a_source_does_not_depend_on_how_time_is_cut() -> None:
    def run(step: int) -> list[Any]:
        client = Client(Broker(Market.of(Synthetic(7, FRIDAY)), now=at(9, 16), limits=FREE, seed=1))
        quote = client.broker.market.get(INFY)
        placed = client.place(price=round(quote.instrument.rupees(quote.last) - 2, 1), quantity=50)
        for _ in range(20 * 60 // step):
            client.wait(step)
        return [client.order(placed), client("GET", "/quote", {"i": INFY}).data, list(client.broker.updates)]

    slow, fast = run(60), run(5)
    assert slow == fast
    assert slow[1][INFY]["volume"] > 0


def test_candles_reach_back_before_the_first_day() -> None:
    client = Client(Broker(Market.of(Synthetic(7, FRIDAY)), now=at(9, 20), limits=FREE))
    token = UNIVERSE[INFY].token
    span = {"from": "2026-11-01 00:00:00", "to": "2026-11-20 15:30:00"}
    days = client("GET", f"/instruments/historical/{token}/day", span).data["candles"]
    assert [row[0][:10] for row in days] == [
        "2026-11-13",
        "2026-11-16",
        "2026-11-17",
        "2026-11-18",
        "2026-11-19",
        "2026-11-20",
    ]
    rows = client("GET", f"/instruments/historical/{token}/minute", span).data["candles"]
    thursday = [row for row in rows if row[0].startswith("2026-11-19")]
    assert thursday[0][0].startswith("2026-11-19T09:")
    assert all(
        low <= min(opened, close) <= max(opened, close) <= high for _, opened, high, low, close, _ in rows
    )
    assert sum(row[5] for row in thursday) == days[-2][5]


def test_a_tape_is_played_with_its_own_instruments() -> None:
    instrument = UNIVERSE[INFY]
    ts = np.array([TEN, TEN + SECOND, TEN + 2 * SECOND], dtype=np.int64)
    tape = Tape([instrument], ts=ts, price=np.array([155000, 155050, 154000]), volume=np.array([5, 6, 7]))
    client = Client(Broker(Market.of(Recorded(tape)), now=TEN, limits=FREE))
    quote = client.broker.market.get(INFY)
    assert (quote.last, quote.close) == (155000, 155000)
    placed = client.place(price=1545.0, quantity=7)
    client.wait(1)
    assert (quote.last, quote.volume, quote.asks[0]) == (155050, 11, (155060, 6, 1))
    client.wait(1.5)
    assert client.order(placed)["status"] == "COMPLETE"


def test_changes_are_numbered_so_that_a_ticker_sees_each_instrument_once() -> None:
    made = market()
    before = made.version
    made.set(INFY, 1550.0, now=TEN)
    made.set("NSE:TCS", 3100.0, now=TEN)
    made.set(INFY, 1551.0, now=TEN)
    assert made.changed_since(before) == [UNIVERSE[INFY].token, UNIVERSE["NSE:TCS"].token]
    assert made.changed_since(made.version) == []
    with pytest.raises(UnknownNameError):
        made.set("NSE:INFI", 1.0, now=TEN)
    with pytest.raises(ValidationError, match="token"):
        made.add(UNIVERSE[INFY], 1)


def test_a_quote_keeps_the_day() -> None:
    made = market()
    for second, price, quantity in ((0, 1550.0, 10), (30, 1545.0, 20), (90, 1560.0, 30)):
        made.set(INFY, price, now=TEN + second * SECOND, quantity=quantity)
    quote = made.get(INFY)
    assert (quote.high, quote.low, quote.last, quote.last_quantity) == (156000, 154500, 156000, 30)
    assert quote.average == round(quote.traded / quote.volume)
    assert quote.minutes[(TEN + 90 * SECOND) // MINUTE] == (156000, 156000, 156000, 156000, 30)
    assert quote.lower < quote.close < quote.upper


def test_time_runs_stands_and_never_goes_back() -> None:
    clock = [0]
    time = Time(1000, 2.0, wall=lambda: clock[0])
    clock[0] = 50
    assert time.now() == 1100
    time.run(0)
    clock[0] = 500
    assert time.now() == 1100
    time.set(900)
    assert time.now() == 1100
    time.set(2000)
    time.run(1)
    clock[0] = 600
    assert time.now() == 2100


def test_the_command_makes_what_was_asked_for(tmp_path: Path) -> None:
    made = command.make_broker(
        options("--capital", "5000", "--fault", "place-timeout:always", "--fault", "order-stuck:2:9")
    )
    assert made.money.cash == 5000
    assert [(one.name, one.times, one.seconds) for one in made.faults.active] == [
        ("place-timeout", None, 0), ("order-stuck", 2, 9),
    ]  # fmt: skip
    for wrong in (
        ["--fault", "nosuch"],
        ["--fault", "order-stuck:x"],
        ["--start", "soon"],
        ["--start", "2026-11-21"],
    ):
        with pytest.raises(ValidationError):
            command.make_broker(options(*wrong))


def test_the_command_lists_the_faults_and_fails_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(options("--faults")) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(KINDS)
    assert main(["sandbox", "--start", "2026-11-21"]) != 0
    assert "start on an ordinary trading day" in capsys.readouterr().err
    assert main(["sandbox", "--port", "99999"]) == 2
    assert "0 to 65535" in capsys.readouterr().err


def test_the_settings_to_trade_there_are_written_once_for_their_owner_alone(tmp_path: Path) -> None:
    file, text = tmp_path / ".env", command.settings_of(Account(), "http://127.0.0.1:7788")
    command.write_settings(file, text)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    found = Settings.load(file)
    assert (found.zerodha.root_url, found.zerodha.ticker_url) == (
        "http://127.0.0.1:7788",
        "ws://127.0.0.1:7788",
    )
    assert found.zerodha.user_id == Account().user_id
    assert command.write_settings(file, text)  # the same again is no harm
    file.write_text("ZERODHA__API_KEY=of-real-money\n")
    with pytest.raises(ConfigurationError, match="something else"):
        command.write_settings(file, text)
    assert file.read_text() == "ZERODHA__API_KEY=of-real-money\n"


def test_the_command_serves_until_it_is_told_to_stop() -> None:
    script = """
        import argparse, sys
        from alphapanda.sandbox import command
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        sys.exit(command.run(parser.parse_args(["--port", "0"])))
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            url = child.stdout.readline().split()[2].rstrip(",")
            assert requests.get(f"{url}/sandbox/clock", timeout=5).json()["speed"] == 1
        finally:
            child.terminate()
        assert child.wait(10) == 0
