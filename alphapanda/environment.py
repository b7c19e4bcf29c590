"""Variables as they are handed to processes that run what people wrote: without secrets that such code has no use for.

A strategy decides and a scheduled notebook asks: orders leave from the gateway, alerts from the watch. So neither finds
a broker's keys or the webhook's address among its variables, where a printed environment would show them. What a
session needs stays: the server's password, the record of promotions. A ``.env`` file is read by whoever runs as its
owner, and another broker's variables are not known here.
"""

from __future__ import annotations

from collections.abc import Mapping

SECRETS: Mapping[str, frozenset[str]] = {
    "zerodha": frozenset({"api_key", "api_secret", "access_token"}),
    "alpaca": frozenset(),  # its section is there as a whole or not at all
    "alerts": frozenset({"webhook_url"}),
}


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The same variables, but for those."""
    return {name: value for name, value in environment.items() if not _secret(name)}


def _secret(name: str) -> bool:
    section, divided, field = name.lower().partition("__")
    if section not in SECRETS:
        return False
    return not divided or not SECRETS[section] or field in SECRETS[section]  # undivided: all of it, as JSON
