"""``python -m alphapanda.schedules.worker FD``: one notebook, run by papermill in a process with limits.

It is told what to run in the first line of its standard input, and ends, kernel and all, when that closes. What became
of the notebook is told over the pipe FD, which the kernel does not have: a notebook that was ended by a signal shows
no error, so nobody reads an outcome from one.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from alphapanda.errors import AlphaPandaException
from alphapanda.logs.redaction import register_settings
from alphapanda.schedules import source as sources
from alphapanda.settings import Settings

NICE = 5  # ticks come first
OUTPUT_BYTES_MAX = 32_000_000


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is to run: the notebook and its folder, where the executed one goes, and what it may use."""

    folder: str
    notebook: str
    executed: str
    parameters: dict[str, Any] = {}
    memory_mb: int = 4096
    output_bytes: int = OUTPUT_BYTES_MAX


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line on the pipe: first the kernel's pid, at last how it ended (``ok`` or an error)."""

    kernel: int = 0
    ended: bool = False
    ok: bool = False
    source: str = ""
    error: str = ""
    cell: int = 0
    message: str = ""


def main(descriptor: int) -> int:
    """Returns the exit code: 0 once the outcome was told, whatever it is."""
    os.set_inheritable(descriptor, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    kernel: list[int] = []
    threading.Thread(target=_end_with_parent, args=(kernel,), daemon=True).start()

    def tell(told: Told) -> None:
        if told.kernel:
            kernel.append(told.kernel)
        os.write(descriptor, msgspec.json.encode(told) + b"\n")

    with contextlib.suppress(AlphaPandaException):  # what a notebook may find in the settings' file, we find
        register_settings(Settings.load())
    os.nice(NICE)
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (order.memory_mb * 2**20, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    tell(_run(order, tell))
    return 0


def _run(order: Order, tell: Callable[[Told], None]) -> Told:
    digest = ""
    try:
        read = sources.read(sources.located(Path(order.folder), order.notebook))
        digest = read.digest
        parameters = sources.checked(read, order.parameters)
        _execute(read, parameters, order, tell)
    except AlphaPandaException as error:
        return Told(ended=True, source=digest, error=error.code, message=error.message)
    except Exception as error:  # noqa: BLE001 - the process's last stop: whatever it was goes on record
        if type(error).__name__ == "PapermillExecutionError":  # a cell raised
            cell: Any = error
            return Told(
                ended=True, source=digest, error=cell.ename, cell=cell.cell_index + 1, message=cell.evalue
            )
        return Told(ended=True, source=digest, error=type(error).__name__, message=str(error))
    return Told(ended=True, ok=True, source=digest)


def _execute(
    read: sources.Source, parameters: dict[str, Any], order: Order, tell: Callable[[Told], None]
) -> None:
    """Let papermill run it, with a kernel that is told of and outputs that are counted."""
    from alphapanda.schedules.engine import execute

    execute(
        read.document,
        order.executed,
        parameters,
        told=lambda pid: tell(Told(kernel=pid)),
        output_bytes=order.output_bytes,
    )


def _end_with_parent(kernel: list[int]) -> None:
    """Whoever started us is gone, or says so: nothing of ours goes on."""
    while sys.stdin.buffer.read(1024):
        pass
    for pid in kernel:
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
