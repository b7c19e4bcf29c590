"""papermill, with three things added to its engine: somebody hears of the kernel's process, outputs have an end, and
no secret that is registered here stands in them.

The one place that imports it: papermill and what it stands on have no types.
"""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.manager import AsyncKernelManager
from papermill import execute_notebook
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.log import logger

from alphapanda.errors import ValidationError
from alphapanda.logs.redaction import hidden

SHOWS = ("stream", "display_data", "update_display_data", "execute_result", "error")


def execute(
    document: dict[str, Any],
    executed: str,
    parameters: dict[str, Any],
    *,
    told: Callable[[int], None],
    output_bytes: int,
) -> None:
    """Run a notebook in the current folder and keep it as ``executed``, cell by cell. ``told`` is called with the
    kernel's pid. Raises PapermillExecutionError for a cell that raised, ValidationError E_OUTPUT."""
    papermill_engines.register("counted", _Engine)
    execute_notebook(
        _upgraded(document),
        executed.replace("{", "{{").replace("}", "}}"),  # papermill would fill in parameters
        parameters=parameters,
        engine_name="counted",
        progress_bar=False,
        cwd=str(Path.cwd()),
        told=told,
        output_bytes=output_bytes,
    )


def _upgraded(document: dict[str, Any]) -> nbformat.NotebookNode:
    """In the newest format; one that names no kernel is Python's."""
    book = nbformat.v4.upgrade(nbformat.from_dict(document))
    if not book.metadata.get("kernelspec", {}).get("name"):
        book.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
    return book


class _Engine(NBClientEngine):
    """Runs the cells as papermill does, until they have put out more than they may."""

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: Any, kernel_name: str, *, told: Callable[[int], None], output_bytes: int, **_: Any
    ) -> Any:
        class Told(AsyncKernelManager):
            async def start_kernel(self, **kw: Any) -> None:
                await super().start_kernel(**kw)
                told(getattr(self.provisioner, "pid", 0) or 0)

        client = _Client(
            nb_man, kernel_name=kernel_name, log=logger, startup_timeout=60, timeout=None,
            kernel_manager_class=Told,
        )  # fmt: skip
        client.left = output_bytes
        return client.execute()


class _Client(PapermillNotebookClient):
    left = 0  # bytes that may still come

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        """Every message of the kernel that shows something comes through here."""
        if msg["msg_type"] in SHOWS:
            msg["content"] = hidden(msg["content"])  # the executed notebook is kept, and shown on a page
            self.left -= len(str(msg["content"]))
            if self.left < 0:
                raise ValidationError(
                    f"cell {cell_index + 1} prints more than a scheduled notebook may keep",
                    fix="write what is much into a file",
                    code="E_OUTPUT",
                )
        return super().process_message(msg, cell, cell_index)
