"""The project itself: its files agree, everything parses and imports, and nothing private is in it."""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOP_LEVEL = {
    "alphapanda",
    "notebooks",
    "dashboards",
    "tests",
    "environment.yml",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Makefile",
    "constraints.txt",
}
REQUIRED = {
    "jupyterlab",
    "ipywidgets",
    "pandas",
    "polars",
    "redis",
    "kiteconnect",
    "pydantic-settings",
    "papermill",
    "panel",
}
CONDA_ONLY = {"python", "pip", "make", "valkey-server"}  # what pyproject cannot give
CONDA_NAMES = {"redis-py": "redis"}  # what conda calls a package differently
TOKEN = "q7Zk2mPx9Lr4" + "Tv8Ws1Yb6Nc3Hd5Jf0Ga"  # in two parts, so that this file passes its own scan


def committed() -> list[Path]:
    """Every file git has or would add."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def text(path: Path) -> str:
    """A file's text; empty if it is not text."""
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        return ""


def requirements() -> dict[str, str]:
    """Package → version bound, over pyproject's base and every extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ]
    split = [re.fullmatch(r"([\w.-]+)(?:\[[\w,]+\])?([^;]*)(?:;.*)?", line) for line in lines]
    return {hit[1].lower(): hit[2].strip() for hit in split if hit}


def conda() -> tuple[dict[str, str], list[str]]:
    """environment.yml as package → bound, and its pip lines (the file is flat enough to read by line)."""
    lines = (ROOT / "environment.yml").read_text().partition("dependencies:")[2].splitlines()
    pip = [line.strip()[2:] for line in lines if line.startswith("      - ")]
    own = [line.strip()[2:] for line in lines if line.startswith("  - ") and not line.endswith("pip:")]
    split = [re.fullmatch(r"([\w.-]+?)([<>=~].*)?", line) for line in own]
    return {CONDA_NAMES.get(hit[1], hit[1]): hit[2] or "" for hit in split if hit}, pip


def test_environment_and_pyproject_are_in_step() -> None:
    ours, (theirs, pip) = requirements(), conda()
    for line in pip:
        if not line.startswith("-e"):
            name, _, bound = line.partition(">=")
            theirs[name] = f">={bound}"
    assert "-e .[all]" in pip
    assert theirs.keys() - CONDA_ONLY == REQUIRED
    assert {name: ours[name] for name in REQUIRED} == {name: theirs[name] for name in REQUIRED}
    assert theirs["python"] == "=3.11"


def test_all_is_every_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras["all"] == [f"alphapanda[{','.join(name for name in extras if name != 'all')}]"]


def test_constraints_are_pins_and_nothing_else() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    for line in lines:
        assert re.fullmatch(r"[a-z0-9-]+==[\w.!+]+( ; [^#@]+)?", line), line
    pinned = {line.partition("==")[0] for line in lines}
    wanted = {name.replace("_", "-") for name in requirements()} - {"alphapanda"}
    assert wanted <= pinned


def test_constraints_meet_the_bounds() -> None:
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    bounds = requirements()
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        pin = Requirement(line)
        version = next(iter(pin.specifier)).version
        assert version in SpecifierSet(bounds.get(pin.name, "")), line


def test_the_command_resolves() -> None:
    (command,) = [one for one in entry_points(group="console_scripts") if one.name == "alphapanda"]
    assert callable(command.load())


def test_every_python_file_parses() -> None:
    files = [path for path in committed() if path.suffix == ".py"]
    assert files
    for path in files:
        ast.parse(text(path), str(path))


RUNS_WHAT_IT_READS = re.compile(  # as dotted names of what is called
    r"(?:cloudpickle|pickle|marshal|shelve|dill|joblib|yaml)\.(?:loads?|open|Unpickler)|(?:builtins\.)?(?:eval|exec)"
    r"|os\.(?:system|popen)|.*_cloudpickle\(\)\.loads"
)
MAY = {
    "alphapanda/sweeps.py: _cloudpickle().loads",  # a sweep's own workers get their job from it, over a pipe
    "alphapanda/capsule.py: exec",  # a module whose digest is the approved one
}


def test_nothing_that_is_read_can_run() -> None:
    """No pickle, eval or shell between a file, a message or a person and us: data is decoded by declared types."""
    found: set[str] = set()
    for path in committed():
        name = path.relative_to(ROOT).as_posix()
        if path.suffix != ".py" or not name.startswith(("alphapanda/", "dashboards/")):
            continue
        for node in ast.walk(ast.parse(text(path))):
            if isinstance(node, ast.Call):
                if RUNS_WHAT_IT_READS.fullmatch(called := ast.unparse(node.func)):
                    found.add(f"{name}: {called}")
                found |= {f"{name}: shell" for word in node.keywords if word.arg == "shell"}
    assert found == MAY


def modules() -> list[str]:
    """Every module of the package by its dotted name."""
    names = (p.relative_to(ROOT).with_suffix("").parts for p in (ROOT / "alphapanda").rglob("*.py"))
    return sorted(".".join(parts).removesuffix(".__init__") for parts in names)


@pytest.mark.parametrize("module", modules())
def test_every_module_imports(module: str) -> None:
    assert importlib.import_module(module).__doc__


def test_the_top_level_holds_what_belongs_there() -> None:
    names = {path.relative_to(ROOT).parts[0] for path in committed()}
    assert {name for name in names if not name.startswith(".")} <= TOP_LEVEL


def test_no_file_names_a_registry_or_a_machine() -> None:
    registries = [
        "pypi" + ".org",
        "python" + "hosted.org",
        "anaconda" + ".org",
        "npm" + "js.",
        "crates" + ".io",
    ]
    machine = r"(?<![\w.:/~-])/(?:root|work|home|Users|mnt)/\w"
    pattern = re.compile("|".join([*map(re.escape, registries), machine]))
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in committed()
        for number, line in enumerate(text(path).splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []


# ── the secret scan ─────────────────────────────────────────────────────────────────────────────
def scan(*paths: Path) -> subprocess.CompletedProcess[str]:
    """What `make check` runs."""
    command = [sys.executable, str(ROOT / ".ci" / "scan_secrets.py"), *map(str, paths)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "line",
    [
        f'access_token = "{TOKEN}"',
        f"ZERODHA__API_SECRET={TOKEN.lower()}",
        f"kite.set_access_token('{TOKEN}')",
        f'    "\\"access_token\\": \\"{TOKEN}\\"",',
        f'ZerodhaSettings(api_secret=SecretStr("{TOKEN}"))',
        f'api_key="{TOKEN[:16].lower()}"',
        f"wss://ws.example/?api_key=k&access_token={TOKEN}",
        "postgresql://someone:" + "hunter2abc" + "@host/db",
        "-----BEGIN RSA " + "PRIVATE KEY-----",
    ],
)
def test_a_planted_credential_is_caught_and_not_repeated(line: str, tmp_path: Path) -> None:
    planted = tmp_path / "notes.ipynb"
    planted.write_text(f"first\n{line}\n")
    result = scan(planted)
    assert result.returncode == 1
    assert f"{planted}:2" in result.stdout
    assert TOKEN.lower() not in (result.stdout + result.stderr).lower()


def test_names_and_marked_lines_are_not_credentials(tmp_path: Path) -> None:
    file = tmp_path / "fine.py"
    file.write_text(
        'api_key = os.environ["ZERODHA__API_KEY"]\naccess_token = settings.zerodha.access_token_of_the_session\n'
        f'access_token = "{TOKEN}"  # pragma: allowlist secret\napi_secret: str\n'
    )
    assert scan(file).returncode == 0


def test_the_project_holds_no_credential() -> None:
    committed()
    result = scan()
    assert result.returncode == 0, result.stdout


def test_a_credential_git_would_add_is_caught_without_naming_it(tmp_path: Path) -> None:
    committed()
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "new.py").write_text(f'access_token = "{TOKEN}"\n')
    command = [sys.executable, str(ROOT / ".ci" / "scan_secrets.py")]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout.splitlines()) == (1, ["new.py:1: Kite credential"])
