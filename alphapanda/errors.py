"""Every error the platform raises, as one tree.

    AlphaPandaException
    ├── TransientError          may pass by itself: back off, try again, then dead-letter
    │   ├── AuthenticationError     the broker session is dead
    │   ├── BrokerError             the broker answered with a fault of its own
    │   ├── InfrastructureError     a machine, file or process failed
    │   │   ├── DatabaseError
    │   │   ├── RedisError
    │   │   └── StreamingError
    │   ├── MarketDataError         ticks are missing, stale or impossible
    │   ├── StrategyExecutionError  a strategy's callback raised
    │   └── OrderTimeoutError       an order's fate is unknown: never retried, looked up
    └── PermanentError          will fail again: dead-letter at once
        ├── ValidationError         an input is wrong
        │   ├── DataError               a file, column, row or tape is wrong
        │   └── UnknownNameError        no such symbol, parameter or key; names the nearest
        ├── RiskValidationError     our own risk rules said no
        ├── ConfigurationError      the settings are wrong
        ├── RulebookError           no dated rule covers the day
        ├── InsufficientFundsError
        ├── OrderRejectionError     the venue said no
        └── AuthorizationError      the caller may not do this

An error says what is wrong, in which object (``context``), and what to do about it (``fix``). ``str(error)`` is the
sentence a person reads; ``code`` is stable for programs. Placing an order is exempt from every retry policy here.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterable
from typing import Any, ClassVar

import msgspec


class RetryPolicy(msgspec.Struct, frozen=True):
    """How often and how patiently a failed operation is repeated. Delays are seconds."""

    attempts: int = 1
    delay_first: float = 0.0
    delay_max: float = 0.0
    jitter: float = 0.5  # share of each delay that is drawn at random

    def delay(self, attempt: int, draw: float) -> float:
        """Seconds to wait before try ``attempt`` + 1 (the first try is 1); ``draw`` is uniform in [0, 1)."""
        full = min(self.delay_max, self.delay_first * 2.0 ** (attempt - 1))
        return full * (1.0 - self.jitter * draw)


NEVER = RetryPolicy()
BACK_OFF = RetryPolicy(attempts=5, delay_first=0.2, delay_max=10.0)


class AlphaPandaException(Exception):
    """The root of the tree: a sentence, a fix, a stable code, and the objects it is about."""

    retry: ClassVar[RetryPolicy] = NEVER
    default_code: ClassVar[str] = "E_ALPHAPANDA"

    def __init__(
        self,
        message: str,
        *,
        fix: str = "",
        code: str | None = None,
        correlation_id: str | None = None,
        **context: Any,
    ) -> None:
        self.message = message
        self.fix = fix
        self.code = code or self.default_code
        self.correlation_id = correlation_id
        self.ts = time.time_ns()
        self.context = context
        super().__init__(message)

    def __str__(self) -> str:
        return f"{self.message}\n  fix: {self.fix}" if self.fix else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.__dict__.copy())


def _rebuild(kind: type[AlphaPandaException], message: str, state: dict[str, Any]) -> AlphaPandaException:
    """Errors cross process borders (a sweep's workers): keep every field on the way."""
    error = kind.__new__(kind, message)
    error.__dict__.update(state)
    return error


class TransientError(AlphaPandaException):
    """May pass by itself: exponential backoff with jitter, then the dead-letter topic."""

    retry = BACK_OFF
    default_code = "E_TRANSIENT"


class AuthenticationError(TransientError):
    """The broker session is dead; a person has to log in."""

    retry = RetryPolicy(attempts=2, delay_first=1.0, delay_max=1.0)
    default_code = "E_AUTHENTICATION"


class BrokerError(TransientError):
    """The broker answered with a fault of its own."""

    default_code = "E_BROKER"


class InfrastructureError(TransientError):
    """A machine, file or process we depend on failed."""

    default_code = "E_INFRASTRUCTURE"


class DatabaseError(InfrastructureError):
    """The relational store failed."""

    default_code = "E_DATABASE"


class RedisError(InfrastructureError):
    """The state and stream server failed."""

    default_code = "E_REDIS"


class StreamingError(InfrastructureError):
    """A topic could not be read or written."""

    default_code = "E_STREAMING"


class MarketDataError(TransientError):
    """Ticks are missing, stale or impossible."""

    default_code = "E_MARKET_DATA"


class StrategyExecutionError(TransientError):
    """A strategy's callback raised: that strategy is halted, the others go on."""

    retry = NEVER
    default_code = "E_STRATEGY"


class OrderTimeoutError(TransientError):
    """An order's fate is unknown. It is looked up by its tag and never sent again."""

    retry = NEVER
    default_code = "E_ORDER_UNKNOWN"


class PermanentError(AlphaPandaException):
    """Will fail again in the same way: the dead-letter topic at once."""

    default_code = "E_PERMANENT"


class ValidationError(PermanentError):
    """An input is wrong."""

    default_code = "E_VALIDATION"


class DataError(ValidationError):
    """A file, column, row or tape is wrong; ``context`` names which."""

    default_code = "E_DATA"


class UnknownNameError(ValidationError):
    """No such name; carries the nearest one that exists as ``nearest`` (None if nothing is close)."""

    default_code = "E_UNKNOWN_NAME"

    def __init__(self, what: str, name: str, known: Iterable[str], **context: Any) -> None:
        known = sorted(known)
        self.nearest = nearest(name, known)
        listed = ", ".join(known[:12]) + (f" and {len(known) - 12} more" if len(known) > 12 else "")
        hint = f"did you mean {self.nearest!r}?" if self.nearest else f"known: {listed or 'none'}"
        context.setdefault("fix", hint)
        super().__init__(f"unknown {what} {name!r}", name=name, **context)


class RiskValidationError(PermanentError):
    """Our own risk rules said no; nothing left the house."""

    default_code = "E_RISK"


class ConfigurationError(PermanentError):
    """The settings are wrong."""

    default_code = "E_CONFIG"


class RulebookError(PermanentError):
    """No dated rule covers the day: the platform stops rather than guess."""

    default_code = "E_RULEBOOK"


class InsufficientFundsError(PermanentError):
    """The account cannot pay for the order."""

    default_code = "E_FUNDS"


class OrderRejectionError(PermanentError):
    """The broker or the venue refused the order."""

    default_code = "E_REJECTED"


class AuthorizationError(PermanentError):
    """The caller is known and may not do this."""

    default_code = "E_AUTHORIZATION"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like ``name``, or None when nothing is close; case is ignored, and so may be an exchange."""
    known = list(known)
    folded = {k.casefold().partition(":")[2]: k for k in known if ":" in k} | {k.casefold(): k for k in known}
    found = difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.6)
    return folded[found[0]] if found else None
