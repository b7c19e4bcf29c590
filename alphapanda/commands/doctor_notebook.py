"""What ``alphapanda doctor`` looks at because a kernel may do all that its user may: who else can reach it."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, cast

import msgspec

from alphapanda.checks import Check
from alphapanda.processes import mark

LOOPBACK = ("localhost", "127.0.0.1", "::1", "")
FILES = ("jupyter_server_config", "jupyter_lab_config", "jupyter_notebook_config", "jupyter_config")

Facts = dict[str, Any]


def jupyter() -> Iterator[Check]:
    """Settings and running servers that let others run code here: whoever runs code as you can trade as you."""
    try:
        from jupyter_core.paths import jupyter_config_path, jupyter_runtime_dir
    except ImportError:
        return
    holes = [
        hole
        for folder in jupyter_config_path()
        for name in FILES
        for path in (Path(folder) / f"{name}.json", Path(folder) / f"{name}.py")
        for hole in exposed(path)
    ]
    holes += [
        hole for path in sorted(Path(jupyter_runtime_dir()).glob("jpserver-*.json")) for hole in served(path)
    ]
    if holes:
        fix = "take it out, and start JupyterLab again: a token, this machine only, no other origin"
        yield Check("jupyter", "failed", "; ".join(holes), fix)
    else:
        yield Check("jupyter", "ok", "a token, this machine only")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        yield Check(
            "user", "warning", "root", "trade as a user of its own: what breaks out of a notebook is root"
        )


def exposed(path: Path) -> list[str]:
    """What a file of Jupyter's settings opens to others, in half sentences."""
    given = _json(path) if path.suffix == ".json" else _assigned(path)
    found: list[str] = []
    for section, values in given.items():
        if isinstance(values, dict):
            named = cast("Facts", values)
            found += [
                f"{path}: {section}.{name} {why}" for name in named if (why := _hole(name, named[name]))
            ]
    return found


def _hole(name: str, value: Any) -> str:
    if name == "token" and value == "":
        return "is empty: anybody who reaches the port runs code"
    if name in ("allow_origin", "allow_origin_pat") and value in ("*", ".*"):
        return "lets every web page in"
    if name == "disable_check_xsrf" and value:
        return "lets other pages post to it"
    if name == "allow_root" and value:
        return "runs it as root"
    if name in ("ip", "host") and value not in LOOPBACK:
        return f"serves {value!r}, not this machine alone"
    return ""


def served(path: Path) -> list[str]:
    """The same of a server that runs, by the file it leaves."""
    facts = _json(path)
    pid = facts.get("pid")
    if not isinstance(pid, int) or not mark(pid):
        return []
    found: list[str] = []
    if not facts.get("token") and not facts.get("password"):
        found.append(f"the server on port {facts.get('port')} asks for no token")
    if facts.get("hostname") not in LOOPBACK:
        found.append(
            f"the server on port {facts.get('port')} serves {facts.get('hostname')}, not this machine alone"
        )
    return found


def startup() -> Iterator[Check]:
    """Files that Python runs at every start and that no installed package lists as its own."""
    owned = {
        Path(line.split(",", 1)[0]).name
        for one in distributions()
        for line in (one.read_text("RECORD") or "").splitlines()
        if ".pth," in line
    }
    folders = sorted({Path(folder) for folder in sys.path if folder.endswith("site-packages")})
    found = [path for folder in folders for path in sorted(folder.glob("*.pth"))]
    strange = [path for path in found if path.name not in owned and _runs(path)]
    if strange:
        shown = (
            f"{', '.join(path.name for path in strange)}: run with every Python process, and of no package"
        )
        yield Check(
            "start-up files", "failed", shown, f"look at them in {strange[0].parent}, and remove them"
        )
    else:
        yield Check("start-up files", "ok", "none that no package brought")


def _runs(path: Path) -> bool:
    """Whether a .pth file holds code, which is what a line that begins with import is."""
    try:
        return any(line.startswith(("import ", "import\t")) for line in path.read_text("utf-8").splitlines())
    except (OSError, UnicodeDecodeError):
        return True


def _json(path: Path) -> Facts:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Facts)
    except (OSError, msgspec.MsgspecError):
        return {}


def _assigned(path: Path) -> Facts:
    """``c.ServerApp.token = ''`` as {"ServerApp": {"token": ""}}, without running the file."""
    found: dict[str, Facts] = {}
    try:
        tree = ast.parse(path.read_text("utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError):
        return {}
    for node in ast.walk(tree):
        match node:
            case ast.Assign(
                targets=[ast.Attribute(value=ast.Attribute(value=ast.Name(id="c"), attr=section), attr=name)],
                value=ast.Constant(value=value),
            ):
                found.setdefault(section, {})[name] = value
            case _:
                pass
    return found
