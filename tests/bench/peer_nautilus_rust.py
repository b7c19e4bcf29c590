"""nautilus_trader 1.231: its Rust engine with a Python strategy.

``tuned``: risk engine bypassed (its default check gets slower with every order), tick cache of 1, gc off;
``default``: as it comes but for its limit on orders a second; logging and post-run analysis off in both.
``empty``: the tuned engine with a strategy that does nothing. Fills come at the signal's own tick, its
convention for market orders.
"""

# pyright: reportMissingImports=false, reportMissingTypeStubs=false
from __future__ import annotations

import gc

from nautilus_trader.core import nautilus_pyo3 as nt

from tests.bench import job as sma
from tests.bench.child import arguments, tell, timed
from tests.bench.sma_python import Cross

VENUE = nt.Venue("SIM")


def instrument(name: str) -> nt.Equity:
    """One share on a grid of 0.05 rupees."""
    return nt.Equity(
        instrument_id=nt.InstrumentId(nt.Symbol(name), VENUE),
        raw_symbol=nt.Symbol(name),
        currency=nt.Currency.from_str("INR"),
        price_precision=2,
        price_increment=nt.Price.from_str("0.05"),
        ts_event=0,
        ts_init=0,
        lot_size=nt.Quantity.from_int(1),
    )


class Empty(nt.Strategy):
    """Listens and does nothing."""

    ids: list[nt.InstrumentId]

    def on_start(self) -> None:
        """Subscribe to every instrument's trades."""
        for instrument_id in self.ids:
            self.subscribe_trades(instrument_id)

    def on_trade(self, trade: nt.TradeTick) -> None:
        """Nothing."""


class SmaCross(Empty):
    """The job."""

    def on_start(self) -> None:
        """One cross an instrument, and what every order repeats."""
        self.orders = 0
        self.one = nt.Quantity.from_int(1)
        self.factory = self.order_factory
        self.crosses = {instrument_id: Cross() for instrument_id in self.ids}
        super().on_start()

    def on_trade(self, trade: nt.TradeTick) -> None:
        """Buy one on a cross up, sell one on a cross down."""
        instrument_id = trade.instrument_id
        crossed = self.crosses[instrument_id].update(trade.price.as_double())
        if crossed:
            self.orders += 1
            side = nt.OrderSide.BUY if crossed > 0 else nt.OrderSide.SELL
            self.submit_order(self.factory.market(instrument_id, side, self.one))


def main() -> None:
    """Measure one variant."""
    options = arguments("tuned", "default", "empty")
    job = sma.make(options.ticks, options.instruments)
    tuned = options.variant != "default"
    quiet = nt.LoggerConfig(bypass_logging=True)
    config = (
        nt.BacktestEngineConfig(
            bypass_logging=True,
            run_analysis=False,
            logging=quiet,
            risk_engine=nt.RiskEngineConfig(bypass=True),
            cache=nt.CacheConfig(tick_capacity=1),
        )
        if tuned
        else nt.BacktestEngineConfig(
            bypass_logging=True,
            run_analysis=False,
            logging=quiet,
            risk_engine=nt.RiskEngineConfig(max_order_submit_rate="1000000/00:00:01"),
        )
    )
    engine = nt.BacktestEngine(config)
    engine.add_venue(
        VENUE,
        nt.OmsType.NETTING,
        nt.AccountType.MARGIN,
        [nt.Money.from_str("1000000000.00 INR")],
        base_currency=nt.Currency.from_str("INR"),
    )
    shares = [instrument(name) for name in job.names]
    for share in shares:
        engine.add_instrument(share)
    strategy = (Empty if options.variant == "empty" else SmaCross)(
        nt.StrategyConfig(strategy_id=nt.StrategyId("SMA-001"))
    )
    strategy.ids = [share.id for share in shares]
    engine.add_strategy(strategy)

    ids, aggressor = strategy.ids, nt.AggressorSide.NO_AGGRESSOR
    columns = (job.ts.tolist(), job.instrument.tolist(), job.rupees.tolist(), job.volume.tolist())

    def prepare() -> None:
        engine.add_data(
            [
                nt.TradeTick(
                    ids[j], nt.Price(p, 2), nt.Quantity.from_int(v), aggressor, nt.TradeId(str(i)), t, t
                )
                for i, (t, j, p, v) in enumerate(zip(*columns, strict=True))
            ]
        )

    _, prep = timed(prepare)
    if tuned:
        gc.disable()
    _, cost = timed(engine.run)
    orders = 0 if options.variant == "empty" else strategy.orders
    result = engine.get_result()
    if result.total_orders != orders:
        raise AssertionError(f"sent {orders} orders, the engine has {result.total_orders}")
    filled = len(engine.cache.orders_closed())
    if filled != orders:
        raise AssertionError(f"sent {orders} orders, {filled} filled")
    tell(cost | {"ticks": len(job), "orders": orders, "prep": prep["cpu"]})


if __name__ == "__main__":
    main()
