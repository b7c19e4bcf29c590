"""Seals on messages that lead to orders: whoever can write to the server can still not trade.

A runner's signals, people's commands and a gateway's replies travel over the server; one that is not our own is open
to everybody who has its password. So each of these messages carries a keyed digest of its bytes and of the topic it
goes to. The key is a file of the workspace that only its owner can read.

    raw = seal.sealed(topic, envelope)
    envelope = seal.opened(topic, raw)      # AuthorizationError (E_SEAL) for anything else

The digest is the last field of the message, so the bytes before it are judged as they came, before anything reads them;
whoever only looks at a message decodes it like any other. A message may come twice: who acts on one knows its id.
"""

from __future__ import annotations

import hmac
from secrets import token_bytes
from typing import Self

from alphapanda.buses.base import decode, encode
from alphapanda.errors import AuthorizationError
from alphapanda.events import EventEnvelope
from alphapanda.logs.redaction import register_secret
from alphapanda.places import own_secret
from alphapanda.workspace import Workspace

SIZE = 32  # bytes of a key, and of a digest
MARK = b"\xa3mac\xc4\x20"  # msgpack: a field named mac, of 32 bytes
SEALED = ("signals.raw", "commands")  # and the replies to each run
KEY_FIX = "`alphapanda stop`, remove it, `alphapanda up`: the hub makes a new one"


class _Sealed(EventEnvelope, frozen=True, kw_only=True):
    mac: bytes = bytes(SIZE)


class Seal:
    """What one workspace's processes know each other by."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def of(cls, workspace: Workspace, *, make: bool = False) -> Self:
        """The workspace's own; its hub makes the key (``make``). ConfigurationError if there is none, or if others can
        read it (E_SECRET_EXPOSED)."""
        key = own_secret(workspace.bus_key, KEY_FIX, make=make)
        register_secret(key)
        return cls(bytes.fromhex(key))

    @classmethod
    def fresh(cls) -> Self:
        """One that nobody else has."""
        return cls(token_bytes(SIZE))

    def sealed(self, topic: str, envelope: EventEnvelope) -> bytes:
        """The event's bytes for this topic and no other."""
        fields = {name: getattr(envelope, name) for name in EventEnvelope.__struct_fields__}
        head = encode(_Sealed(**fields))[:-SIZE]
        return head + self._digest(topic, head)

    def opened(self, topic: str, raw: bytes) -> EventEnvelope:
        """The event that was sealed for this topic. AuthorizationError (E_SEAL) for one that was not."""
        head, given = raw[:-SIZE], raw[-SIZE:]
        if not head.endswith(MARK):
            raise _refusal(f"a message on {topic} is not sealed")
        if not hmac.compare_digest(given, self._digest(topic, head)):
            raise _refusal(
                f"a message on {topic} has a wrong seal: of another workspace or topic, or changed"
            )
        return decode(raw)

    def _digest(self, topic: str, head: bytes) -> bytes:
        return hmac.digest(self._key, b"%b\0%b" % (topic.encode(), head), "sha256")


def is_sealed(topic: str) -> bool:
    """Whether what travels there has to be sealed."""
    name = topic.partition(".")[2]
    return name in SEALED or name.startswith("runs.")


def _refusal(message: str) -> AuthorizationError:
    return AuthorizationError(
        message,
        fix="nothing was done; see who else can write to the server (REDIS__URL), and change its password",
        code="E_SEAL",
    )
