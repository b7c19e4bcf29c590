"""Every error says whose fault it is, what to do, and whether to try again."""

import copy
import inspect
import pickle

import pytest

from alphapanda import errors
from alphapanda.errors import (
    AlphaPandaException,
    OrderTimeoutError,
    PermanentError,
    RetryPolicy,
    TransientError,
    UnknownNameError,
    ValidationError,
)

KINDS = [k for _, k in inspect.getmembers(errors, inspect.isclass) if issubclass(k, AlphaPandaException)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_transient_or_permanent_and_drawn_in_the_tree(kind: type[AlphaPandaException]) -> None:
    assert kind is AlphaPandaException or issubclass(kind, TransientError) != issubclass(kind, PermanentError)
    assert errors.__doc__ is not None
    assert kind.__name__ in errors.__doc__
    assert kind.default_code.startswith("E_")


@pytest.mark.parametrize("kind", [k for k in KINDS if issubclass(k, PermanentError)])
def test_what_will_fail_again_is_never_retried(kind: type[AlphaPandaException]) -> None:
    assert kind.retry.attempts == 1


def test_an_order_whose_fate_is_unknown_is_never_retried() -> None:
    assert OrderTimeoutError.retry.attempts == 1


def test_delays_double_up_to_their_bound_and_jitter_only_shortens() -> None:
    policy = RetryPolicy(attempts=6, delay_first=0.5, delay_max=3.0, jitter=0.5)
    assert [policy.delay(attempt, 0.0) for attempt in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert policy.delay(2, 0.999) == pytest.approx(0.5, abs=1e-3)


def test_an_error_carries_sentence_fix_code_context_and_time() -> None:
    error = ValidationError(
        "quantity 0", fix="pass 1 or more", code="E_QUANTITY", correlation_id="c1", field="quantity"
    )
    assert str(error) == "quantity 0\n  fix: pass 1 or more"
    assert (error.code, error.context, error.correlation_id) == ("E_QUANTITY", {"field": "quantity"}, "c1")
    assert error.ts > 1_700_000_000 * 10**9


@pytest.mark.parametrize(
    "error", [ValidationError("a", fix="b", x=1), UnknownNameError("symbol", "INFI", ["NSE:INFY"])]
)
def test_errors_cross_process_borders_whole(error: AlphaPandaException) -> None:
    for twin in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):  # noqa: TID251 - what a sweep's workers do
        assert type(twin) is type(error)
        assert vars(twin) == vars(error)
        assert str(twin) == str(error)


@pytest.mark.parametrize(("name", "meant"), [("INFI", "NSE:INFY"), ("nse:tcs", "NSE:TCS"), ("XYZ", None)])
def test_the_nearest_name_is_found_with_or_without_its_exchange(name: str, meant: str | None) -> None:
    error = UnknownNameError("symbol", name, ["NSE:INFY", "NSE:TCS"])
    assert error.nearest == meant
    assert ("did you mean" in str(error)) == (meant is not None)
