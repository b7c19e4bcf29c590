"""papermill's engine with two things added: somebody hears of the kernel's process, and outputs have an end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jupyter_client.manager import AsyncKernelManager
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine
from papermill.log import logger

from alphapanda.errors import ValidationError


class CountedEngine(NBClientEngine):
    """Runs the cells as papermill does, until they have put out more than they may."""

    @classmethod
    def execute_managed_notebook(  # type: ignore[override]
        cls, nb_man: Any, kernel_name: str, *, told: Callable[[int], None], output_bytes: int, **_: Any
    ) -> Any:
        """``told`` is called with the kernel's pid once it runs."""

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
        if msg["msg_type"] in ("stream", "display_data", "update_display_data", "execute_result", "error"):
            self.left -= len(str(msg["content"]))
            if self.left < 0:
                raise ValidationError(
                    f"cell {cell_index + 1} prints more than a scheduled notebook may keep",
                    fix="write what is much into a file",
                    code="E_OUTPUT",
                )
        return super().process_message(msg, cell, cell_index)
