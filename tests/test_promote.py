"""From a class to fills at the broker: what a person types, what is refused on the way, and what follows a crash."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest

import alphapanda as ap
from alphapanda import certificate as certificates
from alphapanda.certificate import Certificate, Outcome
from alphapanda.commands.strategies import made_of
from alphapanda.errors import AlphaPandaException, AuthorizationError
from alphapanda.notebook.session import Session, connect_sync
from alphapanda.promotions.ledger import Ledger
from alphapanda.promotions.records import Record
from alphapanda.sandbox.serve import Running, Sandbox
from alphapanda.settings import Settings
from alphapanda.signing import Signer
from alphapanda.strategy import Strategy
from tests.promoting import proved
from tests.rig import Rig
from tests.sandbox_rig import FREE, broker
from tests.test_zerodha import platform

pytestmark = pytest.mark.timeout(150)
LIMITS = {"position_notional": 100_000.0, "daily_loss": 5_000.0}
MINE = '''\
import alphapanda as ap


class Turns(ap.Strategy):
    """In and out of a few shares, one order at a time."""

    symbols = ("NSE:INFY",)
    size: int = ap.Param(5)

    def on_tick(self, tick: ap.Tick) -> None:
        if not self.open_orders(tick.symbol):
            self.order_target(tick.symbol, 0 if self.position(tick.symbol).quantity else self.size)
'''


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Running]:
    with Sandbox.thread(broker(limits=FREE, hours=False)) as running:
        yield running


@pytest.fixture(scope="module")
def second() -> Signer:
    """Another person, whose key this workspace trusts."""
    from tests.promoted import new_signer

    return new_signer()


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, sandbox: Running, second: Signer) -> Iterator[Rig]:
    """One hub for all of it; each test has a strategy of its own name. This process sees the same settings."""
    given = {
        "ZERODHA__USER_ID": "SB0001",
        "RISK__MAX_POSITION_NOTIONAL": 200_000,
        "PROMOTION__TRUSTED_KEYS": second.public,
    }
    with platform(tmp_path_factory.mktemp("promote"), sandbox, **given) as rig:
        (rig.root / "mine.py").write_text(MINE)
        with mock.patch.dict(os.environ, rig.env, clear=True):
            yield rig


@pytest.fixture(scope="module")
def session(rig: Rig) -> Iterator[Session]:
    opened = connect_sync(workspace=rig.root, quiet=True)
    yield opened
    connect_sync("zerodha", workspace=rig.root, quiet=True).close()
    opened.close()


def turns(rig: Rig, name: str = "Turns", text: str = MINE, **parameters: Any) -> Strategy:
    """The strategy of the file, as it stands there; with another ``text``: an edited one."""
    path = rig.root / name / ("mine.py" if text == MINE else "edited/mine.py")
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(text)
    kind = type(made_of(f"{path}:Turns"))
    return kind(name=name, **parameters)


def certified(strategy: Strategy, **changes: Any) -> Certificate:
    """A certificate that says what its proof would; ``changes`` are signed with it."""
    signer = Signer.load()
    return certificates.sign(msgspec.structs.replace(proved(signer, strategy), **changes), signer)


def promoted(session: Session, strategy: Strategy, proof: Any = None, **terms: Any) -> Any:
    """A live run of a strategy."""
    given: dict[str, Any] = {"limits": LIMITS, "confirm": f"SB0001 {strategy.name}"}
    return session.sync.promote(strategy, proof or certified(strategy), **given | terms)


def fills(rig: Rig, run: str, namespace: str = "zerodha") -> int:
    return rig.document(f"{namespace}:run:{run}").get("counts", {}).get("fills", 0)


def shown(rig: Rig, run: str) -> tuple[str, str]:
    """State and reason, as its gateway shows them."""
    document = rig.document(f"zerodha:run:{run}")
    return document.get("state", ""), document.get("reason", "")


def history(rig: Rig, name: str) -> list[Record]:
    """What is on record of a strategy."""
    with Ledger.open(rig.workspace, Settings.load()) as ledger:
        return ledger.history(name)


def typed(rig: Rig, *words: object, code: int = 0) -> str:
    """What `alphapanda WORDS` says; the test fails unless it ends with this code."""
    done = rig.cli(*map(str, words))
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


# ── the whole way, typed ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.timeout(300)
def test_the_whole_way_typed_in_a_terminal(rig: Rig, sandbox: Running) -> None:
    day = ap.synthetic_day("2026-11-20", seed=5, ticks_per_second=1, symbols=["NSE:INFY"])
    tape = day.between("2026-11-20T09:15:00+05:30", "2026-11-20T09:30:00+05:30").save(
        rig.root / "short.parquet"
    )
    file = rig.root / "turns.certificate.json"
    assert "Turns proved" in typed(rig, "prove", "mine.py:Turns", "--tape", tape, "--out", file)
    assert "failed" not in typed(rig, "verify", file, "--strategy", "mine.py:Turns")

    paper = rig.run(turns(rig))
    words = ["promote", file, "--strategy", "mine.py:Turns", "--limit", "daily_loss=5000"]
    said = typed(rig, *words, "--confirm", "SB0001 Turns", "--why", "first")
    assert "nothing of Turns went live here before" in said
    live = next(one.run for one in history(rig, "Turns") if one.act == "live")
    assert f"{live} is live in zerodha by record " in said
    rig.until(lambda: fills(rig, live) >= 2 and fills(rig, paper, "paper") >= 2, 40.0, "both have traded")
    one, other = (rig.workspace.runs / run / "strategy.py" for run in (paper, live))
    assert one.read_bytes() == other.read_bytes()
    assert rig.spec(paper).digest == rig.spec(live).digest == certificates.read(file).digest

    assert f"{live} is paused" in typed(rig, "pause", live, "--why", "a look")
    beside = rig.cli("drift", paper, live)  # the two began at different ticks, so they may decide differently
    assert "decisions alike" in beside.stdout, beside.stdout + beside.stderr
    order = next(tag for tag in sandbox.do(lambda _: [one.tag for one in sandbox.broker.ledger.arrivals]))
    assert "NSE:INFY" in typed(rig, "why", order)
    assert "derived again" in typed(rig, "prove", live, "--live")
    assert "may open positions again" in typed(rig, "resume", live)
    acts = ["draft", "paper", "certify", "arm", "live", "pause", "resume"]
    rig.until(lambda: [one.act for one in history(rig, "Turns")] == acts, 20.0, "all of it is on record")
    assert "as written" in typed(rig, "audit", "--verify")
    for run in (paper, live):
        rig.hub.ask({"do": "stop", "run": run}, 20.0)


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────────


def test_what_differs_from_what_was_proved_is_refused(rig: Rig, session: Session, tmp_path: Path) -> None:
    mine = turns(rig, "Strict")
    good = certified(mine)
    edited = turns(rig, "Strict", MINE.replace("quantity else", "quantity  else"))
    failed = certified(mine, checks=(Outcome(name="purity", passed=False, detail="touches the clock"),))
    lanes = certified(mine, lanes=good.lanes | {"paper": "other"})
    file = certificates.write(good, tmp_path / "c.json")
    file.write_bytes(file.read_bytes().replace(b'"seed":0', b'"seed":1'))
    stranger = certificates.sign(good, Signer.load("stranger"))

    def refused(saying: str, *given: Any, **terms: Any) -> None:
        with pytest.raises(AlphaPandaException, match=saying) as caught:
            promoted(session, *given, **terms)
        assert caught.value.fix

    refused("is not the class that was proved: 2 lines differ", edited, good)
    refused("the parameters of Strict", turns(rig, "Strict", size=6), good)
    refused("the name of Other", turns(rig, "Other"), good)
    refused("the proof of Strict failed: purity", mine, failed)
    refused("the lanes differ", mine, lanes)
    refused("signature does not fit", mine, file)
    refused("does not trust", mine, stranger)
    refused("'SB0001 strict' is not 'SB0001 Strict'", mine, good, confirm="SB0001 strict")
    refused("looser than 200000", mine, good, limits={"position_notional": 300_000})
    refused("no limit 'loss'", mine, good, limits={"loss": 1})
    refused("without limits", mine, good, limits=ap.Limits())
    with mock.patch("builtins.input", side_effect=EOFError):
        refused("nobody is there to confirm", mine, good, confirm=None)
    assert [one for one in history(rig, "Strict") if one.state == "ARMED"] == []
    assert list(rig.workspace.runs.glob("strict-*")) == []


def test_a_broker_that_is_not_ready_is_no_place_to_go(rig: Rig, session: Session) -> None:
    mine = turns(rig, "Early")
    rig.workspace.raise_halt("zerodha", 2, "a drill", "nobody", 1)
    try:
        with pytest.raises(AuthorizationError, match="not ready: kill switch"):
            promoted(session, mine)
    finally:
        rig.cli("kill", "zerodha", "--lift", "over")
    assert not history(rig, "Early")


def test_an_approval_is_good_for_one_run(rig: Rig, session: Session) -> None:
    mine = turns(rig, "Once")
    run = promoted(session, mine)
    rig.until(lambda: fills(rig, run.id) >= 1, 40.0, "it trades")
    live = connect_sync("zerodha", workspace=rig.root, quiet=True)
    assert live.sync.run(mine) is run, "who asks without terms gets the run there is"
    assert promoted(session, mine) is run, "and so does who asks twice"
    assert history(rig, "Once")[-1].reason == f"{run.id} was live already"
    with pytest.raises(AuthorizationError, match="no other version of Once"):
        session.sync.rollback("Once", why="odd")
    tighter = promoted(session, mine, limits=LIMITS | {"position_notional": 50_000.0})
    assert tighter.id != run.id, "other terms are another run"
    run.sync.wait(until="stopped", seconds=20)
    rig.until(
        lambda: rig.spec(tighter.id).limits == LIMITS | {"position_notional": 50_000.0}, 5.0, "new limits"
    )
    tighter.sync.stop(flatten=True)
    with pytest.raises(AuthorizationError, match=r"approval .* of Once is retired") as caught:
        live.sync.run(mine)
    assert caught.value.code == "E_PROMOTION"
    assert "promote it" in caught.value.fix


# ── after a crash, one step back, two people ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("auto_resume", [False, True])
def test_after_a_crash_it_is_as_the_approval_says(auto_resume: bool, rig: Rig, session: Session) -> None:
    run = promoted(session, turns(rig, f"Crash{auto_resume}"), auto_resume=auto_resume)
    rig.until(lambda: fills(rig, run.id) >= 1, 40.0, "it trades")
    rig.signal(f"runner:{run.id}", signal.SIGKILL)
    if not auto_resume:
        rig.until(lambda: shown(rig, run.id)[0] == "paused", 40.0, "it comes back paused")
        assert "came back after a crash" in shown(rig, run.id)[1]
        assert "may open positions again" in typed(rig, "resume", run.id)
    before = fills(rig, run.id)
    rig.until(lambda: fills(rig, run.id) > before + 1, 40.0, "it goes on")
    run.sync.stop()
    acts = ["retire"] if auto_resume else ["pause", "resume", "retire"]
    rig.until(lambda: [one.act for one in history(rig, run.name)][5:] == acts, 20.0, "all of it is on record")


def test_one_step_back_to_the_version_before(rig: Rig, session: Session) -> None:
    first = promoted(session, turns(rig, "Back"))
    rig.until(lambda: fills(rig, first.id) >= 1, 40.0, "the first version trades")
    edited = turns(rig, "Back", MINE.replace("one order at a time", "one by one"))
    worse = promoted(session, edited, limits={"daily_loss": 1_000.0})
    assert worse.id != first.id
    again = session.sync.rollback("Back", why="odd fills")
    assert again.capsule.digest == first.capsule.digest != worse.capsule.digest
    assert rig.spec(again.id).limits == LIMITS, "under the limits it had"
    rig.until(lambda: fills(rig, again.id) >= 1, 40.0, "it trades")
    rig.until(lambda: not rig.spec(worse.id).wanted, 20.0, "in the place of the other")
    said = typed(rig, "rollback", "Back", "--why", "no, that one")
    assert worse.capsule.digest[:16] in said
    rig.hub.ask({"do": "stop", "run": "Back"}, 20.0)


def test_a_second_person_signs_before_anything_goes_live(rig: Rig, session: Session, second: Signer) -> None:
    theirs = rig.root / "theirs"
    own = {"XDG_CONFIG_HOME": str(theirs), "PROMOTION__TRUSTED_KEYS": Signer.load().public}
    mine, both = turns(rig, "Pair"), {"PROMOTION__SECOND_APPROVER": second.public}
    text = second._key.private_bytes_raw().hex()
    settings = session.settings
    with mock.patch.dict(os.environ, both):
        session.settings = Settings.load()
    try:
        with pytest.raises(AuthorizationError, match="waits for the second person") as caught:
            promoted(session, mine)
        number = history(rig, "Pair")[-1].number
        assert f"alphapanda approve {number}" in caught.value.fix
        with mock.patch.dict(os.environ, own):
            from alphapanda.places import places

            places()[0].write("signing", text.encode())
        with mock.patch.dict(rig.env, own | both):
            assert "account" in typed(rig, "approve", number, "--account", "SB0002", code=2)
            assert "may go live once" in typed(rig, "approve", number, "--account", "SB0001")
        run = promoted(session, mine)
    finally:
        session.settings = settings
    rig.until(lambda: fills(rig, run.id) >= 1, 40.0, "it trades")
    approved = next(one for one in history(rig, "Pair") if one.act == "approve")
    assert approved.approvers.split() == [Signer.load().public, second.public]
    run.sync.stop()
