"""What runs in a workspace, on one screen: as a table in a notebook, as text elsewhere."""

from __future__ import annotations

from typing import Any

from alphapanda.report import page, text
from alphapanda.report.page import Column, esc

Row = dict[str, Any]
SHOWN = 12  # runs


class Overview:
    """The hub's answer; ``raw`` is all of it. ``client`` marks whose runs are this notebook's."""

    def __init__(self, raw: dict[str, Any], client: str = "") -> None:
        self.raw, self.client = raw, client

    @property
    def processes(self) -> list[Row]:
        """Hub, server and their children: role, state, pid, cpu (percent), rss_mb, restarts, detail."""
        hub, server = self.raw["hub"], self.raw["server"]
        alive = "running" if server.get("alive") or not server.get("embedded") else "down"
        rows: list[Row] = [
            {**hub, "role": "hub", "error": "; ".join(hub.get("troubles") or ())},
            {**server, "role": "server", "state": alive},
            *self.raw["children"],
        ]
        return [
            {**row, "detail": row.get("error") or _part(row, "health").get("detail") or ""} for row in rows
        ]

    @property
    def runs(self) -> list[Row]:
        """Runs, those that run now last."""
        return self.raw["runs"]

    def __repr__(self) -> str:
        lines = [f"{self._summary()}", *(f"HALTED {name}: {_reason(flag)}" for name, flag in self._halts())]
        lines += ["", f"{'process':<26}{'state':<12}{'pid':>9}{'cpu %':>8}{'MB':>7}{'restarts':>10}"]
        for row in self.processes:
            role, state = text.one_line(row["role"], 25), text.one_line(row.get("state", ""), 11)
            lines.append(
                f"{role:<26}{state:<12}{row.get('pid') or '':>9}"
                f"{_one(row.get('cpu')):>8}{_one(row.get('rss_mb'), 0):>7}{row.get('restarts') or '':>10}  "
                f"{text.one_line(row['detail'], 60)}".rstrip()
            )
        if self.runs:
            lines += ["", f"{'run':<26}{'state':<12}{'net P&L':>17}{'open':>6}{'orders':>8}{'fills':>7}  of"]
        for row in self.runs[-SHOWN:]:
            lines.append(
                f"{text.one_line(row['run'], 25):<26}{_state(row):<12}{_net(row):>17}{_open(row):>6}"
                f"{_count(row, 'orders'):>8}{_count(row, 'fills'):>7}  {self._owner(row)}"
            )
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        processes = [
            Column("process", lambda row: row["role"]),
            Column("state", lambda row: row.get("state", "")),
            Column("pid", lambda row: row.get("pid") or "", "n"),
            Column("cpu %", lambda row: _one(row.get("cpu")), "n"),
            Column("MB", lambda row: _one(row.get("rss_mb"), 0), "n"),
            Column("restarts", lambda row: row.get("restarts") or "", "n"),
            Column("", lambda row: text.one_line(row["detail"], 200), "w"),
        ]
        runs = [
            Column("run", lambda row: row["run"]),
            Column("namespace", lambda row: row["namespace"]),
            Column("state", _state),
            Column("net P&L", lambda row: row["document"].get("net"), "s"),
            Column("open", _open, "n"),
            Column("orders", lambda row: _count(row, "orders"), "n"),
            Column("fills", lambda row: _count(row, "fills"), "n"),
            Column("of", self._owner),
            Column(
                "",
                lambda row: text.one_line(row.get("reason") or row["document"].get("reason") or "", 200),
                "w",
            ),
        ]
        halts = "".join(
            f'<div class="ap-alert"><b>{esc(name)} is halted</b> {esc(_reason(flag))}</div>'
            for name, flag in self._halts()
        )
        return (
            f'<style>{page.CSS}</style><div class="ap"><div class="ap-soft">{esc(self._summary())}</div>{halts}'
            f"{page.table(self.processes, processes)}"
            f"{page.table(self.runs[-SHOWN:], runs)}</div>"
        )

    def _summary(self) -> str:
        active = sum(bool(row.get("child")) for row in self.runs)
        runs = f"{active or 'no'} run{'s' * (active != 1)}"
        return f"hub {self.raw['hub'].get('state', '')} · {runs} · {len(self.raw['clients'])} connected"

    def _halts(self) -> list[tuple[str, Row]]:
        return sorted(self.raw["halts"].items())

    def _owner(self, row: Row) -> str:
        if row.get("client") == self.client:
            return "this notebook"
        owner = _part(row, "owner")
        pid = (
            f"process {owner['pid']} on {owner.get('host', '')}"
            if owner.get("pid")
            else str(row.get("client", ""))
        )
        return text.one_line(pid, 60)


def _reason(flag: Row) -> str:
    by = f" (by {flag['by']})" if flag.get("by") else ""
    return text.one_line(f"{flag.get('reason') or 'no reason was given'}{by}", 300)


def _one(value: Any, digits: int = 1) -> str:
    return text.decimal(value, digits) if isinstance(value, int | float) else ""


def _state(row: Row) -> str:
    return text.one_line(
        row["document"].get("state") or row["state"] if row.get("child") else row["state"], 11
    )


def _net(row: Row) -> str:
    net = row["document"].get("net")
    return "" if net is None else text.signed(net)


def _open(row: Row) -> str:
    return str(len(row["document"].get("positions") or ()) or "")


def _count(row: Row, name: str) -> str:
    return text.whole(_part(row["document"], "counts").get(name, 0))


def _part(row: Row, name: str) -> Row:
    return row.get(name) or {}
