"""A certificate: read as it was written, refused when a byte of it was changed, and looked at again by one command."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

import alphapanda as ap
from alphapanda.certificate import (
    LANES,
    Certificate,
    Outcome,
    TapeFacts,
    decode,
    digest_of,
    encode,
    read,
    sign,
    write,
)
from alphapanda.errors import ValidationError
from alphapanda.proofs.proof import case_of
from alphapanda.proofs.research import research
from alphapanda.proofs.verify import verify
from alphapanda.signing import Signer
from alphapanda.tapes.tape import Tape
from tests import adversaries

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")


@pytest.fixture(scope="module")
def tape() -> Tape:
    day = ap.synthetic_day("2026-11-20", seed=5, ticks_per_second=5, symbols=[adversaries.SYMBOL])
    return day.between("2026-11-20T09:15:00+05:30", "2026-11-20T10:00:00+05:30")


def certificate(tape: Tape, **changes: Any) -> Certificate:
    """What a proof of ``Honest`` on the tape says; its lanes are the research lane's."""
    case = case_of(adversaries.Honest(), tape)
    digest = research(case, tape).digest
    made = Certificate(
        strategy=case.name, class_name=case.capsule.class_name, digest=case.capsule.digest,
        source=case.capsule.source, parameters=case.parameters, symbols=tuple(case.symbols), capital=case.capital,
        seed=0, limits=msgspec.to_builtins(case.limits), fills=msgspec.to_builtins(case.fills), versions={},
        tape=TapeFacts(digest=tape.digest, days=("2026-11-20",), rows=tape.rows, first_ts=0, last_ts=1),
        rulebook=ap.Rulebook.load().version, lanes=dict.fromkeys(LANES, digest), decisions=3,
        checks=(Outcome(name="runs", passed=True, detail="it does"),), proved_at=1,
    )  # fmt: skip
    return sign(msgspec.structs.replace(made, **changes), Signer.load())


def test_what_was_written_is_read(tape: Tape, tmp_path: Path) -> None:
    made = certificate(tape)
    assert read(write(made, tmp_path / "c.json")) == made
    assert made.passed
    assert made.identity == read(tmp_path / "c.json").identity


def test_any_byte_that_is_changed_is_refused(tape: Tape) -> None:
    raw = encode(certificate(tape))
    draw = random.Random(4)
    for at in [*range(0, len(raw), 97), *draw.sample(range(len(raw)), 200)]:
        changed = bytearray(raw)
        changed[at] ^= 1 << draw.randrange(7)
        with pytest.raises(ValidationError) as refused:
            decode(bytes(changed))
        assert refused.value.code == "E_CERTIFICATE"
        assert refused.value.fix


def test_a_field_that_is_changed_is_refused_even_where_the_digest_is_made_to_fit(tape: Tape) -> None:
    made = certificate(tape)
    source = made.source + "\n# one line more\n"
    for forged in (
        msgspec.structs.replace(made, source=source, digest=digest_of(source)),
        msgspec.structs.replace(made, parameters={"n": 2}),
        msgspec.structs.replace(made, decisions=4),
        msgspec.structs.replace(made, key="00" * 32),
        msgspec.structs.replace(made, signature="00" * 64),
        msgspec.structs.replace(made, signature=""),
        msgspec.structs.replace(made, key="", signature=""),
    ):
        with pytest.raises(ValidationError, match=r"signature|changed"):
            decode(encode(forged))


def test_a_proof_that_failed_or_lanes_that_differ_do_not_pass(tape: Tape) -> None:
    failed = Outcome(name="purity: clock", passed=False, detail="reads it")
    assert not certificate(tape, checks=(failed,)).passed
    assert not certificate(tape, checks=()).passed
    assert not certificate(tape, lanes={"research": "a", "paper": "a", "shadow": "b"}).passed
    assert not certificate(tape, lanes={"research": "a", "paper": "a"}).passed


def states(rows: list[Any]) -> dict[str, str]:
    return {row.what: row.state for row in rows}


def test_verify_looks_at_class_ticks_and_decisions(tape: Tape, tmp_path: Path) -> None:
    path, saved = write(certificate(tape), tmp_path / "c.json"), tape.save(tmp_path / "t.parquet")
    honest = "tests.adversaries:Honest"
    all_ok = {"signature": "ok", "proof": "ok", "class": "ok", "tape": "ok", "decisions": "ok"}
    assert states(verify(path, strategy=honest, tape=[saved])) == all_ok
    assert states(verify(path, strategy="tests.adversaries:Every"))["class"] == "failed"
    other = tape.between("2026-11-20T09:15:00+05:30", "2026-11-20T09:50:00+05:30").save(
        tmp_path / "o.parquet"
    )
    assert states(verify(path, tape=[other]))["tape"] == "failed"
    lanes = dict.fromkeys(LANES, "0" * 32)
    wrong = write(certificate(tape, lanes=lanes), tmp_path / "w.json")
    assert states(verify(wrong, tape=[saved]))["decisions"] == "failed"


def test_a_tape_with_a_changed_byte_is_refused(tape: Tape, tmp_path: Path) -> None:
    path, saved = write(certificate(tape), tmp_path / "c.json"), tape.save(tmp_path / "t.parquet")
    raw = bytearray(saved.read_bytes())
    raw[len(raw) // 3] ^= 1
    saved.write_bytes(raw)
    assert states(verify(path, tape=[saved]))["tape"] == "failed"


@pytest.mark.parametrize("change", ["", "certificate"])
def test_one_command_verifies_elsewhere(tape: Tape, tmp_path: Path, change: str) -> None:
    path = write(certificate(tape), tmp_path / "c.json")
    if change:
        path.write_text(path.read_text("utf-8").replace('"decisions":3', '"decisions":4'), "utf-8")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "alphapanda", "verify", str(path)],
        env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path / "another"), "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == (1 if change else 0), done.stdout + done.stderr
    assert ("changed" if change else "of key ") in done.stdout
