"""``sweep``: one strategy class over a grid of parameters, on all cores; a table with one row a point.

Each point is a plain ``backtest`` in a worker process, so its row equals what ``backtest`` gives for it. Workers get
the class by value where they cannot import it (notebook cells), and the ticks by path: a tape in memory is saved once
to a temporary sealed file. A point that fails says so in its ``error``; the others finish.
"""

from __future__ import annotations

import enum
import importlib
import importlib.util
import inspect
import itertools
import pickle
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec
import numpy as np

from alphapanda.errors import AlphaPandaException, UnknownNameError, ValidationError
from alphapanda.replay import backtest
from alphapanda.report.stats import STATISTICS
from alphapanda.rulebook import Rulebook
from alphapanda.strategy import SETTINGS, Parameter, Strategy
from alphapanda.tapes import readers

if TYPE_CHECKING:
    import polars as pl

    from alphapanda.report.report import Report
    from alphapanda.tapes.tape import Tape

RUN = ("capital", "limits", "fills", "rulebook", "start", "seed")
OWN = ("workers", "progress", "metric", "options")
FIGURES = (
    *("net_pnl", "return_percent", "sharpe", "max_drawdown_percent"),
    *("trades", "hit_rate_percent", "charges", "denials"),
)
WAKES = 0.2  # seconds: a wait without end would keep an interrupt waiting on some systems
TEXTS = ("digest", "error")
DIED = "its worker process died: out of memory, or ended by something the class calls"
HELD = 2_000_000  # ticks: a tape up to this long is decoded once a worker, a longer one is streamed at each point

Metric = str | Callable[["Report"], float]
Point = dict[str, Any]
Row = dict[str, Any]


T = TypeVar("T")
Found = Generator[tuple[int, Row], None, T]


class Job(msgspec.Struct, frozen=True):
    """What all points of a sweep share."""

    strategy: type[Strategy]
    settings: dict[str, Any]
    tape: Any
    run: dict[str, Any]
    metrics: dict[str, Metric]


def sweep(
    strategy_class: type[Strategy],
    data: Any,
    *,
    workers: int | None = None,
    progress: bool = True,
    metric: Metric | Sequence[Metric] = (),
    options: Mapping[str, Any] | None = None,
    **grid: Any,
) -> pl.DataFrame:
    """Run every combination of ``grid`` and return one row each, in grid order (the last name varies fastest).

        ap.sweep(OpeningRange, tape, minutes=range(5, 60, 5), risk=[1_000, 2_000], capital=500_000)

    A name the class declares as a parameter is swept: a range, list or array holds its values, anything else is one
    value. Every other name is an option and is used as given: ``capital limits fills rulebook start seed`` of
    ``backtest``, the reader's (``symbol timezone ...``), or the strategy's settings (``symbols bar product warmup``).
    An option that shares its name with a parameter goes into ``options={...}``. An unknown name is an error before
    anything runs.

    Columns: the parameters named, net P&L in rupees after charges, return, Sharpe, drawdown, trades, hit rate, charges,
    denials, then ``metric`` (names of report statistics, or functions of the Report), the decision digest, and
    ``error``: null, or why this point has no figures. ``workers=None`` takes all cores; 1 runs in this process.
    """
    import polars as pl
    from tqdm.auto import tqdm

    _check(strategy_class, workers)
    parameters, settings, run, read = _sorted_names(strategy_class, grid, dict(options or {}))
    axes = {name: _values(name, strategy_class.parameters[name], given) for name, given in parameters.items()}
    points = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    metrics = _metrics(metric)
    run["rulebook"] = run.get("rulebook") or Rulebook.load()
    tape = readers.tape(data, **read)
    job = Job(strategy_class, settings, tape, run, metrics)
    rows: list[Row | None] = [None] * len(points)
    failed = 0
    with (
        closing(_rows(job, points, workers)) as finished,
        tqdm(
            total=len(points), desc=f"sweep {strategy_class.__name__}", unit=" runs", disable=not progress
        ) as bar,
    ):
        for index, row in finished:
            rows[index] = row
            failed += row["error"] is not None
            if failed:
                bar.set_postfix_str(f"{failed} failed", refresh=False)
            bar.update()
    done = [row for row in rows if row is not None]
    columns = [_column(pl, name, [p[name] for p in points], [*FIGURES, *metrics, *TEXTS]) for name in axes]
    for name in (*FIGURES, *metrics):
        kind = pl.Int64 if name in ("trades", "denials") else pl.Float64
        columns.append(pl.Series(name, [row.get(name) for row in done], kind, strict=False))
    columns += [pl.Series(name, [row.get(name) for row in done], pl.String) for name in TEXTS]
    return pl.DataFrame(columns)


# ── what was asked ───────────────────────────────────────────────────────────────────────────────────────────────


def _check(strategy_class: Any, workers: Any) -> None:
    if not isinstance(strategy_class, type) or not issubclass(strategy_class, Strategy):
        name = type(strategy_class).__name__ if isinstance(strategy_class, Strategy) else "MyStrategy"
        raise ValidationError(
            "sweep makes the instances itself and needs a Strategy class",
            fix=f"pass the class: sweep({name}, data, ...)",
            code="E_STRATEGY",
        )
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise ValidationError(f"workers={workers!r}", fix="pass a whole number from 1, or None for all cores")
    taken = [name for name in OWN if name in strategy_class.parameters]
    if taken:
        raise ValidationError(
            f"parameter {taken[0]} of {strategy_class.__name__} has the name of an argument of sweep",
            fix=f"rename the parameter; sweep's own are {', '.join(OWN)}",
            code="E_PARAM",
        )


def _sorted_names(
    strategy_class: type[Strategy], grid: dict[str, Any], options: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Parameters, settings of the strategy, options of the run, options of the reader."""
    readable = [
        name
        for reader in (readers.read_ticks, readers.read_bars)
        for name in inspect.signature(reader).parameters
        if name != "source"
    ]
    parameters = {name: grid.pop(name) for name in tuple(grid) if name in strategy_class.parameters}
    for name in options.keys() & grid.keys():
        raise ValidationError(f"{name} is given twice, by name and in options", fix="leave one out")
    given = {**grid, **options}
    for name in given:
        if name not in (*SETTINGS, *RUN, *readable):
            known = [*SETTINGS, *RUN, *dict.fromkeys(readable)]
            if name not in options:
                known += [*strategy_class.parameters, *OWN]
            what = f"parameter of {strategy_class.__name__} or option"
            raise UnknownNameError(what, name, known, code="E_PARAM")
    settings = {name: value for name, value in given.items() if name in SETTINGS}
    run = {name: value for name, value in given.items() if name in RUN}
    read = {name: value for name, value in given.items() if name not in settings and name not in run}
    return parameters, settings, run, read


def _values(name: str, parameter: Parameter, given: Any) -> list[Any]:
    """The values of one axis, numpy's numbers as Python's; a parameter that is a list itself may be given as one."""
    single = isinstance(given, (str, bytes, Mapping, enum.Enum)) or not isinstance(given, Iterable)
    values: list[Any] = [given] if single else list(cast("Iterable[Any]", given))
    whole = issubclass(parameter.kind, (list, tuple, set, frozenset))
    if whole and isinstance(given, parameter.kind) and not all(isinstance(v, parameter.kind) for v in values):
        values = [given]
    if isinstance(given, (set, frozenset)) and not whole:
        raise ValidationError(f"{name} is given as a set, which has no order", fix=f"pass {name}=[...]")
    if not values:
        raise ValidationError(f"{name} has no value to run", fix=f"give {name} at least one value")
    return [value.item() if isinstance(value, np.generic) else value for value in values]


def _metrics(metric: Metric | Sequence[Metric]) -> dict[str, Metric]:
    asked = [metric] if isinstance(metric, str) or callable(metric) else list(metric)
    named: dict[str, Metric] = {}
    known = [s.key for s in STATISTICS if s.form not in ("time", "duration")]
    for one in asked:
        if isinstance(one, str):
            if one not in known:
                raise UnknownNameError("statistic for metric=", one, known)
            if one not in FIGURES:
                named[one] = one
            continue
        name = getattr(one, "__name__", type(one).__name__)
        if name in (*FIGURES, *TEXTS, *named):
            raise ValidationError(
                f"metric {name!r} has the name of another column", fix="rename the function"
            )
        named[name] = one
    return named


def _column(pl: Any, name: str, values: list[Any], taken: Sequence[str]) -> pl.Series:
    """One parameter's values; text where the values have no common type."""
    name = f"parameter_{name}" if name in taken else name
    kinds: set[Any] = {type(value) for value in values}
    if kinds <= {bool} or kinds <= {int} or kinds <= {str}:
        return pl.Series(name, values)
    if kinds <= {int, float}:
        return pl.Series(name, values, pl.Float64, strict=False)
    return pl.Series(name, [v.name if isinstance(v, enum.Enum) else str(v) for v in values], pl.String)


# ── one point ────────────────────────────────────────────────────────────────────────────────────────────────────


def point(job: Job, values: Point) -> Row:
    """The figures of one point, or its error; never both, so a halted run cannot win a ranking."""
    try:
        report = backtest(job.strategy(**job.settings, **values), job.tape, **job.run)
        if report.halted:
            return {"error": _halted(report)}
        row: Row = {key: report.stats[key] for key in FIGURES}
        for name, metric in job.metrics.items():
            found = report.stats[metric] if isinstance(metric, str) else metric(report)
            row[name] = None if found is None else float(found)
    except Exception as error:  # noqa: BLE001 - whatever a class may raise belongs to its point; the others go on
        return {"error": _told(error)}
    return {**row, "digest": report.digest, "error": None}


def _halted(report: Report) -> str:
    found = report.result.errors
    if not found:
        return "; ".join(report.halted.values())
    first = found[0]
    where = f" ({Path(first.file).name}:{first.line})" if first.file else ""
    return f"{first.callback} raised {first.message}{where}"


def _told(error: BaseException) -> str:
    if isinstance(error, AlphaPandaException):
        return f"{error.message}; {error.fix}" if error.fix else error.message
    return f"{type(error).__name__}: {error}"


# ── many of them ─────────────────────────────────────────────────────────────────────────────────────────────────


def _rows(job: Job, points: list[Point], workers: int | None) -> Found[None]:
    """Each point's number and row, as they finish."""
    if workers is None:
        workers = _loky().cpu_count()
    workers = min(workers or 1, len(points))
    if workers == 1:
        for index, values in enumerate(points):
            yield index, point(job, values)
        return
    with tempfile.TemporaryDirectory(prefix="alphapanda-sweep-") as folder:
        yield from _spread(_packed(job, Path(folder)), points, workers)


def _packed(job: Job, folder: Path) -> bytes:
    """The job for the trip: ticks by path, the class by value unless a worker imports the very same file."""
    cloudpickle = _cloudpickle()
    tape: Tape = job.tape
    if tape._source.in_memory:  # pyright: ignore[reportPrivateUsage] - a tape on disk travels as its path already
        job = msgspec.structs.replace(job, tape=readers.tape(tape.save(folder / "tape.parquet")))
    module = sys.modules.get(job.strategy.__module__)
    strange = (
        module is not None and module.__name__ != "__main__" and not _importable(module.__name__, module)
    )
    if strange:
        cloudpickle.register_pickle_by_value(module)
    try:
        return cloudpickle.dumps((job.strategy, job.settings, job.tape, job.run, job.metrics))
    except (TypeError, ValueError, AttributeError, RecursionError, pickle.PicklingError) as error:
        raise ValidationError(
            f"{job.strategy.__name__} cannot be sent to worker processes: {error}",
            fix="keep open files, locks and connections out of the class and the globals it uses, or pass workers=1",
            code="E_STRATEGY",
        ) from error
    finally:
        if strange:
            cloudpickle.unregister_pickle_by_value(module)


def _loky() -> Any:  # neither carries types, and both load only when a sweep starts workers
    return importlib.import_module("loky")


def _cloudpickle() -> Any:  # what loky itself sends work with
    return importlib.import_module("cloudpickle")


def _importable(name: str, module: Any) -> bool:
    loaded = sys.modules.pop(name)
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return False
    finally:
        sys.modules[name] = loaded
    return found is not None and found.origin == getattr(module, "__file__", None)


def _spread(packed: bytes, points: list[Point], workers: int) -> Found[None]:
    """Points over worker processes, never more at a time than there are workers.

    When a worker dies, all it tells is that one of the points then running did it. Those run again, each alone in a
    process of its own, and the one that dies again has its error; the rest goes on with new workers.
    """
    waiting = list(range(len(points)))[::-1]
    while waiting:
        suspects = yield from _pool(packed, points, waiting, workers)
        for index in suspects:
            alone = [index]
            for _ in (yield from _pool(packed, points, alone, 1)):
                yield index, {"error": DIED}


def _pool(packed: bytes, points: list[Point], waiting: list[int], workers: int) -> Found[list[int]]:
    """Takes points off ``waiting`` and yields their rows; returns those that ran when a worker died."""
    loky = _loky()
    with _uninterrupted():
        pool: Any = loky.ProcessPoolExecutor(
            min(workers, len(waiting)), initializer=_start, initargs=(packed,)
        )
    running: dict[Future[Row], int] = {}
    finished = False
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                index = waiting.pop()
                try:
                    with _uninterrupted():
                        running[pool.submit(_work, points[index])] = index
                except loky.BrokenProcessPool:
                    return sorted([index, *running.values()])
            done, _ = wait(running, WAKES, FIRST_COMPLETED)
            for future in done:
                error = future.exception()
                if isinstance(error, loky.BrokenProcessPool):
                    return sorted(running.values())
                index = running.pop(future)
                yield index, future.result() if error is None else {"error": _told(error)}
        finished = True
    finally:  # also on an interrupt: at once, whatever the workers are doing
        with _uninterrupted():
            pool.shutdown(wait=True, kill_workers=not finished)
    return []


@contextmanager
def _uninterrupted() -> Generator[None, None, None]:
    """An interrupt waits until the block is done: a worker half started or half stopped would be left behind."""
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[FrameType | None] = []
    signal.signal(signal.SIGINT, lambda _, frame: came.append(frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        before(signal.SIGINT, came[0])


_packed_job = b""
_job: Job | None = None


def _start(packed: bytes) -> None:
    """In a worker: keep the job; an interrupt is the parent's to handle."""
    global _packed_job
    _packed_job = packed
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _work(values: Point) -> Row:
    """In a worker: one point; the first one unpacks the job."""
    global _job
    if _job is None:
        strategy, settings, tape, run, metrics = _cloudpickle().loads(_packed_job)
        _job = Job(strategy, settings, _held(tape), run, metrics)
    return point(_job, values)


def _held(tape: Tape) -> Tape:
    """The tape in memory unless it is long: read and proved once, not once a point."""
    from alphapanda.tapes.tape import Tape as Made

    if tape.rows > HELD:
        return tape
    blocks = list(tape.blocks(HELD))
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(block, name) for block in blocks]) for name in tape.columns
    }
    return Made(tape.instruments, **columns, notes=tape.notes)
