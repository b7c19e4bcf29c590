"""What the head of every page says: where one is, whether all is well, how old the data is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alphapanda.overview import Overview

if TYPE_CHECKING:
    from alphapanda.panes.visit import Visit

MILLISECOND = 1_000_000
PAGES = (("portfolio", "Portfolio"), ("errors", "Health"), ("runs", "Runs"))


def head(overview: Overview, visit: Visit) -> dict[str, Any]:
    """The frame's content."""
    return {
        **visit.made(common, overview, visit.namespace),
        "page": visit.page,
        "pages": PAGES,
        "person": visit.person.name,
        "role": visit.person.role,
        "stale": visit.desk.settings.monitoring.stale_tick_seconds,
        "account": visit.desk.settings.zerodha.user_id is not None,
    }


def common(overview: Overview, namespace: str) -> dict[str, Any]:
    """What all who look at a namespace see."""
    lanes = [
        {
            "name": lane.name,
            "live": lane.live,
            "halt": {"level": lane.halt.level, "reason": lane.halt.reason, "by": lane.halt.by}
            if lane.halt
            else None,
        }
        for lane in overview.lanes.values()
    ]
    heard = max((price.at for price in overview.prices.values()), default=0)
    feed = overview.process("feed")
    lane = overview.lanes.get(namespace)
    return {
        "lanes": lanes,
        "at": namespace,
        "known": overview.number > 0,
        "heard": heard // MILLISECOND,
        "tape": max((price.ts for price in overview.prices.values()), default=0) // MILLISECOND,
        "lost": overview.lost // MILLISECOND,
        "hub": overview.hub,
        "feed": feed.state if feed else "",
        "ended": bool(feed and feed.health.get("state") == "ended"),
        "troubles": [*overview.troubles][:4],
        "gateway": str((lane.gateway if lane else {}).get("state", "")),
    }
