"""What runs and ran, on whose word it trades, and what is scheduled. One Panel app."""

from __future__ import annotations

from alphapanda.panes import Detail, Table, books, history, visit

page = visit("runs")

all_runs = Table(
    "Runs", books.RUNS, sort="strategy", hear=page.pick("run"), pick=True, height=360,
    empty="Nothing has run here yet. In a notebook: await session.run(Strategy()).",
)  # fmt: skip
about = Detail(hear=page.pick("run"))
record = Table(
    "Promotions and certificates", history.RECORDS, sort="-number", height=280,
    empty="Nothing was proved yet: alphapanda prove. Only what is proved and approved trades with money.",
)  # fmt: skip
planned = Table(
    "Scheduled notebooks", history.SCHEDULES, sort="next", height=220,
    empty="Nothing is scheduled: alphapanda schedule add.",
)  # fmt: skip
done = Table(
    "What became of them", history.EXECUTED, sort="-due", height=300,
    empty="No scheduled notebook has run yet.",
)  # fmt: skip
page.add(all_runs, lambda now, it: it.made(books.runs, now))
page.add(about, lambda now, it: history.run(now, it.picked.get("run", "")))
page.add(record, lambda now, it: it.desk.slowly("promotions", history.promotions, {}))
page.add(planned, lambda now, it: it.desk.slowly("schedules", history.schedules, {}))
page.add(done, lambda now, it: it.desk.slowly("executed", history.executed, {}))
page.serve("Runs", all_runs, about, record, planned, done)
