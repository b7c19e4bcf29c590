"""Freezing: notebooks in miniature that work, notebooks that must be refused, and what a capsule promises.

Cells run in real IPython shells. ``CLASS`` is the strategy most of them are about: it calls what the cells define.
"""

from __future__ import annotations

import io
import itertools
import json
import linecache
import random
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import alphapanda as ap
from alphapanda import examples
from alphapanda.capsule import Capsule, digest_of, freeze, load
from alphapanda.errors import ValidationError
from tests.build import runs, tape_of

IMPORTS = "import alphapanda as ap\nfrom alphapanda import Param, Strategy"
TAPE = tape_of(
    [
        (
            f"09:{15 + n // 60:02}:{n % 60:02}",
            "INFY",
            round(100 + np.sin(n / 40) * 3 + (n % 7) / 20, 2),
            n + 1,
        )
        for n in range(2_400)
    ]
)


class Notebook:
    """A kernel without its wires: cells go in, names come out."""

    def __init__(self, folder: str) -> None:
        config = Config()
        config.HistoryManager.enabled = False  # no database of what tests typed
        self.shell = InteractiveShell(config=config, ipython_dir=folder)

    def run(self, *cells: str, fails: bool = False, **options: Any) -> None:
        """Run cells as a kernel would; a cell that raises is a mistake of the test unless it ``fails``."""
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            for cell in cells:
                done = self.shell.run_cell(cell, **{"store_history": True, **options})
                if not fails:
                    done.raise_error()

    def __getitem__(self, name: str) -> Any:
        return self.shell.user_ns[name]

    def freeze(self, name: str = "Momo") -> Capsule:
        """The capsule of one of its classes."""
        return freeze(self[name])


@contextmanager
def notebook(*cells: str) -> Iterator[Notebook]:
    """A notebook whose cells have run; whatever it changed in this process is put back."""
    main, path, hook = sys.modules["__main__"], list(sys.path), sys.displayhook
    try:
        with tempfile.TemporaryDirectory() as folder:
            book = Notebook(folder)
            book.run(*cells)
            yield book
    finally:
        sys.modules["__main__"], sys.path[:], sys.displayhook = main, path, hook


def trader(body: str = "helper(bar)", head: str = "") -> str:
    """A strategy in a cell of its own: class attributes, then one callback."""
    head = textwrap.indent(head, "    ") + "\n" if head else ""
    return (
        f"class Momo(Strategy):\n    symbols = ['NSE:INFY']\n{head}"
        f"    def on_bar(self, bar):\n{textwrap.indent(body, '        ')}\n"
    )


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the notebook, where modules of its own lie; they are forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(tmp_path)):
            del sys.modules[name]


def loaded(capsule: Capsule) -> type[ap.Strategy]:
    """The capsule's class, loaded the way a runner does."""
    return load(capsule.source, capsule.class_name, "strategy.py")


# ── what works ───────────────────────────────────────────────────────────────────────────────────────────────────


class Works(NamedTuple):
    """Cells that freeze: what the module must hold, and what it must not."""

    cells: Sequence[str]
    holds: Sequence[str] = ()
    lacks: Sequence[str] = ()


WORKS = {
    "one cell": Works(
        [IMPORTS + "\n" + trader("self.log('hello')")], ["class Momo(Strategy):"], ["Param", "as ap"]
    ),
    "nothing but attributes": Works([IMPORTS, "class Momo(Strategy):\n    symbols = ['NSE:INFY']"]),
    "a helper in another cell": Works(
        [IMPORTS, "def helper(bar):\n    # why\n    return bar.close", trader()], ["    # why\n"]
    ),
    "a helper below the class": Works([IMPORTS, trader(), "def helper(bar): return 1"], ["def helper"]),
    "two cells define the same helper": Works(
        [IMPORTS, "def helper(bar): return 1", trader(), "def helper(bar): return 2"],
        ["return 2"],
        ["return 1"],
    ),
    "a helper that runs twice": Works(
        [IMPORTS, "def helper(bar): return 1", "def helper(bar): return 1", trader()]
    ),
    "helpers of helpers": Works(
        [
            IMPORTS,
            "def helper(bar): return second(bar)",
            "def second(bar): return third",
            "third = 3",
            trader(),
        ],
        ["third = 3", "def second"],
    ),
    "constants made of others": Works(
        [IMPORTS, "A = 2\nB = A * 3\nunused = 4", trader("pass", "n: int = Param(B, low=A)")],
        ["A = 2\nB = A * 3\n"],
        ["unused"],
    ),
    "statements on one line": Works(
        [IMPORTS, "A = 1; B = 2  # two", trader("return A + B")], ["A = 1\nB = 2  # two\n"]
    ),
    "tuples of names": Works(
        [IMPORTS, "A, (B, *C) = 1, (2, 3, 4)", trader("return A, C")], ["A, (B, *C) = 1"]
    ),
    "half of a tuple replaced": Works(
        [IMPORTS, "A, B = 1, 2", "B = 3", trader("return A, B")], ["A, B = 1, 2\nB = 3"]
    ),
    "comments above": Works(
        [IMPORTS, "# not this\n\n# rupees\nRISK = 5", trader("return RISK")], ["# rupees\nRISK"], ["not this"]
    ),
    "a text that looks like a comment": Works(
        [IMPORTS, 'NOTE = """\n# inside"""\nA = 1', trader("return A")], ["A = 1"], ["inside"]
    ),
    "inheritance across cells": Works(
        [
            IMPORTS,
            "class Base(Strategy):\n    n: int = Param(3, low=1, high=9)\n    def on_bar(self, bar): return self.n",
            "class Momo(Base):\n    n = 4\n    def on_bar(self, bar):\n        return super().on_bar(bar)",
        ],
        ["class Base(Strategy):"],
    ),
    "a mixin and a metaclass": Works(
        [
            IMPORTS + "\nfrom abc import ABC, abstractmethod",
            "class Mixin(ABC):\n    @abstractmethod\n    def edge(self): ...",
            "class Momo(Mixin, Strategy):\n    def edge(self): return 1\n    def on_bar(self, bar): self.edge()",
        ],
        ["class Mixin(ABC):"],
    ),
    "decorators": Works(
        [
            IMPORTS + "\nimport functools",
            "def twice(f):\n    @functools.wraps(f)\n    def inner(*a):\n        return f(*a) * 2\n    return inner",
            "@twice\n@functools.cache\ndef helper(bar): return 3",
            trader(),
        ],
        ["@twice\n@functools.cache\ndef helper"],
    ),
    "a decorated class": Works(
        [
            IMPORTS,
            "def named(kind):\n    kind.label = 'x'\n    return kind",
            "@named\n" + trader("return self.label"),
        ],
        ["@named\nclass Momo"],
    ),
    "a decorator that returns a subclass": Works(
        [
            IMPORTS,
            "def more(kind):\n    class Wrapped(kind):\n        k = 2\n    return Wrapped",
            "@more\n" + trader("pass"),
        ]
    ),
    "a dataclass": Works(
        [
            IMPORTS + "\nfrom dataclasses import dataclass, field",
            "@dataclass(frozen=True, slots=True)\nclass Box:\n    low: float = 0.0\n"
            "    tags: list[str] = field(default_factory=list)",
            "EMPTY = Box()\n" + trader("return Box(bar.low) or EMPTY"),
        ],
        ["EMPTY = Box()"],
    ),
    "enums": Works(
        [
            IMPORTS + "\nfrom enum import Enum, IntFlag, auto",
            "class Side(Enum):\n    BUY = auto()\n    SELL = auto()\n    @property\n    def sign(self): return 1",
            "class Bits(IntFlag):\n    A = 1\n    B = 2",
            "SIGNS = {Side.BUY: 1}\n" + trader("return SIGNS, Bits.A", head="side: Side = Param(Side.BUY)"),
        ]
    ),
    "structs and named tuples": Works(
        [
            IMPORTS + "\nimport msgspec\nfrom collections import namedtuple\nfrom typing import NamedTuple",
            "class P(NamedTuple):\n    x: int = 1",
            "class Q(msgspec.Struct):\n    x: int = 1\n    y: list[int] = []",
            "R = namedtuple('R', 'a b')\nALL = [P(), Q(3), R(1, 2)]\n" + trader("return ALL"),
        ]
    ),
    "a class of one's own": Works(
        [
            IMPORTS,
            "class Window:\n    def __init__(self, n): self.n = n",
            "W = Window(5)",
            trader("return W.n"),
        ],
        ["W = Window(5)"],
    ),
    "generics": Works(
        [
            IMPORTS + "\nfrom typing import Generic, TypeVar",
            "T = TypeVar('T')\nclass Ring(Generic[T]):\n    def last(self) -> T: ...",
            trader("return Ring[int]()"),
        ],
        ["T = TypeVar('T')"],
    ),
    "papermill parameters": Works(
        [
            IMPORTS,
            "fast = 10\nslow = 30",
            "# Parameters\nfast = 5",
            trader("pass", "n: int = Param(fast)\nm = slow"),
        ],
        ["fast = 5", "slow = 30"],
        ["fast = 10", "# Parameters"],
    ),
    "mutable defaults": Works(
        [IMPORTS, "def helper(bar, seen=[], table={'a': [1]}):\n    return seen", trader()], ["seen=[]"]
    ),
    "recursion": Works(
        [IMPORTS, "def helper(n): return n and helper(n - 1)\nSIX = helper(3)", trader("return SIX")]
    ),
    "mutual recursion": Works(
        [
            IMPORTS,
            "def odd(n): return n and even(n - 1)",
            "def even(n): return not n or odd(n - 1)",
            "E = even(4)",
            trader("return E"),
        ]
    ),
    "a class and a constant that need each other": Works(
        [
            IMPORTS,
            "def keep(kind):\n    kind.rank = lambda self: RANK\n    return kind",
            "@keep\n" + trader("return RANK"),
            "def ranked(): return Momo.__name__\nRANK = ranked()",
        ]
    ),
    "annotations kept as text": Works(
        [
            "from __future__ import annotations",
            IMPORTS,
            "def helper(bar: ap.Bar, frame: Missing = None) -> list[Unknown]: return []",
            trader(head="n: int = Param(2.0, low=1)"),
        ],
        ["from __future__ import annotations\n", "import alphapanda as ap"],
    ),
    "imports for type checkers": Works(
        [
            IMPORTS + "\nfrom typing import TYPE_CHECKING",
            "if TYPE_CHECKING:\n    import nowhere.to.be as found",
            "def helper(x: 'found.Thing') -> 'found.Thing | None': return x",
            trader(),
        ],
        ["if TYPE_CHECKING:\n    import nowhere"],
    ),
    "scopes": Works(
        [
            IMPORTS,
            "n, x, k, rest = 'df', 'df', 'df', 'df'\nLIMIT = 3",
            "def helper(bar):\n    a = [n for n in range(LIMIT) if (x := n)]\n    match {'k': 1}:\n"
            "        case {'k': k, **rest}: return a, x, k, rest\n    def inner():\n        nonlocal a\n        a = 2\n"
            "    return (lambda n: n)(a), inner",
            trader(),
        ],
        ["LIMIT = 3"],
        ["n, x"],
    ),
    "class attributes before globals of their name": Works(
        [
            IMPORTS,
            "minutes = object()\nsize = 4",
            trader("pass", head="minutes = 15\nlong = minutes * 2\nsize = size"),
        ],
        ["size = 4"],
        ["object()"],
    ),
    "lambdas": Works([IMPORTS, "K = 2\nhelper = lambda bar, k=K: (bar, k)", trader()], ["helper = lambda"]),
    "a recursive lambda": Works([IMPORTS, "helper = lambda n: n and helper(n - 1)", trader()]),
    "a closure from a lifted factory": Works(
        [
            IMPORTS,
            "def make(k):\n    def scaled(x): return x * k\n    return scaled",
            "helper = make(3)",
            trader(),
        ],
        ["helper = make(3)"],
    ),
    "an optional package": Works(
        [
            IMPORTS,
            "try:\n    import no_such_package as fast\nexcept ImportError:\n    fast = None",
            trader("return fast"),
        ],
        ["except ImportError:"],
    ),
    "a condition": Works(
        [IMPORTS, "BIG = True\nif BIG:\n    N = 3\nelse:\n    N = 4", trader("return N")],
        ["BIG = True", "else:"],
    ),
    "a condition that may change what stood": Works(
        [IMPORTS, "N = 1\nBIG = False", "if BIG:\n    N = 3", trader("return N")], ["N = 1\n", "if BIG:\n"]
    ),
    "magics and shell lines": Works(
        [
            IMPORTS,
            "%config InlineBackend.x = 1\nK = 3\n!true\nK?",
            "%%bash\ntrue",
            "%%time\nL = K\n",
            trader("return L"),
        ],
        ["K = 3", "L = K"],
        ["get_ipython", "bash"],
    ),
    "library constants and arrays": Works(
        [
            IMPORTS
            + "\nimport datetime as dt, re, functools, operator, math\nimport numpy as np\nimport sys",
            "W = np.array([0.1, 0.2, np.nan])\nOPEN = dt.time(9, 15)\nDAY = dt.timedelta(days=1)",
            "PAT = re.compile('x')\nADD = functools.partial(max, 1)\nKEY = operator.itemgetter(1)\nMAX = sys.maxsize",
            trader("return W, OPEN, DAY, PAT, ADD, KEY, MAX, math.pi"),
        ],
        ["W = np.array"],
    ),
    "two packages of one root": Works(
        [
            IMPORTS,
            "import os.path",
            "import os",
            "import xml.dom\nimport xml.sax",
            trader("return xml.sax, xml.dom"),
        ],
        ["import xml.dom\nimport xml.sax"],
        ["import os"],
    ),
    "a star import": Works(
        [IMPORTS, "from math import *", "pi = 3", trader("return sqrt(4), pi")],
        ["from math import sqrt\n", "pi = 3"],
    ),
    "an import replaced by a definition": Works(
        [IMPORTS, "from math import sqrt as helper", "def helper(bar): return 1", trader()], [], ["math"]
    ),
    "imports inside functions": Works(
        [IMPORTS, trader("import math\nfrom json import dumps\nreturn math.pi, dumps")]
    ),
    "members of every kind": Works(
        [
            IMPORTS + "\nfrom functools import cached_property",
            trader(
                "return self.a, self.b, self.c(), self.d()",
                "@property\ndef a(self): return 1\n@cached_property\ndef b(self): return 2\n@staticmethod\n"
                "def c(): return 3\n@classmethod\ndef d(cls): return __class__\nclass Inner:\n    x = 1\n"
                "e, f = 1, [2]\nfor g in (1, 2): pass",
            ),
        ]
    ),
    "names that are mangled": Works([IMPORTS, trader("return self.__k", head="__k = 3")]),
    "unicode, carriage returns and tabs": Works(
        [IMPORTS, "Δ = 'ñ €'; größe = 2\r\nμ = 3", trader("return Δ, größe,\\\n\tμ")],
        ["Δ = 'ñ €'\ngröße = 2"],
    ),
    "a module's own name": Works([IMPORTS, "NAME = 1", trader("self.log(__name__)")], [], ["NAME"]),
    "library classes with notes of their own": Works(
        [
            IMPORTS
            + "\nimport attr, msgspec\nfrom dataclasses import dataclass\nfrom pydantic import BaseModel",
            "@attr.s(auto_attribs=True)\nclass P:\n    x: int = 1",
            "class Q(BaseModel):\n    x: int = 1",
            "@dataclass\nclass R:\n    x: int = 1",
            "ALL = [P(), Q(), R()]\nmsgspec.json.decode(msgspec.json.encode(R()), type=R)",
            trader("return ALL"),
        ]
    ),
    "every name of the platform": Works(
        ["from alphapanda import *", trader("return EMA(3)", "n: int = Param(3)")],
        ["from alphapanda import EMA, Param, Strategy\n"],
    ),
    "a type alias of one's own": Works(
        [
            IMPORTS,
            "Pair = tuple[int, 'Leg']\nclass Leg: pass",
            "def helper(x: Pair) -> Pair: return x",
            trader(),
        ]
    ),
    "an overloaded name in a class": Works(
        [IMPORTS, "list_ = [1]\nopen_ = 2", trader("return list(list_), open_")]
    ),
}


@pytest.mark.parametrize("case", WORKS)
def test_freezes(case: str) -> None:
    cells, holds, lacks = WORKS[case]
    with notebook(*cells) as book:
        live = book["Momo"]
        capsule = book.freeze()
        for text in holds:
            assert text in capsule.source
        for text in lacks:
            assert text not in capsule.source
        assert capsule.digest == digest_of(capsule.source)
        fresh = loaded(capsule)
        assert fresh.__name__ == live.__name__
        assert list(fresh.parameters) == list(live.parameters)
        for name, parameter in live.parameters.items():
            other = fresh.parameters[name]
            assert (parameter.low, parameter.high, parameter.doc) == (other.low, other.high, other.doc)
            assert repr(parameter.default) == repr(other.default)
            assert parameter.kind.__name__ == other.kind.__name__
        again = freeze(fresh)
        assert (again.source, again.digest) == (capsule.source, capsule.digest)


# ── what must be refused ─────────────────────────────────────────────────────────────────────────────────────────


class Refused(NamedTuple):
    """Cells that must not freeze: the name that is blamed, where it is used, what the message and the fix say."""

    cells: Sequence[str]
    name: str
    where: tuple[str, int] | None = None
    says: str = ""
    fix: str = ""


HERE = ("cell [3]", 4)  # the first line of the callback, where IMPORTS, one cell and the class have run
REFUSED = {
    "a DataFrame": Refused(
        [IMPORTS, "import polars as pl\ndf = pl.DataFrame({'a': [1]})", trader("return df")],
        "df", HERE, "holds a DataFrame, made in cell [2] line 2", "on_start",
    ),
    "a DataFrame in a list": Refused(
        [IMPORTS, "import polars as pl\nall_ = [{'x': pl.DataFrame()}]", trader("return all_")],
        "all_", HERE, "DataFrame",
    ),
    "a DataFrame as a class attribute": Refused(
        [IMPORTS, "import polars as pl", trader("pass", head="frame = pl.DataFrame()")],
        "Momo.frame", ("cell [3]", 1), "DataFrame",
    ),
    "an open file": Refused(
        [IMPORTS, "import os\nf = open(os.devnull)\nread = f.read\nf.close()", trader("return read()")],
        "read", HERE, "TextIOWrapper",
    ),
    "a client": Refused(
        [IMPORTS, "import socket\nclient = socket.socket()\nclient.close()", trader("client.send(b'')")], "client", HERE
    ),
    "a generator": Refused([IMPORTS, "g = (i for i in range(3))", trader("next(g)")], "g", HERE, "generator"),
    "a random generator": Refused(
        [IMPORTS, "import random\nrng = random.Random(7)", trader("rng.random()")], "rng", HERE, "Random"
    ),
    "an indicator shared by all": Refused(
        [IMPORTS, "ema = ap.EMA(3)", trader("ema.update(bar.close)")], "ema", HERE, "EMA", "on_start"
    ),
    "a list that grew": Refused(
        [IMPORTS, "seen = [1]", trader("return seen"), "seen.append(2)"],
        "seen", HERE, "(has 2 entries, not 1) is not what cell [2] line 1 gives", "self.state",
    ),
    "a table that was changed": Refused(
        [IMPORTS, "limits = {'a': {'b': 1}}", trader("return limits"), "limits['a']['b'] = 2"],
        "limits", HERE, "limits['a']['b'] is not", "cell [2]",
    ),
    "an array that was changed": Refused(
        [IMPORTS, "import numpy as np\nw = np.zeros(3)", trader("return w"), "w[1] = 1"], "w", HERE
    ),
    "an object that was changed": Refused(
        [IMPORTS, "class Box:\n    def __init__(self): self.n = 1\nbox = Box()", trader("return box.n"), "box.n = 2"],
        "box", HERE, "box.n is not",
    ),
    "a mutable default that was used": Refused(
        [IMPORTS, "def helper(bar, seen=[]):\n    seen.append(1)\nhelper(0)", trader()], "helper", HERE, "__defaults__"
    ),
    "a class attribute that was changed": Refused(
        [IMPORTS, "x = 1", trader("pass"), "Momo.symbols.append('NSE:TCS')"], "Momo", ("cell [3]", 1), "Momo.symbols"
    ),
    "a method from elsewhere": Refused(
        [IMPORTS, "x = 1", trader("pass"), "Momo.on_bar = lambda self, bar: 2"], "Momo", ("cell [3]", 1), "Momo.on_bar"
    ),
    "an attribute from elsewhere": Refused(
        [IMPORTS, "x = 1", trader("pass"), "Momo.extra = 2"], "Momo", ("cell [3]", 1), "Momo.extra", "cell [3]"
    ),
    "a constant of a name that changed": Refused(
        [IMPORTS, "a = 1\nb = a + 1", trader("return b"), "a = 5"], "b", HERE, "not what cell [2] line 2 gives"
    ),
    "a default of a name that changed": Refused(
        [IMPORTS, "a = 1\ndef helper(bar, k=a): return k", trader(), "a = 5"], "helper", HERE, "__defaults__[0]"
    ),
    "a function that was patched": Refused(
        [IMPORTS, "def helper(bar): return 1\nold = helper", trader(), "helper.flag = 1"], "helper", HERE, "helper.flag"
    ),
    "one's own earlier value": Refused(
        [IMPORTS, "n = 1\nn = n + 1", trader("return n")], "n", ("cell [2]", 2), "its own earlier value"
    ),
    "changed in place": Refused([IMPORTS, "n = 1\nn += 1", trader("return n")], "n", HERE, "changed in place"),
    "set in a loop": Refused([IMPORTS, "for n in (1, 2):\n    m = n", trader("return m")], "m", HERE, "in a loop"),
    "set in a with block": Refused(
        [IMPORTS, "import os\nwith open(os.devnull) as f:\n    text = f.read()", trader("return text")], "text", HERE
    ),
    "set in passing": Refused([IMPORTS, "print(n := 3)", trader("return n")], "n", HERE, "in passing"),
    "deleted": Refused([IMPORTS, "n = 1\ndel n", trader("return n")], "n", HERE, "has no value now"),
    "defined nowhere": Refused(
        [IMPORTS, "risk_limit = 1", trader("return risk_limt")], "risk_limt", HERE, "defined nowhere", "'risk_limit'"
    ),
    "only in the kernel": Refused(
        [IMPORTS, "get_ipython().user_ns['n'] = 3", trader("return n")],
        "n", HERE, "lives only in the kernel", "restart",
    ),
    "the kernel's last result": Refused([IMPORTS, "3", trader("return _")], "_", HERE, "lives only in the kernel"),
    "made by a magic": Refused(
        [IMPORTS, "files = !true", trader("return files")], "get_ipython", ("cell [2]", 1), "kernel", "plain Python"
    ),
    "a class made in a function": Refused(
        [
            IMPORTS,
            "def make(k):\n    class Momo(Strategy):\n        def on_bar(self, bar): return k\n    return Momo",
            "Momo = make(3)",
        ],
        "Momo", ("cell [2]", 1), "inside make() of cell [2] line 1", "Param",
    ),
    "a class made by type": Refused([IMPORTS, "Momo = type('Momo', (Strategy,), {})"], "Momo", None, "class statement"),
    "a class inside another": Refused(
        [IMPORTS, "class Outer:\n    class Inner(Strategy): pass\nMomo = Outer.Inner"], "Inner", None, "inside Outer"
    ),
    "eval": Refused([IMPORTS, "x = 1", trader("eval('1')")], "eval", HERE),
    "exec": Refused([IMPORTS, "x = 1", trader("exec('1')")], "exec", HERE),
    "globals": Refused([IMPORTS, "x = 1", trader("globals()['x']")], "globals", HERE),
    "locals": Refused([IMPORTS, "x = 1", trader("return locals()")], "locals", HERE),
    "input": Refused([IMPORTS, "x = 1", trader("input()")], "input", HERE, "waits", "Param"),
    "display": Refused([IMPORTS, "x = 1", trader("display(bar)")], "display", HERE, "kernel", "self.log"),
    "eval in a helper of a helper": Refused(
        [IMPORTS, "def helper(bar): return second()\ndef second():\n\n    return eval('1')", trader()],
        "eval", ("cell [2]", 4),
    ),
    "lines as a person counts them": Refused(
        [IMPORTS, "\n\n# note\n@staticmethod\ndef helper(bar):\n    return eval('1')", trader()],
        "eval", ("cell [2]", 6),
    ),
    "lines under a magic": Refused(
        [IMPORTS, "%%time\ndef helper(bar):\n    return eval('1')", trader()], "eval", ("cell [2]", 3)
    ),
    "a global that a function changes": Refused(
        [IMPORTS, "count = 0\ndef helper(bar):\n    global count\n    count += 1", trader()],
        "count", ("cell [2]", 4), "a function changes", "self.state",
    ),
    "a star import of what is gone": Refused(
        [
            IMPORTS + "\nimport sys, types\nsys.modules['gone'] = types.ModuleType('gone')\nsys.modules['gone'].x = 1",
            "from gone import *\ndel sys.modules['gone']", trader("return x"),
        ],
        "x", HERE, "from gone import *", "by its name",
    ),
    "a file read while loading": Refused(
        [
            IMPORTS,
            "import os\ndef size_of():\n    with open(os.devnull) as f: return len(f.read())\nsize = size_of()",
            trader("return size"),
        ],
        "open", ("cell [2]", 3), "reads a file",
    ),
    "a file read by a helper while loading": Refused(
        [IMPORTS, "import polars as pl\ndef mean(): return pl.Series([1]).mean()\nM = mean()", trader("return M")],
        "pl.Series", ("cell [2]", 2), "while the module loads", "constant",
    ),
    "the clock while loading": Refused(
        [IMPORTS, "from datetime import datetime\nYEAR = datetime.now().year", trader("return YEAR")],
        "datetime.now", ("cell [2]", 2),
    ),
    "the environment while loading": Refused(
        [IMPORTS, "import os\nHOME = os.environ['PATH']", trader("return HOME")], "os.environ", ("cell [2]", 2)
    ),
    "the clock in a class attribute": Refused(
        [IMPORTS, "import time", trader("pass", head="born = time.time()")], "time.time", ("cell [3]", 3)
    ),
    "a draw in a default": Refused(
        [IMPORTS, "import random", trader("pass", head="def f(self, x=random.random()): return x")],
        "random.random", ("cell [3]", 3),
    ),
    "a backtest while loading": Refused(
        [IMPORTS, "A = 1\ndef helper(bar): return ap.sweep(1)\nBEST = 1 if A else helper(1)", trader("return BEST")],
        "ap.sweep", ("cell [2]", 2),
    ),
    "a logger": Refused(
        [IMPORTS, "import logging\nlog = logging.getLogger('x')", trader("log.info(1)")],
        "log", HERE, "Logger", "self.log",
    ),
    "made by %run": Refused(
        [IMPORTS, "exec(compile('def helper(bar): return 1', '/nowhere.py', 'exec'))", trader()],
        "helper", HERE, "lives only in the kernel",
    ),
    "a count inside a decorator": Refused(
        [
            IMPORTS,
            "def count(f):\n    n = [0]\n    def inner(*a):\n        n[0] += 1\n        return f(*a)\n    return inner",
            "@count\ndef helper(bar): return 3\nhelper(1)",
            trader(),
        ],
        "helper", ("cell [4]", 4), "helper.__closure__", "cell [3]",
    ),
    "annotations that some cells keep as text": Refused(
        [
            IMPORTS,
            "def helper(bar):\n    def inner(x: ap.Bar): return x\n    return inner",
            "from __future__ import annotations\n" + trader(),
        ],
        "helper", ("cell [3]", 5), "", "from __future__ import annotations",
    ),
    "a base that was replaced": Refused(
        [IMPORTS, "class A: x = 1\nclass B(A): pass", "class A: x = 2", trader("return B.x")],
        "B", ("cell [4]", 4), "its base A",
    ),
    "a class under a condition": Refused(
        [IMPORTS, "if True:\n    class Momo(Strategy): pass"], "Momo", None, "top level", "alone"
    ),
    "a relative import": Refused(
        [IMPORTS, "x = 1", trader("from .signals import x")], "`from .signals import x`", HERE, "relative"
    ),
    "only in a script": Refused(
        [IMPORTS, "if __name__ == '__main__':\n    n = 3", trader("return n")], "n", HERE, "__main__"
    ),
    "a value that was awaited": Refused(
        [IMPORTS, "async def f(): return 3\nn = await f()", trader("return n")],
        "n", ("cell [2]", 2), "top of a module", "await",
    ),
    "a counting decorator": Refused(
        [
            IMPORTS,
            "from functools import singledispatch\n@singledispatch\ndef helper(x): return 1\n"
            "@helper.register(int)\ndef _(x): return 2",
            trader(),
        ],
        "helper", HERE, "helper.",
    ),
    "a machine's path": Refused([IMPORTS, "__file__ = 'x'\ndel __file__", trader("return __file__")], "__file__", HERE),
    "a library that was patched": Refused(
        [IMPORTS, "from math import sqrt", trader("return sqrt(1)"), "get_ipython().user_ns['sqrt'] = abs"],
        "sqrt", HERE, "not what cell [2] line 1 gives", "run cell [2] again",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(case: str) -> None:
    cells, name, where, says, fix = REFUSED[case]
    with notebook(*cells) as book, pytest.raises(ValidationError) as caught:
        book.freeze()
    error = caught.value
    assert error.code == "E_CAPSULE"
    assert name in error.message
    assert says in error.message
    assert error.fix
    assert fix in error.fix
    if where is not None:
        assert (error.context["cell"], error.context["line"]) == where
        assert f"{where[0]} line {where[1]}" in error.message
    assert not [
        m for m in sys.modules if m.startswith("alphapanda_capsule_") and "frozen" in str(sys.modules[m])
    ]


# ── what a capsule promises ──────────────────────────────────────────────────────────────────────────────────────

CROSS = [
    IMPORTS,
    "def crossed(a, b): return a.ready and b.ready and (a.value > b.value) - (a.value < b.value)",
    "SIZE = 10\nPERIODS = {'fast': 3, 'slow': 8}",
    """
class Momo(Strategy):
    symbols = ["NSE:INFY"]
    size: int = Param(SIZE, low=1)
    def on_start(self):
        for name, n in PERIODS.items():
            self.indicator("NSE:INFY", ap.EMA(n), name=name)
    def on_bar(self, bar):
        side = crossed(self.ind(bar.symbol, "fast"), self.ind(bar.symbol, "slow"))
        if side:
            self.order_target(bar.symbol, side * self.size, tag=f"{side:+d}")
""",
]
DRAW = [
    "import alphapanda as ap",
    """
from enum import Enum
class Side(Enum):
    UP = 1
    DOWN = -1
    def quantity(self, stake, price): return int(self.value * stake / price)
""",
    """
class Momo(ap.Strategy):
    symbols = ["NSE:INFY"]
    stake: float = ap.Param(10_000.0)
    def on_tick(self, tick):
        if self.random.random() < 0.02:
            side = Side.UP if tick.price < 100 else Side.DOWN
            self.order_target(tick.symbol, side.quantity(self.stake, tick.price))
""",
]
PASSIVE = [
    "from __future__ import annotations",
    "import alphapanda as ap\nimport functools",
    "@functools.cache\ndef offset(n: int) -> float: return 0.05 if n < 1 else 0.05 + offset(n - 1)",
    """
class Base(ap.Strategy):
    symbols = ["NSE:INFY"]
    def on_bar(self, bar: ap.Bar) -> None:
        self.cancel_all()
        self.place(bar)
""",
    """
class Momo(Base):
    def place(self, bar: ap.Bar) -> None:
        price = self.round_price(bar.symbol, bar.close - offset(4))
        self.buy(bar.symbol, 5, limit=price) if self.position(bar.symbol).quantity < 50 else self.close_all()
""",
]


@pytest.mark.parametrize("cells", [CROSS, DRAW, PASSIVE], ids=["crossover", "random", "limits"])
def test_the_frozen_class_decides_what_the_notebook_class_decides(cells: list[str]) -> None:
    with notebook(*cells) as book:
        before = ap.backtest(book["Momo"](), TAPE)
        fresh = loaded(book.freeze())
        after = ap.backtest(fresh(), TAPE)
    assert len(before.orders) > 5
    assert after.digest == before.digest


INDEPENDENT = [
    "import alphapanda as ap",
    "from enum import Enum\nimport math",
    "# rupees\nRISK, STOP = 100, 2.0\nunused = 1",
    "def width(x):\n    return abs(x) * STOP\n\ndef gain(x): return width(x) - RISK",
    "def area(r): return math.pi * r * r",
    "LIMITS = [1, 2, 3]",
    "class Momo(ap.Strategy):\n    def on_bar(self, bar):\n        return gain(area(bar.close)), LIMITS",
]


@runs(12)
@given(st.permutations(INDEPENDENT[1:-1]))
def test_the_order_in_which_independent_cells_ran_does_not_matter(middle: list[str]) -> None:
    with notebook(*INDEPENDENT) as book:
        expected = book.freeze()
    with notebook(INDEPENDENT[0], *middle, INDEPENDENT[-1]) as book:
        assert book.freeze().source == expected.source
    with notebook(INDEPENDENT[0], INDEPENDENT[-1], *middle, *middle) as book:
        assert book.freeze().source == expected.source


def tangle(rng: random.Random) -> tuple[list[str], str]:
    """Cells of definitions that call earlier ones now, or when called, and name any other; and a use of some."""
    kinds = [
        rng.choice(("constant", "function", "lambda", "class", "decorated"))
        for _ in range(rng.randint(4, 14))
    ]
    use = [f"x{n}" if kind == "constant" else f"x{n}()" for n, kind in enumerate(kinds)]
    cells = [""]
    for n, kind in enumerate(kinds):
        now, later = (" + ".join(["1", *rng.sample(use[:n], rng.randint(0, min(n, 3)))]) for _ in range(2))
        named = f"if n is None: x{rng.randrange(len(kinds))}"  # never run: only looks like a need
        cells[-1] += {
            "constant": f"x{n} = {now}\n",
            "function": f"def x{n}(n={now}):\n    {named}\n    return {later}\n",
            "lambda": f"x{n} = lambda n=0: {later}\n",
            "class": f"class x{n}(int):\n    k = {now}\n    def __new__(cls, n=0):\n        {named}\n"
            f"        return {later}\n",
            "decorated": f"def d{n}(f): return lambda *a: f(*a) + 1\n@d{n}\ndef x{n}(n=0):\n    {named}\n"
            f"    return {later}\n",
        }[kind]
        cells += [""] if rng.random() < 0.5 else []
    return cells, f"return [{', '.join(rng.sample(use, 3))}]"


@pytest.mark.parametrize("seed", range(20))
def test_definitions_that_need_each_other_come_in_an_order_that_works(seed: int) -> None:
    rng = random.Random(seed)
    cells, body = tangle(rng)
    with notebook(IMPORTS, *cells, trader(body)) as book:
        capsule = book.freeze()
        fresh: Any = loaded(capsule)()
        assert fresh.on_bar(None) == book["Momo"]().on_bar(None)
        book.run(*rng.sample(cells, len(cells) // 3), fails=True)
        assert book.freeze().source == capsule.source


def test_what_stayed_behind_is_named_with_the_reason() -> None:
    cells = [
        f"{IMPORTS}\nimport math, json",
        "def helper(bar): return 1",
        "prices = [1, 2]\nprint(prices)\n%time 1\n!true",
        "def helper(bar): return math.pi",
        trader(),
        "%%bash\ntrue",
    ]
    with notebook(*cells) as book:
        book.run("this is (not python", fails=True)
        assert book.freeze().left_out == (
            "cell [1]: Param, ap, json: not needed by Momo",
            "cell [2]: helper: replaced by cell [4] line 1",
            "cell [3]: prices: not needed by Momo",
            "cell [3] line 2: defines nothing",
            "cell [3]: %time: a magic or shell line defines nothing",
            "cell [3]: !true: a magic or shell line defines nothing",
            "cell [6]: %%bash: a cell magic defines nothing",
            "cell [7]: not Python",
        )


def test_a_character_more_is_another_digest() -> None:
    with notebook(*CROSS) as book:
        first = book.freeze()
        assert book.freeze() == first
        book.run("SIZE = 10  # ten\nPERIODS = {'fast': 3, 'slow': 8}", CROSS[-1])
        second = book.freeze()
    assert second.source != first.source
    assert second.digest != first.digest
    assert len(first.digest) == 64


def test_an_instance_freezes_as_its_class_and_parameters_stay_outside() -> None:
    with notebook(*CROSS) as book:
        assert freeze(book["Momo"](size=77)) == book.freeze()
        assert "77" not in book.freeze().source


def test_an_instance_of_an_older_class_is_refused_and_an_unchanged_cell_may_run_again() -> None:
    with notebook(*CROSS) as book:
        old = book["Momo"]()
        book.run(CROSS[-1])
        assert freeze(old) == book.freeze()
        book.run(CROSS[-1].replace("if side:", "if side > 0:"))
        with pytest.raises(ValidationError, match=r"older than the one that cell \[6\]"):
            freeze(old)


def test_a_cell_that_raised_counts_as_far_as_it_came() -> None:
    with notebook(IMPORTS, "def helper(bar): return 1", trader()) as book:
        book.run("after = 1\n1 / 0\ndef helper(bar): return 2", fails=True)
        with pytest.raises(ValidationError, match=r"helper is not what cell \[4\] line 3 gives"):
            book.freeze()
        book.run("def helper(bar): return 3")
        assert "return 3" in book.freeze().source


def test_cells_outside_the_history_are_found_by_what_they_made() -> None:
    with notebook(IMPORTS) as book:
        book.run("def helper(bar): return 4", trader(), store_history=False)
        assert "return 4" in book.freeze().source


def test_nothing_of_the_check_stays() -> None:
    with notebook(*CROSS) as book:
        modules, cached = set(sys.modules), set(linecache.cache)
        book.freeze()
        assert set(sys.modules) == modules
        assert set(linecache.cache) == cached


def test_freezing_leaves_a_loaded_capsule_alone() -> None:
    with notebook(*CROSS) as book:
        capsule = book.freeze()
        kind = loaded(capsule)
        module = sys.modules[kind.__module__]
        assert book.freeze() == capsule
        assert freeze(kind).digest == capsule.digest
        assert sys.modules[kind.__module__] is module


@pytest.mark.parametrize("kind", [examples.OpeningBreakout, examples.VwapReversion])
def test_a_class_of_an_installed_package_is_imported(kind: type[ap.Strategy]) -> None:
    capsule = freeze(kind)
    assert f"from alphapanda.examples import {kind.__name__} as {kind.__name__}\n" in capsule.source
    assert loaded(capsule) is kind
    assert freeze(loaded(capsule)) == capsule
    assert "alphapanda.examples" in capsule.left_out[0]


@pytest.mark.parametrize("wrong", [ap.Strategy, int, 3, "Momo"])
def test_what_is_no_strategy_is_refused(wrong: Any) -> None:
    with pytest.raises(ValidationError, match="no strategy of yours"):
        freeze(wrong)


# ── modules beside the notebook, and files ───────────────────────────────────────────────────────────────────────

SIGNALS = '''"""Signals of ours."""

import math

import alphapanda as ap

SCALE = 2
__all__ = ["zscore", "Base"]


def zscore(x):
    # scaled
    return math.sqrt(abs(x)) * SCALE


class Base(ap.Strategy):
    n: int = ap.Param(3, low=1)


def unused(): ...
'''


@pytest.mark.parametrize(
    "wanted",
    [
        "from signals import zscore",
        "from signals import zscore as helper\nzscore = 'mine'",
        "from signals import *",
    ],
)
def test_definitions_of_a_module_beside_the_notebook_are_copied_in(beside: Path, wanted: str) -> None:
    (beside / "signals.py").write_text(SIGNALS)
    call = "helper(1)" if "helper" in wanted else "zscore(1)"
    with notebook(IMPORTS, wanted, trader(call)) as book:
        capsule = book.freeze()
        assert capsule.source.startswith("# Frozen by Alpha Panda from notebook cells, signals.py: Momo")
        assert "    # scaled\n" in capsule.source
        assert "SCALE = 2" in capsule.source
        assert "signals import" not in capsule.source
        assert "Base" not in capsule.source
        assert any(
            line.startswith("signals.py: Base, __all__, ap") and "unused" in line for line in capsule.left_out
        )
        assert freeze(loaded(capsule)).digest == capsule.digest


def test_a_base_class_beside_the_notebook_and_modules_that_import_each_other(beside: Path) -> None:
    package = beside / "desk"
    package.mkdir()
    (package / "__init__.py").write_text("from desk.core import K as ours\n")
    (package / "core.py").write_text(
        "import signals\nfrom signals import zscore, Base\nK = 5\ndef edge(x): return zscore(x)\n"
    )
    (beside / "signals.py").write_text(SIGNALS)
    cells = [
        "from desk.core import edge, Base\nfrom desk import ours",
        "class Momo(Base):\n    def on_bar(self, bar): return edge(bar.close), ours",
    ]
    with notebook(*cells) as book:
        capsule = book.freeze()
        for text in ("class Base(ap.Strategy):", "K = 5\n", "ours = K\n", "def zscore"):
            assert text in capsule.source
        assert loaded(capsule).parameters.keys() == {"n"}


BESIDE = {
    "the module as a whole": (
        {"signals.py": SIGNALS}, "import signals as sg", "sg.zscore(1) + sg.SCALE",
        "sg is the module signals", "from signals import SCALE, zscore",
    ),
    "a submodule": (
        {"desk/__init__.py": "", "desk/core.py": "K = 1"}, "from desk import core", "core.K",
        "core is the module desk.core", "from desk.core import K",
    ),
    "a relative import in it": (
        {"desk/__init__.py": "", "desk/core.py": "from .low import k\ndef f(): return k", "desk/low.py": "k = 1"},
        "from desk.core import f", "f()", "`from .low import k` is a relative import", "from desk.low import k",
    ),
    "an import of it inside a function": (
        {"signals.py": SIGNALS}, "import signals", "from signals import zscore\nzscore(1)",
        "`from signals import zscore` reads a module beside the notebook", "top level",
    ),
    "two things of one name": (
        {"signals.py": SIGNALS}, "from signals import zscore\nSCALE = 7", "zscore(SCALE)",
        "SCALE means two things", "rename",
    ),
    "a constant of it that was changed": (
        {"signals.py": SIGNALS}, "import signals\nfrom signals import zscore\nsignals.SCALE = 9", "zscore(1)",
        "SCALE is not what signals.py line 7 gives", "restart the kernel",
    ),
    "a name it makes in no readable way": (
        {"magic.py": "globals()['k'] = 1\nvars()['j'] = 2"}, "from magic import k", "k",
        "k is not defined at the top level of magic.py", "plain statement",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BESIDE)
def test_modules_beside_the_notebook_that_cannot_be_copied_in(beside: Path, case: str) -> None:
    files, wanted, call, says, fix = BESIDE[case]
    for name, text in files.items():
        (beside / name).parent.mkdir(exist_ok=True)
        (beside / name).write_text(text)
    with notebook(IMPORTS, wanted, trader(call)) as book, pytest.raises(ValidationError) as caught:
        book.freeze()
    assert says in caught.value.message
    assert fix in caught.value.fix


def test_a_script_that_was_run_into_the_notebook(beside: Path) -> None:
    file = beside / "tools.py"
    file.write_text(f"{IMPORTS}\ndef helper(bar): return 1\n{trader()}")
    with notebook(f"%run {file}") as book:
        assert "# Frozen by Alpha Panda from tools.py: Momo" in book.freeze().source
        book.run(IMPORTS, trader())
        with pytest.raises(ValidationError, match=r"helper .* lives only in the kernel") as caught:
            book.freeze()
    assert caught.value.fix == "write `from tools import helper`"


def test_a_module_that_changed_on_disk_is_refused(beside: Path) -> None:
    (beside / "signals.py").write_text(SIGNALS)
    with notebook(IMPORTS, "from signals import zscore", trader("zscore(1)")) as book:
        (beside / "signals.py").write_text(SIGNALS.replace("abs(x)", "abs(x + 1)") + "\n")
        with pytest.raises(ValidationError, match=r"zscore is not what signals.py line 11 gives") as caught:
            book.freeze()
    assert "restart the kernel" in caught.value.fix


SCRIPT = """
import sys
import alphapanda as ap
from alphapanda.capsule import freeze

SIZE = 3

class Momo(ap.Strategy):
    symbols = ["NSE:INFY"]
    size: int = ap.Param(SIZE)

later = 1
if __name__ == "__main__":
    print(freeze(Momo).digest)
"""


def python(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """A Python of its own, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, input=text, cwd=folder, capture_output=True, text=True, check=False, timeout=150
        )


def test_a_file_gives_one_digest_as_a_module_and_as_a_script_and_anywhere(beside: Path) -> None:
    file = beside / "momo.py"
    file.write_text(SCRIPT)
    import momo  # pyright: ignore[reportMissingImports] - written above

    capsule = freeze(momo.Momo)
    done = python(str(file))
    assert done.stdout.strip() == capsule.digest, done.stderr
    assert str(beside) not in capsule.source
    assert capsule.source.startswith("# Frozen by Alpha Panda from momo.py: Momo and what it needs.\n")
    (beside / "kept.py").write_text(capsule.source)
    import kept  # pyright: ignore[reportMissingImports] - written above

    assert freeze(kept.Momo).digest == capsule.digest  # a capsule that is copied elsewhere stays what it is


def test_a_clean_process_loads_the_same_class(beside: Path) -> None:
    with notebook(*CROSS) as book:
        capsule = book.freeze()
        expected = {n: (p.default, p.low, p.high) for n, p in book["Momo"].parameters.items()}
    file = beside / "strategy.py"
    file.write_text(capsule.source)
    code = (
        "import json, sys; from pathlib import Path; from alphapanda.capsule import freeze, load\n"
        "kind = load(Path(sys.argv[1]).read_text(), 'Momo', sys.argv[1])\n"
        "values = {n: (p.default, p.low, p.high) for n, p in kind.parameters.items()}\n"
        "print(json.dumps([freeze(kind).digest, kind.__module__, values]))"
    )
    done = python("-c", code, str(file))
    digest, module, values = json.loads(done.stdout or "[0, 0, {}]")
    assert digest == capsule.digest, done.stderr
    assert module == f"alphapanda_capsule_{digest[:16]}"
    assert {n: tuple(v) for n, v in values.items()} == expected


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="newer Pythons keep the text of what is typed")
def test_a_program_without_a_text_is_refused() -> None:
    done = python("-", text=SCRIPT.replace('if __name__ == "__main__":\n    ', ""))
    assert "an interactive session keeps no text of what ran" in done.stderr


def test_a_session_whose_lines_are_kept_freezes() -> None:
    main = ModuleType("__main__")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "__main__", main)
        for number, cell in enumerate((IMPORTS, "def helper(bar): return 1\nK = 2", trader("helper(K)"))):
            name = f"<python-input-{number}>"
            patch.setitem(linecache.cache, name, (len(cell), None, cell.splitlines(keepends=True), name))
            exec(compile(cell, name, "exec", dont_inherit=True), vars(main))  # noqa: S102 - as a prompt does
        with pytest.raises(ValidationError, match="Strategy"):  # a line that only imports leaves no trace
            freeze(vars(main)["Momo"])
        cell = f"{IMPORTS}\n{trader('helper(K)')}"
        patch.setitem(
            linecache.cache, "<again>", (len(cell), None, cell.splitlines(keepends=True), "<again>")
        )
        exec(compile(cell, "<again>", "exec", dont_inherit=True), vars(main))  # noqa: S102 - as a prompt does
        assert "from an interactive session: Momo" in freeze(vars(main)["Momo"]).source


# ── load ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_tracebacks_show_the_lines_of_a_loaded_capsule() -> None:
    with notebook(IMPORTS, "def helper(bar):\n    return bar.missing", trader()) as book:
        kind = loaded(book.freeze())
    report = ap.backtest(kind(), TAPE)
    (error,) = report.errors.to_dicts()
    assert error["file"].endswith("strategy.py")
    assert "return bar.missing" in error["traceback"]


def test_load_runs_the_text_in_a_namespace_of_its_own_each_time() -> None:
    with notebook(IMPORTS, "SEEN = []\n" + trader("SEEN.append(1)")) as book:
        capsule = book.freeze()
        one, two = loaded(capsule), loaded(capsule)
    assert one is not two
    assert one.on_bar.__globals__ is not two.on_bar.__globals__
    assert sys.modules[two.__module__].__file__ == "strategy.py"
    assert vars(sys.modules[two.__module__])["Momo"] is two


@pytest.mark.parametrize(
    ("source", "says", "line"),
    [
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'", 1),
        ("x = 1\nclass (", "SyntaxError", 2),
        ("x = 1\n\ndef f(): return 1 / 0\nf()", "ZeroDivisionError", 3),
        ("Momo = 1", "holds no strategy Momo", None),
        ("class Momo: pass", "holds no strategy Momo", None),
    ],
)
def test_a_text_that_does_not_load_says_why(source: str, says: str, line: int | None) -> None:
    with pytest.raises(ValidationError) as caught:
        load(source, "Momo", "strategy.py")
    assert caught.value.code == "E_CAPSULE"
    assert says in caught.value.message
    assert caught.value.context.get("line") == line
    if line:
        assert f"alphapanda_capsule_{digest_of(source)[:16]}" not in sys.modules


def test_what_fails_without_the_kernel_is_told_with_its_cell() -> None:
    flag = "import os\ndef check():\n    if not Switch.on: raise RuntimeError('off')\n    return 1"
    cells = [
        IMPORTS,
        "class Switch:\n    on = False",
        flag,
        "Switch.on = True\nK = check()\nSwitch.on = False",
        trader("return K"),
    ]
    with notebook(*cells) as book, pytest.raises(ValidationError) as caught:
        book.freeze()
    assert "cell [3] line 3 raises RuntimeError: off" in caught.value.message


# ── real kernels ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.timeout(180)  # a kernel starts twice as slowly on a busy machine as anything else here
def test_papermill_and_its_parameters(tmp_path: Path) -> None:
    cells = [IMPORTS, "SIZE = 10", *CROSS[1:2], "PERIODS = {'fast': 3, 'slow': 8}", CROSS[-1]]
    tail = "from alphapanda.capsule import freeze\nprint('digest', freeze(Momo).digest)"
    made = [
        {"cell_type": "code", "id": f"c{n}", "source": text, "outputs": [], "execution_count": None,
         "metadata": {"tags": ["parameters"]} if text.startswith("SIZE") else {}}
        for n, text in enumerate([*cells, tail])
    ]  # fmt: skip
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    book = {"cells": made, "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}}, "nbformat": 4,
            "nbformat_minor": 5}  # fmt: skip
    given, done = tmp_path / "given.ipynb", tmp_path / "done.ipynb"
    given.write_text(json.dumps(book))
    result = python("-m", "papermill", str(given), str(done), "-p", "SIZE", "25", "--no-progress-bar")
    assert result.returncode == 0, result.stderr
    outputs = itertools.chain.from_iterable(
        c.get("outputs", ()) for c in json.loads(done.read_text())["cells"]
    )
    printed = "".join("".join(o.get("text", "")) for o in outputs)
    with notebook(*cells[:2], "# Parameters\nSIZE = 25\n", *cells[2:]) as here:
        capsule = here.freeze()
    assert f"digest {capsule.digest}" in printed
    assert "SIZE = 25" in capsule.source
