"""A proof as people see it: a table in the terminal, and in a notebook with the lanes drawn above each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alphapanda.certificate import Outcome
from alphapanda.proofs.trace import Trace, seq_of
from alphapanda.report import page as html
from alphapanda.report import text
from alphapanda.report.page import Column

if TYPE_CHECKING:
    from alphapanda.proofs.proof import Proof

WIDTH, LEFT, ROW = 720, 70, 22  # of the drawing
MARKS = 2_000  # most decisions that are drawn in one lane


def plain(proof: Proof) -> str:
    """As text."""
    lines = [proof.headline, ""]
    lines += [
        f"  {lane.lane:<10} {lane.digest}  {text.whole(len(lane.lines))} decisions" for lane in proof.lanes
    ]
    lines.append("")
    for check in proof.checks:
        lines.append(f"  {'ok  ' if check.passed else 'FAIL'} {check.name:<18} {check.detail}")
    if proof.difference is not None:
        lines += ["", *(f"  {line}" for line in str(proof.difference).splitlines())]
        lines.append("  proof.park() stands right after that row")
    return "\n".join(lines)


def page(proof: Proof) -> str:
    """As HTML."""
    verdict, tone = ("proved", "ap-gain") if proof.passed else ("not proved", "ap-loss")
    checks = [
        Column("", lambda c: "✓" if c.passed else "✗"),
        Column("check", lambda c: c.name),
        Column("what was found", lambda c: c.detail, "w"),
        Column("seconds", lambda c: f"{c.seconds:.1f}", "n"),
    ]
    facts = (
        f"{text.whole(len(proof.lanes[0].lines))} decisions on {text.whole(proof.tape.rows)} ticks, "
        f"{proof.seconds:.0f} s · class {proof.case.capsule.digest[:16]}"
    )
    found = ""
    if proof.difference is not None:
        found = f"<pre>{html.esc(str(proof.difference))}</pre><p>proof.park() stands right after that row</p>"
    return (
        f'<style>{html.CSS}</style><div class="ap"><h3>{html.esc(proof.case.name)} '
        f'<span class="{tone}">{verdict}</span></h3><p class="ap-soft">{html.esc(facts)}</p>'
        f"{_lanes(proof)}{html.table(_ordered(proof.checks), checks)}{found}</div>"
    )


def _ordered(checks: tuple[Outcome, ...]) -> list[Outcome]:
    """What failed first."""
    return sorted(checks, key=lambda c: c.passed)


def _lanes(proof: Proof) -> str:
    """Each lane's decisions along the tape, and where the first two part."""
    height = ROW * len(proof.lanes) + 4
    rows = max(1, proof.tape.rows)
    drawn = [_lane(lane, number, rows) for number, lane in enumerate(proof.lanes)]
    cut = ""
    if proof.difference is not None:
        x = _x(proof.difference.seq, rows)
        cut = f'<line x1="{x}" x2="{x}" y1="0" y2="{height}" stroke="#c8553d" stroke-width="1.5"/>'
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" width="100%" style="max-width:{WIDTH}px" role="img" '
        f'aria-label="decisions of each lane along the tape">{"".join(drawn)}{cut}</svg>'
    )


def _lane(lane: Trace, number: int, rows: int) -> str:
    top = ROW * number + 4
    step = max(1, len(lane.lines) // MARKS)
    marks = "".join(f"M{_x(seq_of(line), rows)} {top}v{ROW - 8}" for line in lane.lines[::step])
    return (
        f'<text x="0" y="{top + 11}" font-size="12" fill="currentColor">{html.esc(lane.lane)}</text>'
        f'<line x1="{LEFT}" x2="{WIDTH}" y1="{top + 7}" y2="{top + 7}" stroke="currentColor" stroke-opacity=".2"/>'
        f'<path d="{marks}" stroke="#3478c6" stroke-width="1" fill="none"/>'
    )


def _x(seq: int, rows: int) -> float:
    return round(LEFT + (WIDTH - LEFT) * min(seq / rows, 1.0), 1)
