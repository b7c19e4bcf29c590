"""``ap.prove``: one strategy over one tape in every lane, and every check; what comes of it is a ``Proof``.

proof = ap.prove(OpeningRange(minutes=10), "2026-11-20")
proof                                  # a table: lanes, checks, or the first difference
proof.save("opening-range.certificate.json")
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from alphapanda import certificate as certificates
from alphapanda.capsule import freeze, parameters_of
from alphapanda.certificate import Certificate, Outcome, TapeFacts
from alphapanda.clock import monotonic, wall_ns
from alphapanda.errors import ValidationError
from alphapanda.proofs import checks
from alphapanda.proofs.case import Case
from alphapanda.proofs.checks import Found
from alphapanda.proofs.crashes import crash_resume
from alphapanda.proofs.platform import PAPER, SHADOW, Platform
from alphapanda.proofs.purity import INSTEAD, Touch
from alphapanda.proofs.research import parked, research
from alphapanda.proofs.trace import Difference, Trace, first_difference, state_of, told
from alphapanda.proofs.worker import Watched
from alphapanda.rulebook import Rulebook
from alphapanda.settings import Settings
from alphapanda.signing import Signer
from alphapanda.strategy import Strategy
from alphapanda.tapes.tape import Tape

if TYPE_CHECKING:
    from alphapanda.engine import Engine

PACKAGES = (
    "alphapanda",
    "msgspec",
    "numpy",
)  # beside those that the module imports: they have a say in decisions
PATIENCE = 120.0  # seconds for a lane to play the tape
Say = Callable[[str], None]


def prove(
    strategy: Strategy | type[Strategy],
    data: Any,
    *,
    capital: float | None = None,
    start: str | None = None,
    seed: int = 0,
    draw: int = 0,
    patience: float = PATIENCE,
    progress: bool = True,
    **options: Any,
) -> Proof:
    """Prove that a strategy decides the same from these ticks in research, on paper and in shadow, and why it can be
    trusted to: it sees no later tick, survives crashes, and reads nothing but the tape.

    ``data`` and ``options`` are as for ``backtest``; ``capital`` is rupees (else the settings'), ``start`` the first
    day to trade. Limits and fills are the settings', as a gateway has them. Takes some ten to thirty seconds: real
    processes are started and killed, in a folder of their own; ``draw`` is the seed of where. ``patience`` is how many
    seconds a lane may take. Raises ValidationError for a class that cannot be frozen; a proof that fails is returned.
    """
    from alphapanda.notebook.shown import Line
    from alphapanda.tapes.readers import tape as read

    made = strategy() if isinstance(strategy, type) else strategy
    tape = read(data, **options)
    line = Line(quiet=not progress)
    case = case_of(made, tape, capital=capital, start=start, seed=seed)
    with tempfile.TemporaryDirectory(prefix="alphapanda-proof-") as folder:
        proof = _proved(case, tape, Path(folder), draw, patience, line.tell)
    line.tell(proof.headline, last=True)
    return proof


def case_of(
    strategy: Strategy, tape: Tape, *, capital: float | None = None, start: str | None = None, seed: int = 0
) -> Case:
    """The strategy frozen, with the settings' limits and fills."""
    from alphapanda.gateway import limits_of
    from alphapanda.replay import warm_until
    from alphapanda.traders.paper import fills_of

    settings = Settings.load()
    rupees = settings.paper_trading.starting_cash if capital is None else capital
    return Case(
        capsule=freeze(strategy), name=strategy.name, parameters=parameters_of(strategy),
        symbols=list(strategy.symbols or tape.symbols), capital=round(rupees * 100), seed=seed,
        limits=limits_of(settings), fills=fills_of(settings),
        trade_from=warm_until([strategy], tape, start, Rulebook.load(), []),
    )  # fmt: skip


def _proved(case: Case, tape: Tape, folder: Path, draw: int, patience: float, say: Say) -> Proof:
    """All lanes and checks, what can run side by side side by side."""
    begun = monotonic()
    case.keep(folder)
    path = tape.save(folder / "tape.parquet")
    say("research")
    whole = research(case, tape)
    rng = random.Random(f"{draw}:{case.capsule.digest}")
    with ThreadPoolExecutor(3, thread_name_prefix="proof") as pool:
        waiting: dict[str, Future[Any]] = {
            "paper and shadow": pool.submit(_lanes, case, tape, path, whole, patience),
            "noise": pool.submit(checks.noise, case, tape, folder, whole),
            "purity": pool.submit(_pure, case, folder),
            "crash and resume": pool.submit(crash_resume, case, tape, folder, rng, patience),
        }
        found = [checks.runs_through(whole)]
        say("look-ahead")
        found.append(checks.look_ahead(case, tape, whole, rng))
        say("warm-up")
        found.append(checks.warm_up(case, tape))
        results: dict[str, Any] = {}
        for name, future in waiting.items():
            say(name)
            results[name] = future.result()
    lanes, alike = results["paper and shadow"]
    found += [alike, results["noise"], *results["purity"], results["crash and resume"]]
    return Proof(case, tape, (whole, *lanes), tuple(found), round(monotonic() - begun, 1))


def _lanes(case: Case, tape: Tape, path: Path, whole: Trace, patience: float) -> tuple[list[Trace], Found]:
    """Paper and shadow, on the same stream; and whether they made research's decisions."""
    begun = monotonic()
    with Platform(path, 2) as platform:
        runs = [(namespace, platform.start(case, namespace)) for namespace in (PAPER, SHADOW)]
        lanes = [platform.finish(run, namespace, tape.rows, patience) for namespace, run in runs]
        for lane, (_, run) in zip(lanes, runs, strict=True):
            if (found := first_difference(whole, lane)) is not None:
                here = state_of(parked(case, tape, found.seq).strategies[0])
                found = told(found, here, platform.state_at(run, found.seq))
                detail = f"{lane.lane} differs at row {found.seq:,}"
                return lanes, checks.judged("same decisions", False, detail, begun, found)
            if lane.halted and not whole.halted:
                detail = f"{lane.lane} was halted: {lane.halted}"
                return lanes, checks.judged("same decisions", False, detail, begun)
    detail = f"digest {whole.digest} in all three lanes"
    return lanes, checks.judged("same decisions", True, detail, begun)


def _pure(case: Case, folder: Path) -> list[Found]:
    begun = monotonic()
    raw = checks.finished(checks.start_worker(folder, "purity"))
    return impurities(case, msgspec.msgpack.decode(raw, type=Watched).touches, begun)


def impurities(case: Case, touches: Iterable[Touch], begun: float) -> list[Found]:
    """One outcome for each thing that the strategy touches, else one that says it touches nothing."""
    found: list[Found] = []
    for touch in touches:
        where = case.capsule.origin(touch.line) if touch.line else "a line that was not found"
        function = f"{touch.function}() " if touch.function else ""
        detail = f"{function}touches {touch.what} at {where}; {INSTEAD[touch.kind]}"
        found.append(checks.judged(f"purity: {touch.kind}", False, detail, begun))
    nothing = "no clock, random number, file, network or global is touched"
    return found or [checks.judged("purity", True, nothing, begun)]


# ── what comes of it ─────────────────────────────────────────────────────────────────────────────────────────────


class Proof:
    """A proof that was made, whether or not it holds: ``passed`` tells.

    ``lanes`` are the traces of research, paper and shadow, ``checks`` the outcomes, ``difference`` the first place
    where two lanes part (None if none do).
    """

    def __init__(
        self, case: Case, tape: Tape, lanes: tuple[Trace, ...], found: tuple[Found, ...], seconds: float
    ) -> None:
        self.case, self.tape, self.lanes, self.seconds = case, tape, lanes, seconds
        self._found = found

    @property
    def checks(self) -> tuple[Outcome, ...]:
        """Every check's outcome."""
        return tuple(one.outcome for one in self._found)

    @property
    def passed(self) -> bool:
        """Every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def digest(self) -> str:
        """The decision digest of the research lane."""
        return self.lanes[0].digest

    @property
    def difference(self) -> Difference | None:
        """The first difference that a check met, with what the strategy held in both lanes there."""
        return next((one.difference for one in self._found if one.difference is not None), None)

    def park(self, row: int | None = None) -> Engine:
        """An engine that stands right after a row of the tape (the first difference's, by default): look at
        ``.strategies[0]``, its state, books (``.desk.books[0]``) and orders (``.desk.orders``)."""
        if row is None:
            if self.difference is None:
                raise ValidationError("no lane differs", fix="say at which row: proof.park(1000)")
            row = self.difference.seq
        return parked(self.case, self.tape, row)

    @cached_property
    def certificate(self) -> Certificate:
        """What was proved, signed with this person's key; also of a proof that failed, which nobody can promote."""
        case, tape = self.case, self.tape
        made = Certificate(
            strategy=case.name, class_name=case.capsule.class_name, digest=case.capsule.digest,
            source=case.capsule.source, parameters=case.parameters, symbols=tuple(case.symbols), capital=case.capital,
            seed=case.seed, trade_from=case.trade_from,
            tape=TapeFacts(
                digest=tape.digest, days=tuple(str(day) for day in tape.days), rows=tape.rows, first_ts=tape.first_ts,
                last_ts=tape.last_ts,
            ),
            rulebook=Rulebook.load().version, limits=msgspec.to_builtins(case.limits),
            fills=msgspec.to_builtins(case.fills), versions=versions_of(case.capsule.source),
            lanes={lane.lane: lane.digest for lane in self.lanes}, decisions=len(self.lanes[0].lines),
            checks=self.checks, proved_at=wall_ns(),
        )  # fmt: skip
        return certificates.sign(made, Signer.load())

    def save(self, path: str | Path) -> Path:
        """Write the certificate; `alphapanda verify FILE` reads it, here and elsewhere."""
        return certificates.write(self.certificate, path)

    @property
    def headline(self) -> str:
        """The proof in one line."""
        failed = [check.name for check in self.checks if not check.passed]
        verdict = "proved" if not failed else f"NOT proved: {', '.join(failed)}"
        facts = f"{len(self.lanes[0].lines)} decisions on {self.tape.rows:,} ticks · {self.seconds:.0f} s"
        return f"{self.case.name} {verdict} · {facts}"

    def __repr__(self) -> str:
        from alphapanda.proofs.shown import plain

        return plain(self)

    def _repr_html_(self) -> str:
        from alphapanda.proofs.shown import page

        return page(self)


def versions_of(source: str) -> dict[str, str]:
    """Python's version and those of the packages that have a say in decisions: ours, and what the module imports."""
    import ast
    from importlib.metadata import packages_distributions

    nodes = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Import | ast.ImportFrom)]
    named = {
        name.partition(".")[0]
        for node in nodes
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    }
    outside = packages_distributions()
    packages = {*PACKAGES, *(outside[name][0] for name in named if outside.get(name))}
    return {"python": ".".join(map(str, sys.version_info[:3])), **{p: version(p) for p in sorted(packages)}}
