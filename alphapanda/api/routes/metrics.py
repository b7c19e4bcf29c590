"""``/metrics``: figures for Prometheus, made of what was read last. Money in rupees, as its conventions want."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import CollectorRegistry, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from starlette.responses import Response

from alphapanda.api.documents import Routes
from alphapanda.api.platform import Platform
from alphapanda.clock import wall_ns
from alphapanda.overview import Lane, Today

MONEY = ("equity", "net", "realized", "unrealized", "charges", "gross")
EXAMPLE = '# TYPE alphapanda_net_rupees gauge\nalphapanda_net_rupees{namespace="paper"} 1845.0\n'
Rows = Iterable[tuple[tuple[str, ...], float]]


def add(routes: Routes, platform: Platform) -> None:
    """``/metrics``."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(platform))

    @routes.get("/metrics", role="view", tag="operations", answers="text/plain", example=EXAMPLE)
    async def metrics() -> Response:  # pyright: ignore[reportUnusedFunction]
        """Figures for Prometheus."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class _Figures(Collector):
    """One scrape's figures."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def describe(self) -> Iterable[Metric]:
        """None: what there is depends on what runs."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All of one overview."""
        seen, now = self._platform.newest, wall_ns()
        lanes = seen.lanes.values()
        yield _gauge("up", "1 while the server answers", (), [((), float(not self._platform.stale))])
        for name in MONEY:
            rows = [((lane.name,), getattr(lane, name) / 100) for lane in lanes]
            yield _gauge(f"{name}_rupees", f"{name} of a namespace", ("namespace",), rows)
        for name in Today.__struct_fields__:
            rows = [((lane.name,), getattr(lane.today, name) / 100) for lane in lanes]
            yield _gauge(f"today_{name}_rupees", f"{name} of the newest day", ("namespace",), rows)
        for name, about in (
            ("orders_today", "orders of the day"),
            ("signals", "signals heard"),
            ("denied", "denied"),
        ):
            rows = [((lane.name,), float(getattr(lane, name))) for lane in lanes]
            yield _gauge(name, about, ("namespace",), rows)
        held = [((lane.name,), float(len(lane.positions))) for lane in lanes]
        yield _gauge("positions", "open positions", ("namespace",), held)
        levels = [((lane.name,), float(lane.halt.level if lane.halt else 0)) for lane in lanes]
        yield _gauge("halt_level", "of the kill switch; 0: not pulled", ("namespace",), levels)
        yield _gauge("limit_used_ratio", "share of a limit", ("namespace", "limit"), _limits(lanes))
        ages = [((symbol,), max(0.0, (now - price.at) / 1e9)) for symbol, price in seen.prices.items()]
        yield _gauge("data_age_seconds", "since the newest tick was seen", ("symbol",), ages)
        letters = [((topic,), float(count)) for topic, count in seen.letters.items()]
        yield _gauge("dead_letters", "open dead letters", ("topic",), letters)
        states = [((view.run, view.namespace, view.state), 1.0) for view in seen.runs]
        yield _gauge("run", "1 for each run, with its state", ("run", "namespace", "state"), states)
        for name, about in (
            ("cpu", "percent of a core"),
            ("rss_mb", "memory in MB"),
            ("restarts", "restarts"),
        ):
            rows = [((one.role,), float(getattr(one, name))) for one in seen.processes]
            yield _gauge(f"process_{name}", about, ("role",), rows)
        errors = float(sum(row[-1] for row in seen.error_counts))
        yield _gauge("errors_day", "errors of the last day", (), [((), errors)])


def _gauge(name: str, about: str, labels: tuple[str, ...], rows: Rows) -> Metric:
    made = GaugeMetricFamily(f"alphapanda_{name}", about, labels=labels)
    for marks, value in rows:
        made.add_metric(marks, value)
    return made


def _limits(lanes: Iterable[Lane]) -> Rows:
    return [
        ((lane.name, one.name), one.used / one.limit) for lane in lanes for one in lane.limits if one.limit
    ]
