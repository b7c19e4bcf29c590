"""What a strategy's own lines touch while the tape plays: clock, random numbers, files, network, globals.

    with Watch(files) as watch: play(...)
    watch.touches                              # one Touch for each kind and line

Two pairs of eyes: the interpreter's audit events (files, sockets, processes, also from C code) and a profiler that sees
every call (clocks and random numbers raise no audit event). Something is the strategy's doing when a line of its module
stands on the stack; what an import or a helper of the platform does on its way is not. A strategy may do all this in
its notebook, not in here: what it decides would depend on something that is not on the tape, so no proof would hold.
"""

from __future__ import annotations

import ast
import datetime as dt
import inspect
import os
import random
import secrets
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import msgspec

import alphapanda

CLOCK, RANDOM, FILE, NETWORK, PROCESS, ENVIRONMENT, GLOBAL, INPUT = (
    "clock", "random", "file", "network", "process", "environment", "global", "input",
)  # fmt: skip
INSTEAD = {
    CLOCK: "self.now is the tape's time; at() and every() wait for it",
    RANDOM: "self.random draws the same numbers every time",
    FILE: "what comes from a file belongs in a Param, or on the tape",
    NETWORK: "what comes over a network must arrive through a feed, where it is recorded",
    PROCESS: "decide in the callback",
    ENVIRONMENT: "make it a Param",
    GLOBAL: "keep it in self.state",
    INPUT: "make it a Param",
}
AUDITED = {
    "open": FILE, "os.listdir": FILE, "os.scandir": FILE, "os.remove": FILE, "os.rename": FILE, "os.mkdir": FILE,
    "sqlite3.connect": FILE, "shutil.copyfile": FILE, "glob.glob": FILE,
    "socket.connect": NETWORK, "socket.bind": NETWORK, "socket.getaddrinfo": NETWORK, "socket.sendto": NETWORK,
    "urllib.Request": NETWORK, "http.client.connect": NETWORK,
    "subprocess.Popen": PROCESS, "os.system": PROCESS, "os.fork": PROCESS, "os.posix_spawn": PROCESS,
    "os.exec": PROCESS,
    "_thread.start_new_thread": PROCESS, "ctypes.dlopen": PROCESS,
    "time.sleep": CLOCK, "builtins.input": INPUT, "os.putenv": ENVIRONMENT,
}  # fmt: skip
C_CALLS: dict[Any, str] = {
    **dict.fromkeys(
        (
            time.time, time.time_ns, time.monotonic, time.monotonic_ns, time.perf_counter, time.perf_counter_ns,
            time.process_time, time.thread_time, time.localtime, time.gmtime, time.ctime, time.strftime, time.sleep,
            dt.datetime.now, dt.datetime.today, dt.date.today,
        ),
        CLOCK,
    ),
    **dict.fromkeys((os.urandom, os.getrandom if hasattr(os, "getrandom") else os.urandom), RANDOM),
}  # fmt: skip
PY_CALLS: dict[Any, str] = {
    **{
        f.__code__: RANDOM
        for f in (uuid.uuid1, uuid.uuid4, secrets.token_bytes, secrets.token_hex, secrets.randbelow)
    },
    os.getenv.__code__: ENVIRONMENT,
    type(os.environ).__getitem__.__code__: ENVIRONMENT,
    threading.Thread.start.__code__: PROCESS,
}
READERS = (
    "polars.io.",
    "pandas.io.",
    "pyarrow.",
)  # packages whose functions called read_... and scan_... open files
PLATFORM = str(
    Path(alphapanda.__file__).parent
)  # what a helper of ours does on its way is not the strategy's
NOBODYS = ("<frozen importlib", "/linecache.py", "/warnings.py", "/traceback.py", "/tokenize.py")
CLOCK_NAMES = ("now", "today", "utcnow")  # class methods of datetime's children, such as pandas.Timestamp


class Touch(msgspec.Struct, frozen=True):
    """What was touched, how, in which line of the frozen module (0: not known), and in which function."""

    kind: str
    what: str
    line: int
    function: str


class Watch:
    """Watches this thread while it plays; ``files`` are the names that the strategy's lines go by."""

    def __init__(self, files: frozenset[str]) -> None:
        self.seen: dict[tuple[str, int], Touch] = {}
        self._files = files
        self._shared = random.random.__self__  # pyright: ignore[reportAttributeAccessIssue] - the module's own generator
        self._codes = {f.__code__ for f in vars(random.Random).values() if hasattr(f, "__code__")}

    def __enter__(self) -> Self:
        self._patched = _patch_generators(self._drawn)
        _listen(self.audit)
        sys.setprofile(self._profile)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        sys.setprofile(None)
        _listen(None)
        for undo in self._patched:
            undo()

    def note(self, kind: str, what: str, line: int, function: str) -> None:
        """Keep the first touch of a kind in a line."""
        self.seen.setdefault((kind, line), Touch(kind, what, line, function))

    @property
    def touches(self) -> tuple[Touch, ...]:
        """What was seen. That what a line calls looks at the environment is not told where the line does worse."""
        lines = {line for kind, line in self.seen if kind != ENVIRONMENT}
        return tuple(t for t in self.seen.values() if t.kind != ENVIRONMENT or t.line not in lines)

    # ── the two pairs of eyes

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """The interpreter tells of something."""
        kind = AUDITED.get(event)
        if kind is not None:
            named = f" {arguments[0]!r}" if event == "open" and arguments else ""
            self._blame(kind, f"{event}{named}", inspect.currentframe())

    def _profile(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "c_call":
            self._c_call(frame, argument)
        elif event == "call":
            self._call(frame)

    def _c_call(self, frame: FrameType, called: Any) -> None:
        name, owner = called.__name__, getattr(called, "__self__", None)
        if owner is self._shared:
            self._blame(RANDOM, f"random.{name}", frame)
        elif (name in CLOCK_NAMES and isinstance(owner, type)) or name == "getrandom":
            self._blame(
                CLOCK if name in CLOCK_NAMES else RANDOM, f"{getattr(owner, '__name__', 'os')}.{name}", frame
            )
        else:
            try:
                kind = C_CALLS.get(called)
            except TypeError:  # a method of something that has no hash
                return
            if kind is not None:
                self._blame(kind, f"{getattr(owner, '__name__', '')}.{name}".lstrip("."), frame)

    def _call(self, frame: FrameType) -> None:
        code = frame.f_code
        kind = PY_CALLS.get(code)
        if kind is not None:
            self._blame(kind, code.co_qualname if hasattr(code, "co_qualname") else code.co_name, frame)
        elif code in self._codes:
            mine = frame.f_locals.get("self")
            unseeded = code.co_name == "__init__" and frame.f_locals.get("x") is None
            if mine is self._shared or unseeded:
                self._blame(
                    RANDOM, "random.Random() without a seed" if unseeded else f"random.{code.co_name}", frame
                )
        elif code.co_name.startswith(("read_", "scan_")):
            module = str(frame.f_globals.get("__name__", ""))
            if module.startswith(READERS):
                self._blame(FILE, f"{module.partition('.')[0]}.{code.co_name}", frame)

    def _drawn(self, what: str) -> None:
        self._blame(RANDOM, what, inspect.currentframe())

    def _blame(self, kind: str, what: str, frame: FrameType | None) -> None:
        """Note it, if a line of the strategy's module is what did it."""
        while frame is not None:
            file = frame.f_code.co_filename
            if file in self._files:
                self.note(kind, what, frame.f_lineno, frame.f_code.co_name)
                return
            if file != __file__ and (file.startswith(PLATFORM) or any(name in file for name in NOBODYS)):
                return
            frame = frame.f_back


Hear = Callable[[str, tuple[Any, ...]], None]
_hearing: list[
    Hear
] = []  # a hook stays for as long as the process lives: there is one, and it tells whoever listens
_hooked: list[bool] = []


def _listen(hear: Hear | None) -> None:
    if not _hooked:
        _hooked.append(True)
        sys.addaudithook(_told)
    _hearing[:] = [hear] if hear is not None else []


def _told(event: str, arguments: tuple[Any, ...]) -> None:
    for hear in _hearing:
        hear(event, arguments)


def _patch_generators(drawn: Callable[[str], None]) -> list[Callable[[], None]]:
    """numpy's functions of the shared generator do not show as calls: put ours in front of them."""
    numpy_random: Any = sys.modules.get("numpy.random")
    undo: list[Callable[[], None]] = []
    if numpy_random is None:
        return undo
    shared = getattr(numpy_random.mtrand, "_rand", None)
    for name in dir(numpy_random):
        function = getattr(numpy_random, name)
        if callable(function) and getattr(function, "__self__", None) is shared is not None:
            undo.append(_put(numpy_random, name, _telling(function, f"numpy.random.{name}", drawn)))
    return undo


def _telling(function: Callable[..., Any], what: str, drawn: Callable[[str], None]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        drawn(what)
        return function(*arguments, **named)

    return call


def _put(module: Any, name: str, value: Any) -> Callable[[], None]:
    before = getattr(module, name)
    setattr(module, name, value)
    return lambda: setattr(module, name, before)


# ── globals ──────────────────────────────────────────────────────────────────────────────────────────────────────


def changer(source: str, name: str, where: str) -> tuple[int, str]:
    """The first line inside a function that changes a global, and the function; ``where`` is the part of it that
    changed, such as ``[0]``. Else where the function stands whose default changed; (0, "") if nothing is found."""
    functions = [f for f in ast.walk(ast.parse(source)) if isinstance(f, ast.FunctionDef)]
    lines = [(node, f) for f in functions for node in ast.walk(f)]
    found = [(node, f) for node, f in lines if _changes(node, name, name in _declared(f))]
    found = found or [(node, f) for node, f in lines if _assigns(node, where.rpartition(".")[2])]
    if found:
        node, function = found[0]
        return getattr(node, "lineno", 0), function.name
    owner = where.partition(".__")[0].rpartition(".")[2] or name
    return next(((f.lineno, f.name) for f in functions if f.name == owner), (0, ""))


def _declared(function: ast.FunctionDef) -> set[str]:
    return {name for node in ast.walk(function) if isinstance(node, ast.Global) for name in node.names}


def _targets(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Assign | ast.Delete):
        return list(node.targets)
    return [node.target] if isinstance(node, ast.AugAssign | ast.AnnAssign) else []


def _changes(node: ast.AST, name: str, declared: bool) -> bool:
    """It assigns to the name after ``global``, or to a part of what it holds, or calls a method of that."""
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    for target in [node.func] if isinstance(node, ast.Call) and called else _targets(node):
        inner, deep = target, False
        while isinstance(inner, ast.Attribute | ast.Subscript):
            inner, deep = inner.value, True
        if isinstance(inner, ast.Name) and inner.id == name and (deep or declared):
            return True
    return False


def _assigns(node: ast.AST, attribute: str) -> bool:
    """It assigns to an attribute of this name that is not the instance's own."""
    return any(
        isinstance(t, ast.Attribute)
        and t.attr == attribute
        and not (isinstance(t.value, ast.Name) and t.value.id == "self")
        for t in _targets(node)
    )
