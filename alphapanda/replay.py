"""``backtest``: a tape played through the engine in a plain loop, in the calling process."""

from __future__ import annotations

import copy
import datetime as dt
import gc
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from alphapanda.engine import Engine
from alphapanda.errors import ConfigurationError, ValidationError
from alphapanda.events import IST
from alphapanda.exchange import Fills
from alphapanda.money import PAISE
from alphapanda.risk import Limits
from alphapanda.rulebook import Rulebook
from alphapanda.strategy import Strategy
from alphapanda.times import parse_interval

if TYPE_CHECKING:
    from alphapanda.instruments import Instrument
    from alphapanda.report.report import Report
    from alphapanda.result import Result
    from alphapanda.tapes.tape import Tape

ROWS = 65_536  # of the tape at a time: flat memory whatever its length


def backtest(
    strategy: Strategy | Sequence[Strategy],
    data: Any,
    *,
    capital: float = 1_000_000.0,
    limits: Limits | None = None,
    fills: Fills | None = None,
    rulebook: Rulebook | None = None,
    start: str | dt.date | None = None,
    seed: int = 0,
    progress: bool = False,
    **options: Any,
) -> Report:
    """Run one strategy, or several together on one account, over recorded ticks; returns the Report.

    ``data`` is a Tape, a day ("2026-11-20"), a path, a list of paths, or a DataFrame of ticks or bars; ``options`` go
    to the reader (``symbol=``, ``timezone=``, ...). ``capital`` in rupees is split evenly between strategies.
    ``start`` is the first day to trade: earlier data only warms up indicators and history; without it a strategy's
    ``warmup`` is taken from the head of a tape that is longer than that. ``progress`` shows a bar.
    A strategy that raises is halted and the report says where; the others finish. What runs is a copy of what is
    passed, so an instance can be run again and again; ``report.strategies`` holds the copies as the run left them.
    """
    from alphapanda.hindsight.why import of_backtest
    from alphapanda.report.report import Report
    from alphapanda.tapes.readers import tape as read

    given = [strategy] if not isinstance(strategy, Sequence) else list(strategy)
    given = [copy.deepcopy(s) for s in given]
    strategies = [copy.deepcopy(s) for s in given]
    tape = read(data, **options)
    rulebook = rulebook or Rulebook.load()
    notes = list(tape.notes)
    trade_from = warm_until(strategies, tape, start, rulebook, notes)
    make = partial(
        Engine,
        instruments=tape.instruments,
        capital=_capital(capital),
        rulebook=rulebook,
        limits=limits,
        fills=fills,
        seed=seed,
        trade_from=trade_from,
    )
    engine = make(strategies)
    begun = time.perf_counter()
    play(engine, tape, progress)
    result = engine.finish()
    result.notes[:0] = [*notes, *_closed_days(tape, rulebook)]
    result.notes += _unconfirmed(result, tape.days, rulebook)
    settings: dict[str, Any] = {
        "capital": capital, "limits": limits or Limits(), "fills": fills or Fills(seed=seed), "seed": seed,
        "rulebook": rulebook.version,
    }  # fmt: skip
    report = Report(result, tape, seconds=time.perf_counter() - begun, settings=settings)
    report.strategies = tuple(strategies)
    report.explain = partial(
        of_backtest,
        result=result,
        make=lambda desk: make([copy.deepcopy(s) for s in given], desk=desk),
        blocks=partial(tape.blocks, ROWS),
        fills=settings["fills"],
    )
    return report


def _unconfirmed(result: Result, days: Iterable[dt.date], rulebook: Rulebook) -> list[str]:
    """The unconfirmed rules that had a say in this run's fills, each once."""
    products: dict[Instrument, set[str]] = {}
    for fill in result.fills:
        products.setdefault(fill.instrument, set()).add(fill.product)
    alike: dict[frozenset[str], list[Instrument]] = {}  # instruments by the products they were traded in
    for instrument, named in products.items():
        alike.setdefault(frozenset(named), []).append(instrument)
    return sorted(
        {
            note
            for day in days
            for named, group in alike.items()
            for note in rulebook.unconfirmed(day, group, named)
        }
    )


def play(engine: Engine, tape: Tape, progress: bool = False) -> None:
    """Step every block of the tape through the engine.

    The values of the core hold no reference cycles, so the collector only looks rarely while the tape runs.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(200_000, 20, 100)
    try:
        if not progress:
            for block in tape.blocks(ROWS):
                engine.step(block)
            return
        from tqdm.auto import tqdm

        with tqdm(total=tape.rows, unit=" ticks", unit_scale=True, leave=False) as bar:
            for block in tape.blocks(ROWS):
                engine.step(block)
                bar.update(len(block))
    finally:
        gc.set_threshold(*thresholds)


def _capital(rupees: float) -> int:
    if isinstance(rupees, bool) or not isinstance(rupees, int | float) or not 0 < rupees < 1e15:  # pyright: ignore[reportUnnecessaryIsInstance] - notebooks pass anything
        raise ConfigurationError(
            f"capital {rupees!r} is not an amount", fix="give rupees above 0", code="E_LIMIT"
        )
    return round(rupees * PAISE)


def warm_until(
    strategies: Sequence[Strategy],
    tape: Tape,
    start: str | dt.date | None,
    rulebook: Rulebook,
    notes: list[str],
) -> int:
    """The tape time from which callbacks run: ``start``, or the longest ``warmup`` after the tape's head, or 0. What a
    person should know goes to ``notes``."""
    days = tape.days
    if start is not None:
        day = _day(start)
        if day > days[-1]:
            raise ValidationError(
                f"start={day} is after the data, which ends on {days[-1]}",
                fix="start earlier, or read later days",
                code="E_TIME",
            )
        return int(dt.datetime(day.year, day.month, day.day, tzinfo=IST).timestamp()) * 10**9
    asked = [
        (s, parse_interval(s.warmup, f"warmup of {s.name}")) for s in strategies if getattr(s, "warmup", "")
    ]
    if not asked:
        return 0
    longest = max(span for _, span in asked)
    whole_days = longest // parse_interval("1d")
    if whole_days:
        if whole_days < len(days):
            day = days[whole_days]
            return int(dt.datetime(day.year, day.month, day.day, tzinfo=IST).timestamp()) * 10**9
    else:
        opens = [t.open_ns for i in tape.instruments if (t := rulebook.session(i, days[0])) is not None]
        if opens and min(opens) + longest < tape.last_ts:
            return min(opens) + longest
    names = ", ".join(s.name for s, _ in asked)
    notes.append(f"{names}: the data is not longer than the warm-up asked for, so indicators start cold")
    return 0


def _closed_days(tape: Tape, rulebook: Rulebook) -> list[str]:
    """A sentence for each day of the tape on which nothing in it could trade."""
    closed = [d for d in tape.days if not any(rulebook.session(i, d) for i in tape.instruments)]
    return [
        f"{day}: the market was closed ({rulebook.why_closed(tape.instruments[0], day)}); its ticks were not shown"
        for day in closed
    ]


def _day(start: Any) -> dt.date:
    if isinstance(start, dt.date) and not isinstance(start, dt.datetime):
        return start
    try:
        return dt.date.fromisoformat(str(start) if isinstance(start, str) else "")
    except (TypeError, ValueError):
        raise ValidationError(
            f"start={start!r} is not a day", fix='write "2026-11-20"', code="E_TIME"
        ) from None
