"""nautilus_trader's Cython engine (the only one of 1.221, the older one of 1.231) with a Python strategy.

``tuned``: risk engine bypassed, tick cache of 1, gc off, HEDGING with each sell closing its own position
instead of NETTING (which pickles every closed position), and the recorder of statistics a closed trade (a
pandas concat each) stubbed out. ``default``: as it comes, but for its limit on orders a second. Logging
and post-run analysis are off in both.
"""

# pyright: reportMissingImports=false, reportMissingTypeStubs=false
from __future__ import annotations

import gc

from nautilus_trader.analysis.analyzer import PortfolioAnalyzer
from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.cache.config import CacheConfig
from nautilus_trader.config import LoggingConfig, RiskEngineConfig, StrategyConfig
from nautilus_trader.model.currencies import Currency
from nautilus_trader.model.data import TradeTick
from nautilus_trader.model.enums import AccountType, AggressorSide, CurrencyType, OmsType, OrderSide
from nautilus_trader.model.identifiers import InstrumentId, PositionId, Symbol, TradeId, Venue
from nautilus_trader.model.instruments import Equity
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.trading.strategy import Strategy

from tests.bench import job as sma
from tests.bench.child import arguments, tell, timed
from tests.bench.sma_python import Cross

VENUE = Venue("SIM")
INR = Currency("INR", precision=2, iso4217=356, name="Indian rupee", currency_type=CurrencyType.FIAT)


class SmaCross(Strategy):
    """The job; with ``hedging`` an order against an open position names it."""

    def __init__(self, ids: list[InstrumentId], hedging: bool) -> None:
        super().__init__(StrategyConfig(strategy_id="SMA-001"))
        self.ids = ids
        self.hedging = hedging
        self.orders = 0
        self.one = Quantity.from_int(1)
        self.crosses = {instrument_id: Cross() for instrument_id in ids}
        self.open: dict[InstrumentId, PositionId] = {}

    def on_start(self) -> None:
        """Subscribe to every instrument's trades."""
        for instrument_id in self.ids:
            self.subscribe_trade_ticks(instrument_id)

    def on_trade_tick(self, tick: TradeTick) -> None:
        """Buy one on a cross up, sell one on a cross down."""
        instrument_id = tick.instrument_id
        crossed = self.crosses[instrument_id].update(tick.price.as_double())
        if crossed:
            self.orders += 1
            side = OrderSide.BUY if crossed > 0 else OrderSide.SELL
            order = self.order_factory.market(instrument_id, side, self.one)
            if self.hedging:
                self.submit_order(order, position_id=self.open.pop(instrument_id, None))
            else:
                self.submit_order(order)

    def on_position_opened(self, event) -> None:
        """Remember which position the next order closes."""
        if self.hedging:
            self.open[event.instrument_id] = event.position_id


def main() -> None:
    """Measure one variant."""
    options = arguments("tuned", "default")
    job = sma.make(options.ticks, options.instruments)
    tuned = options.variant == "tuned"
    quiet = {"logging": LoggingConfig(bypass_logging=True), "run_analysis": False}
    if tuned:
        quiet |= {"risk_engine": RiskEngineConfig(bypass=True), "cache": CacheConfig(tick_capacity=1)}
        for recorder in ("record_trade", "add_trade"):
            if hasattr(PortfolioAnalyzer, recorder):
                setattr(PortfolioAnalyzer, recorder, lambda *_, **__: None)
    else:
        quiet |= {"risk_engine": RiskEngineConfig(max_order_submit_rate="1000000/00:00:01")}
    engine = BacktestEngine(BacktestEngineConfig(**quiet))
    engine.add_venue(
        VENUE,
        OmsType.HEDGING if tuned else OmsType.NETTING,
        AccountType.MARGIN,
        [Money(1_000_000_000, INR)],
        base_currency=INR,
        trade_execution=True,
    )
    shares = [
        Equity(
            instrument_id=InstrumentId(Symbol(name), VENUE),
            raw_symbol=Symbol(name),
            currency=INR,
            price_precision=2,
            price_increment=Price.from_str("0.05"),
            lot_size=Quantity.from_int(1),
            ts_event=0,
            ts_init=0,
        )
        for name in job.names
    ]
    for share in shares:
        engine.add_instrument(share)
    ids = [share.id for share in shares]
    strategy = SmaCross(ids, hedging=tuned)
    engine.add_strategy(strategy)
    columns = (job.ts.tolist(), job.instrument.tolist(), job.rupees.tolist(), job.volume.tolist())

    def prepare() -> None:
        engine.add_data(
            [
                TradeTick(
                    ids[j],
                    Price(p, 2),
                    Quantity.from_int(v),
                    AggressorSide.NO_AGGRESSOR,
                    TradeId(str(i)),
                    t,
                    t,
                )
                for i, (t, j, p, v) in enumerate(zip(*columns, strict=True))
            ]
        )

    _, prep = timed(prepare)
    if tuned:
        gc.disable()
    _, cost = timed(engine.run)
    filled = len(engine.cache.orders_closed())
    if filled != strategy.orders:
        raise AssertionError(f"sent {strategy.orders} orders, {filled} filled")
    tell(cost | {"ticks": len(job), "orders": strategy.orders, "prep": prep["cpu"]})


if __name__ == "__main__":
    main()
