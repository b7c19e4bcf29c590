"""What may leave in a log or a letter: texts and values that are short, printable and hold no secret.

Registered values, and whatever looks like a key or a password, are replaced in every text, exceptions included.
"""

from __future__ import annotations

import contextlib
import numbers
import re
import traceback
from collections.abc import Mapping
from functools import lru_cache
from itertools import islice
from typing import Any, cast
from urllib.parse import quote, quote_plus, unquote, urlsplit

import msgspec
from pydantic import BaseModel, SecretStr

TEXT = 1000  # characters of one value
TRACE = 2400  # characters of a traceback; its middle goes first
ITEMS = 40  # of one list or table
DEPTH = 5  # of lists within lists
HIDDEN = "***"

_WORDS = (
    r"(?:api[_-]?(?:key|secret)|(?:access|request|refresh|public|auth|session)[_-]?token|enctoken"
    r"|password|passwd|passphrase|secret|checksum|totp)"
)
# Without one of these none of the patterns matches.
_HINT = re.compile(r"token|secret|passw|passph|api[_-]?key|authoriz|bearer|checksum|totp|://")
_PATTERNS = (
    r"(?i)(authorization[\"']?\s*[:=]\s*[\"']?(?:[a-z]+\s+)?)[^\s\"']+",
    r"(?i)(\bbearer\s+|\btoken\s+(?=\w+:))[^\s\"']{4,}",
    rf"(?i)({_WORDS}\\*[\"']?\s*(?:[=:]|%3[ad])\s*)(?:\\*b?\"[^\"]*\"|b?'[^']*'|[\"']?[^\s\"'&,;)}}\]]+)",
    r"(?i)(\benctoken\s+)[^\s\"']{16,}",
    r"(://[^\s/:@]*:)[^\s/]+(?=@)",
)
_NAMED = re.compile(rf"(?i).*(?:{_WORDS}|authorization|cookie)")
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_secrets: set[str] = set()
_values = re.compile(r"(?!)")  # any of them


def register_secret(value: str) -> None:
    """No log line of this process will show ``value`` again, in any form libraries print it in; nor, if it is an
    address, the password in it. A very short one is replaced only where it stands as a word."""
    global _values
    if value in _secrets:
        return
    plain = {value}
    with contextlib.suppress(ValueError):
        plain.add((urlsplit(value).password or "") if "://" in value else "")
    for secret in (plain | {unquote(one) for one in plain}) - {""}:
        _secrets.update({secret, repr(secret)[1:-1]})
        with contextlib.suppress(ValueError):  # not Unicode: no library can send it
            written = msgspec.json.encode(secret).decode()[1:-1]
            _secrets.update({quote(secret, safe=""), quote_plus(secret), written})
    ordered = sorted(_secrets, key=len, reverse=True)
    forms = (re.escape(form) if len(form) > 5 else rf"(?<!\w){re.escape(form)}(?!\w)" for form in ordered)
    _values = re.compile("|".join(forms) or r"(?!)")
    _name.cache_clear()


def register_settings(model: BaseModel) -> None:
    """Register every secret the settings hold."""
    for field in type(model).model_fields:
        value = getattr(model, field)
        if isinstance(value, SecretStr):
            register_secret(value.get_secret_value())
        elif isinstance(value, BaseModel):
            register_settings(value)


def hidden(value: Any) -> Any:
    """JSON, of any size, in which no text holds a registered secret; else as it was, whatever looks like one."""
    if isinstance(value, str):
        return _values.sub(HIDDEN, value)
    if isinstance(value, Mapping):
        return {hidden(name): hidden(one) for name, one in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list):
        return [hidden(one) for one in cast("list[Any]", value)]
    return value


def redact(text: str) -> str:
    """The text without registered secrets and without whatever looks like a key or a password."""
    text = _values.sub(HIDDEN, text)
    if _HINT.search(text.lower()):
        for pattern in _PATTERNS:
            text = re.sub(pattern, rf"\1{HIDDEN}", text)
    return text


def safe_text(text: str, cap: int = TEXT) -> str:
    """Redacted, with control characters spelt out, at most ``cap`` characters."""
    if len(text) > 4 * cap:  # a secret that this cut goes through is cut away whole
        edge = max(map(len, _secrets), default=0)
        text = redact(text[: 4 * cap + edge])[: -edge or None]
    else:
        text = redact(text)
    if not text.isprintable():
        text = _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return text if len(text) <= cap else text[: cap - 1] + "…"


def safe_trace(error: BaseException, cap: int = TRACE) -> str:
    """The traceback with its causes, redacted before its middle is left out."""
    text = safe_text("".join(traceback.format_exception(error)).strip(), 100_000)
    return text if len(text) <= cap else f"{text[: cap // 3]}\n… cut …\n{text[-(cap - cap // 3) :]}"


def plain(value: Any, cap: int, depth: int = 0) -> Any:
    """The value as JSON may hold it: short, shallow, redacted."""
    if isinstance(value, str):
        return safe_text(value, cap)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, numbers.Integral):
        number = int(value)
        return (
            HIDDEN if str(number) in _secrets else number if number.bit_length() < 64 else str(number)[:cap]
        )
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, BaseException):
        return safe_text(f"{type(value).__name__}: {value}", cap)
    if isinstance(value, bytes | bytearray):
        return f"<{len(value)} bytes>"
    if depth < DEPTH and isinstance(value, Mapping):
        return table(cast("Mapping[Any, Any]", value), cap, depth)
    if depth < DEPTH and isinstance(value, list | tuple | set | frozenset):
        items = cast("tuple[Any, ...]", value)
        rest = [f"… {len(items) - ITEMS} more"] if len(items) > ITEMS else []
        return [plain(item, cap, depth + 1) for item in islice(items, ITEMS)] + rest
    return safe_text(str(value), cap)


def table(table: Mapping[Any, Any], cap: int, depth: int) -> dict[str, Any]:
    """As ``plain``, of names and values; a value whose name says that it is secret is hidden."""
    found: dict[str, Any] = {}
    for key, value in islice(table.items(), ITEMS):
        name, hidden = _name(str(key))
        found[name] = HIDDEN if hidden and value else plain(value, cap, depth + 1)
    return found | ({"…": f"{len(table) - ITEMS} more"} if len(table) > ITEMS else {})


@lru_cache(1024)
def _name(key: str) -> tuple[str, bool]:
    return safe_text(key, 80), _NAMED.fullmatch(key) is not None
