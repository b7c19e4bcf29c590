"""What may not stand in a frozen module, why, and what to write instead: the tables behind the refusals."""

from __future__ import annotations

import ast
import builtins

FORBIDDEN = {
    "eval": "runs code that nobody can review",
    "exec": "runs code that nobody can review",
    "compile": "runs code that nobody can review",
    "__import__": "imports what nobody can see",
    "globals": "reads the kernel's names",
    "locals": "reads names that the frozen module may not have",
    "input": "waits for a person",
    "breakpoint": "waits for a person",
    "exit": "ends the process that trades",
    "quit": "ends the process that trades",
    "get_ipython": "needs the notebook's kernel",
    "display": "needs the notebook's kernel",
    "__file__": "differs from machine to machine",
}
INSTEAD = {
    "input": "declare a Param",
    "display": "write self.log(...)",
    "exit": "raise an error, which halts the strategy alone",
    "quit": "raise an error, which halts the strategy alone",
    "__import__": "write an import statement",
    "get_ipython": "write as plain Python what the magic or shell line does",
}
SEEDED = "draw from self.random, which every replay seeds alike"
RUNTIME = {"Logger": "write self.log(...)", "Random": SEEDED, "Generator": SEEDED, "RandomState": SEEDED}
BUILTINS = frozenset(vars(builtins)) - {"display", "__IPYTHON__"}  # IPython adds the two
UNLIFTED = (
    ((ast.AugAssign,), "is changed in place", "give it its value in one assignment"),
    (
        (ast.For, ast.AsyncFor, ast.While),
        "is set in a loop",
        "write one expression, such as a comprehension, or a function",
    ),
    ((ast.With, ast.AsyncWith), "is set inside a with block", "write its value as a constant or a Param"),
    ((ast.Delete,), "is deleted", "run the cell that defines it again"),
)
