"""Waiting that can be interrupted, and the blocking twins of coroutines.

A kernel notices an interrupt only when Python runs: an await that sleeps for a minute keeps the stop button waiting for
a minute (ipython/ipykernel#881). So nothing here sleeps longer than ``STEP``. What was waited for goes on by itself: an
interrupt ends the waiting and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
STEP = 0.2  # seconds


async def nap(seconds: float) -> None:
    """Sleep, in steps."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while (rest := until - loop.time()) > 0:  # noqa: ASYNC110 - the steps are the point
        await asyncio.sleep(min(STEP, rest))


async def in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of a blocking call, made in a daemon thread: it keeps neither the loop nor the exit of Python."""
    future: Future[T] = Future()
    _start(future, functools.partial(call, *args, **kwargs))
    waiting = asyncio.wrap_future(future)
    try:
        while not waiting.done():
            await asyncio.wait({waiting}, timeout=STEP)
    except BaseException:
        waiting.cancel()  # so that nobody is told of an error that came too late
        raise
    return waiting.result()


def blocking(make: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a coroutine to its end from plain code, also where a loop runs in this thread, as in a notebook's cell.

    It runs on a loop of its own in a thread of its own. An interrupt here cancels it there.
    """
    future: Future[T] = Future()
    begun: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    async def main() -> T:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a running coroutine has one
        begun.append((asyncio.get_running_loop(), task))
        return await make(*args, **kwargs)

    thread = _start(future, lambda: asyncio.run(main()))
    over = threading.Event()
    future.add_done_callback(lambda _: over.set())
    try:
        while not over.wait(STEP):
            pass
    except BaseException:
        for loop, task in begun:
            with contextlib.suppress(RuntimeError):  # it has just ended
                loop.call_soon_threadsafe(task.cancel)
        thread.join(2 * STEP)
        raise
    return future.result()


def _start(future: Future[T], call: Callable[[], T]) -> threading.Thread:
    """Make a call in a daemon thread with this thread's context: what it shows belongs to the same cell."""
    context = contextvars.copy_context()

    def work() -> None:
        future.set_running_or_notify_cancel()
        try:
            made = context.run(call)
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            future.set_exception(error)
        else:
            future.set_result(made)

    thread = threading.Thread(target=work, name="alphapanda-call", daemon=True)
    thread.start()
    return thread


class Blocking:
    """The coroutine methods of an object as plain calls: ``session.sync.run(...)``, ``run.sync.wait(...)``."""

    def __init__(self, of: object) -> None:
        self._of = of

    def __repr__(self) -> str:
        return f"<blocking twin of {self._of!r}>"

    def __dir__(self) -> list[str]:
        names = (name for name in dir(type(self._of)) if not name.startswith("_"))
        return [name for name in names if inspect.iscoroutinefunction(getattr(type(self._of), name))]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in self.__dir__():
            raise AttributeError(f"{type(self._of).__name__} has no coroutine {name!r}", name=name, obj=self)
        method = getattr(self._of, name)

        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            return blocking(method, *args, **kwargs)

        return call
