"""Text for the machine's own starters, so that schedules survive a reboot: printed, never installed."""

from __future__ import annotations

import shlex
import sys

from alphapanda.errors import ValidationError
from alphapanda.workspace import Workspace


def systemd_unit(workspace: Workspace) -> str:
    """A user's unit that keeps the hub of this workspace running, and with it the schedules."""
    root, python = (_plain(text).replace("%", "%%") for text in (str(workspace.root), sys.executable))
    return f"""\
# ~/.config/systemd/user/alphapanda.service
# then: systemctl --user enable --now alphapanda; loginctl enable-linger
[Unit]
Description=Alpha Panda: hub, feed, gateways, schedules
After=network-online.target

[Service]
WorkingDirectory={root}
ExecStart="{python}" -P -m alphapanda.hub "{root}"
Restart=on-failure
RestartSec=5
KillMode=mixed
TimeoutStopSec=10

[Install]
WantedBy=default.target
"""


def cron_line(workspace: Workspace) -> str:
    """The same for cron: after a reboot, and every five minutes in case it has ended."""
    root, python = (
        shlex.quote(_plain(text)).replace("%", r"\%") for text in (str(workspace.root), sys.executable)
    )
    command = f"cd {root} && {python} -P -m alphapanda up --detach --quiet >/dev/null"
    return f"# crontab -e\n@reboot {command}\n*/5 * * * * {command}\n"


def _plain(path: str) -> str:
    if any(ord(letter) < 32 or letter in '"\\$' for letter in path):
        raise ValidationError(f"{path!r} cannot be written in a unit", fix="use a folder with a plainer name")
    return path
