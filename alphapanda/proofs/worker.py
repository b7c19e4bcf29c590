"""A process that plays a case: ``python -m alphapanda.proofs.worker FOLDER noise|purity [BLOCK SIZE [ROWS]]``.

The folder holds ``case.msgpack`` and ``tape.parquet``; what it found goes to standard output as msgpack.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from alphapanda.capsules.values import Comparison
from alphapanda.proofs.case import FILE, Case
from alphapanda.proofs.purity import GLOBAL, Touch, Watch, changer
from alphapanda.proofs.research import prefix, research
from alphapanda.proofs.trace import Trace
from alphapanda.strategy import Strategy
from alphapanda.tapes.tape import Tape


class Watched(msgspec.Struct, frozen=True):
    """What the research lane did under watch, and what the strategy touched."""

    trace: Trace
    touches: tuple[Touch, ...]


def watched(case: Case, tape: Tape) -> Watched:
    """Play the tape once, watching the strategy's own lines; then compare its module with a fresh one."""
    strategy = case.strategy(FILE)
    module = vars(sys.modules[type(strategy).__module__])
    with Watch(files_of(strategy)) as watch:
        trace = research(case, tape, strategy=strategy, lane="purity")
    kind = type(case.strategy(FILE))
    fresh = vars(sys.modules[kind.__module__])
    compare = Comparison((kind.__module__,), kind.__module__)
    for name in sorted(set(module) & set(fresh)):
        if not name.startswith("__") and (where := compare.difference(module[name], fresh[name])) is not None:
            line, function = changer(case.capsule.source, name, where)
            watch.note(GLOBAL, f"{name}{where}", line, function)
    return Watched(trace, watch.touches)


def files_of(strategy: Strategy) -> frozenset[str]:
    """The frozen module, and those of an installed package that its classes come from."""
    modules = (
        sys.modules[kind.__module__] for kind in type(strategy).__mro__ if kind not in (Strategy, object)
    )
    return frozenset({FILE, *(module.__file__ or FILE for module in modules)})


def main() -> int:
    """See the module."""
    folder, what = Path(sys.argv[1]), sys.argv[2]
    case, tape = Case.read(folder / "case.msgpack"), Tape.open(folder / "tape.parquet")
    numbers = [int(word) for word in sys.argv[3:]]
    found: Watched | Trace
    if what == "purity":
        found = watched(case, tape)
    elif len(numbers) == 1:
        found = research(case, tape, size=numbers[0], lane=what)
    else:
        found = prefix(case, tape, numbers[1], numbers[0])
    sys.stdout.buffer.write(msgspec.msgpack.encode(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
