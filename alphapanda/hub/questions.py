"""What may be asked of the hub, named as on the wire, and how it refuses."""

from __future__ import annotations

from typing import Any

import msgspec

from alphapanda.errors import AlphaPandaException, ValidationError
from alphapanda.workspace import checked

Answer = dict[str, Any]


class Asked(msgspec.Struct, tag_field="do", forbid_unknown_fields=True):
    """A question; the classes below are all there are, named as on the wire."""


class Ping(Asked, tag="ping"):
    """Is it there, is it ready?"""


class Status(Asked, tag="status"):
    """Everything, for people."""


class Hold(Asked, tag="hold"):
    """Keep this client's runs for as long as the connection stands."""

    client: str


class Start(Asked, tag="run", kw_only=True):
    """Run this module's class, or attach to what runs already. ``capital`` in paise; earlier ticks than ``trade_from``
    (tape ns) only warm up. ``limits`` and ``auto_resume`` as in ``RunSpec``; in a namespace with real money the
    approval's count instead."""

    namespace: str
    name: str
    class_name: str
    module: str
    digest: str
    parameters: dict[str, Any] = {}
    symbols: list[str] = []
    capital: int | None = None
    client: str = ""
    detach: bool = False
    replace: bool = False
    seed: int = 0
    trade_from: int = 0
    limits: dict[str, Any] | None = None
    auto_resume: bool = True

    def check(self) -> None:
        """ValidationError for what no run can be made of."""
        checked(self.namespace)
        for name in ("name", "class_name", "digest"):
            if not 0 < len(getattr(self, name)) <= 200:
                raise ValidationError(f"{name} has 1 to 200 characters", fix=f"send {name}")
        if not self.class_name.isidentifier():
            raise ValidationError(
                f"class_name {self.class_name!r} is no name of a class", fix="send the class's name"
            )
        if self.capital is not None and not 0 < self.capital <= 10**15:
            raise ValidationError(f"capital {self.capital} paise", fix="send an amount above 0, or none")


class Stop(Asked, tag="stop"):
    """End a run, named by its id or its strategy."""

    run: str
    flatten: bool = False


class StopAll(Asked, tag="stop_all"):
    """End all runs."""

    flatten: bool = False


class Shutdown(Asked, tag="shutdown"):
    """End everything, the hub too."""

    flatten: bool = False


class Restart(Asked, tag="restart"):
    """End one child and start it again."""

    role: str


class Offer(Asked, tag="offer"):
    """Keep these roles (``crew.OFFERED``), now and with every hub to come; ``end`` them instead."""

    roles: list[str]
    end: bool = False


QUESTION = msgspec.json.Decoder(Ping | Status | Hold | Start | Stop | StopAll | Shutdown | Restart | Offer)


def refusal(error: AlphaPandaException) -> bytes:
    """The answer that says no, and why."""
    fault = {"message": error.message, "fix": error.fix, "code": error.code, "kind": type(error).__name__}
    context = {key: value for key, value in error.context.items() if isinstance(value, str | int)}
    return msgspec.json.encode({"ok": False, "error": {**fault, "context": context}}) + b"\n"
