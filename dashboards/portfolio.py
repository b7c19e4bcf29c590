"""Am I making money: today's P&L, what is held and ordered, each run, paper beside real. One Panel app.

It needs the platform's server for logins and acts (``alphapanda dashboard``); ``panel serve dashboards/portfolio.py``
shows the same to look at.
"""

from __future__ import annotations

import asyncio
from typing import Any

from alphapanda.hindsight.beside import drift
from alphapanda.panes import Candles, Curve, Detail, Figures, Meters, Table, books, visit

page = visit("portfolio")

money = Figures(large=True)
line = Curve("P&L over the day", wide="half left", empty="No run has shown its money yet: start one.")
prices = Candles("Prices and fills", hear=page.pick("symbol"), wide="half right")
held = Table(
    "Positions", books.POSITIONS, sort="symbol", wide="two left", height=230,
    empty="No position is open.",
)  # fmt: skip
used = Meters("Limits used", wide="third right")
trading = Table(
    "Runs, in all namespaces", books.RUNS, sort="strategy", hear=page.pick("run"), height=240,
    empty="No run trades. Start one in a notebook: session.run(Strategy()).",
)  # fmt: skip
placed = Table(
    "Orders", books.ORDERS, sort="-time", hear=page.pick("order"), pick=True, height=330,
    empty="No order yet. A strategy's first signal shows up here, also one that is denied.",
)  # fmt: skip
about = Detail(hear=page.pick("order"))
beside = Table(
    "Paper beside real", books.PAIRS, sort="strategy", hear=page.pick("pair"), height=200,
    empty="No strategy has run with the same parameters in two namespaces.",
)  # fmt: skip
differences = Detail(hear=page.pick("drift"))
shown: dict[str, Any] = {}


async def show_drift(message: dict[str, Any]) -> None:
    """Two runs of one strategy decision by decision; reading their files takes a moment."""
    key = str(message.get("key", ""))
    if key not in page.made(books.pairs, page.desk.overview):
        return
    page.tell({"text": "reading both runs", "bad": False})
    first, _, second = key.partition("|")
    found = await asyncio.to_thread(
        drift, first, second, workspace=page.desk.workspace, settings=page.desk.settings
    )
    text = "\n".join(found.lines)
    shown[key] = {"title": f"{first} beside {second}", "facts": [["drift", text]], "key": key}
    page.picked["drift"] = key


page.acts.add("drift", show_drift)
page.add(money, lambda now, it: it.made(books.figures, now, it.namespace))
page.add(line, lambda now, it: it.made(books.curve, now, it.namespace))
page.add(
    prices,
    lambda now, it: it.made(books.candles, now, it.namespace, it.picked.get("symbol", ""), it.desk.reader),
)
page.add(held, lambda now, it: it.made(books.positions, now, it.namespace))
page.add(used, lambda now, it: it.made(books.limits, now, it.namespace))
page.add(trading, lambda now, it: it.made(books.active, now))
page.add(placed, lambda now, it: it.made(books.orders, now, it.namespace))
page.add(about, lambda now, it: books.order(now, it.namespace, it.picked.get("order", "")))
page.add(beside, lambda now, it: it.made(books.pairs, now))
page.add(differences, lambda now, it: shown.get(it.picked.get("drift", "")))
page.serve(
    "Portfolio", money, line, prices, held, used, trading, placed, about, beside, differences
)  # fmt: skip
