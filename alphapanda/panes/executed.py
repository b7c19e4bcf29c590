"""An executed notebook as a page to read: text and pictures, and nothing of it runs.

Whatever a cell has put out is shown as text, or as a picture that the browser decodes; what is HTML or a script in the
notebook stays what somebody typed. The answer forbids scripts and fetching besides (``POLICY``).
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any, cast

import msgspec

from alphapanda.errors import InfrastructureError
from alphapanda.logs.redaction import safe_text
from alphapanda.panes.login import look
from alphapanda.report.page import esc
from alphapanda.report.text import clean

PICTURES = ("image/png", "image/jpeg")
TEXT_MAX, FILE_MAX = 200_000, 64 * 1024 * 1024  # characters of one output; bytes of a notebook
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox allow-downloads"
STYLE = """body{max-width:900px;margin:0 auto;padding:18px 16px 60px}h1{font-size:18px}
pre{margin:0;font:12px/1.5 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere}
section{border:1px solid var(--line);border-radius:7px;background:var(--card);margin:9px 0;overflow:hidden}
section>*{padding:8px 12px}.in{background:var(--wash)}.note{font-family:inherit;font-size:13px}
.bad{color:var(--loss)}img{max-width:100%;background:#fff}p{color:var(--soft)}a{color:inherit}"""


def page(path: Path, number: int) -> str:
    """The notebook of a schedule's run as HTML. Blocks. InfrastructureError for what is no notebook."""
    try:
        if path.stat().st_size > FILE_MAX:
            raise InfrastructureError(f"{path.name} is too large to be shown", fix="open it as a file")
        book: Any = msgspec.json.decode(path.read_bytes())
        cells = cast("list[dict[str, Any]]", book["cells"])
        shown = "".join(_cell(one) for one in cells)
    except (OSError, msgspec.DecodeError, LookupError, TypeError, AttributeError):
        raise InfrastructureError(
            f"{path.name} cannot be read as a notebook", fix="open it as a file"
        ) from None
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{esc(path.name)} · Alpha Panda</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{look()}{STYLE}</style></head>'
        f"<body><h1>{esc(path.name)}</h1><p>As it came out of run {number}; nothing of it runs here. "
        f'<a href="/executed/{number}.ipynb">The notebook as a file</a></p>{shown}</body></html>'
    )


def _cell(cell: dict[str, Any]) -> str:
    source = safe_text(_text(cell.get("source")), TEXT_MAX)
    if cell.get("cell_type") != "code":
        return f'<section><pre class="note">{esc(source)}</pre></section>' if source else ""
    outputs = "".join(_output(one) for one in cell.get("outputs", ()))
    return f'<section><pre class="in">{esc(source)}</pre>{outputs}</section>' if source or outputs else ""


def _output(output: dict[str, Any]) -> str:
    match output.get("output_type"):
        case "stream":
            return _pre(output.get("text"))
        case "error":
            lines = output.get("traceback") or [f"{output.get('ename')}: {output.get('evalue')}"]
            return _pre("\n".join(str(line) for line in lines), "bad")
        case _:
            data = cast("dict[str, Any]", output.get("data") or {})
    for kind in PICTURES:
        if kind in data and (picture := _picture(kind, _text(data[kind]))):
            return picture
    return _pre(data.get("text/plain"))


def _picture(kind: str, text: str) -> str:
    try:
        body = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return ""
    return f'<div><img alt="" src="data:{kind};base64,{base64.b64encode(body).decode()}"></div>'


def _pre(text: Any, name: str = "") -> str:
    shown = safe_text(clean(_text(text)[:TEXT_MAX]), TEXT_MAX)
    return f'<pre class="{name}">{esc(shown)}</pre>' if shown.strip() else ""


def _text(value: Any) -> str:
    """A text of nbformat: one string, or its lines."""
    return "".join(map(str, cast("list[Any]", value))) if isinstance(value, list) else str(value or "")
