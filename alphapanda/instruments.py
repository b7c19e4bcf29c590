"""Instruments, and where each belongs: instrument → asset class → tick topic.

An instrument is keyed by ``EXCHANGE:TRADINGSYMBOL``; tokens are reused after expiry and never identify anything here.
"""

from __future__ import annotations

import datetime as dt
from functools import cached_property
from math import gcd
from typing import Literal

import msgspec

Kind = Literal["EQ", "FUT", "CE", "PE", "INDEX", "SPOT"]
AssetClass = Literal["equity", "options", "forex", "commodity", "crypto"]

CURRENCY = ("CDS", "BCD")
PRICE_SCALE = {"CDS": 10_000_000, "BCD": 10_000, "NCO": 10_000}  # others 100; kite.trade WebSocket docs


class Instrument(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One tradable contract, as of one day.

    ``tick_size`` is in price units (``price_scale`` units are one rupee). ``lot_size`` is the smallest order multiple
    in quantity steps; ``quantity_scale`` steps are one share or coin. ``multiplier`` is what one step stands for in
    the underlying (contract size on MCX and CDS, where quantities count lots). ``circuit`` is the daily price band in
    percent of the previous close (0: none). ``in_fo`` marks a cash stock with listed derivatives: it decides the
    closing auction of 2026.
    """

    symbol: str
    exchange: str
    kind: Kind = "EQ"
    name: str = ""
    token: int = 0
    tick_size: int = 5
    lot_size: int = 1
    price_scale: int = 100
    quantity_scale: int = 1
    multiplier: int = 1
    expiry: dt.date | None = None
    strike: int = 0
    circuit: float = 20.0
    in_fo: bool = False
    tradable: bool = True

    @property
    def tradingsymbol(self) -> str:
        """The part after the exchange."""
        return self.symbol.partition(":")[2]

    @cached_property
    def asset_class(self) -> AssetClass:
        """What decides the feed and the topic; never the namespace."""
        if self.kind in ("CE", "PE"):
            return "options"
        if self.exchange in CURRENCY:
            return "forex"
        if self.exchange in ("MCX", "NCO"):
            return "commodity"
        return "crypto" if self.kind == "SPOT" else "equity"

    @property
    def topic(self) -> str:
        """The shared topic its ticks travel on."""
        return f"market.{self.asset_class}.ticks"

    @cached_property
    def paise_ratio(self) -> tuple[int, int]:
        """``(n, d)``: price units x quantity steps x n / d is the value in paise."""
        n, d = self.multiplier * 100, self.price_scale * self.quantity_scale
        common = gcd(n, d)
        return n // common, d // common

    def rupees(self, units: int) -> float:
        """Price units as rupees."""
        return units / self.price_scale
