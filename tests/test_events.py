"""Envelopes and topics: from any fill the chain leads back to the tick; every name stands in one table."""

import datetime as dt

import msgspec
import pytest

from alphapanda.events import IST, EventEnvelope, Tick, Topics, ist, ist_day
from alphapanda.instruments import Instrument


def tick_envelope() -> EventEnvelope:
    tick = Tick("NSE:INFY", 1_795_146_300_000_000_000, 1500.05, 10)
    return EventEnvelope(
        id="t1",
        type="tick",
        ts=tick.ts,
        source="feed",
        namespace="paper",
        key=tick.symbol,
        correlation_id="c1",
        trace_id="r1",
        data=tick,
    )


def test_a_child_inherits_correlation_and_trace_and_names_its_parent() -> None:
    tick = tick_envelope()
    signal = tick.child(id="s1", type="signal", ts=tick.ts, source="runner", data={"quantity": 1})
    fill = signal.child(id="f1", type="fill", ts=tick.ts + 1, source="gateway", data=None, key="order-1")
    assert (fill.correlation_id, fill.trace_id, fill.namespace) == ("c1", "r1", "paper")
    assert (signal.key, fill.key) == ("NSE:INFY", "order-1")
    by_id = {envelope.id: envelope for envelope in (tick, signal, fill)}
    chain = [fill.id]
    while by_id[chain[-1]].causation_id:
        chain.append(by_id[chain[-1]].causation_id)
    assert chain == ["f1", "s1", "t1"]


def test_an_envelope_survives_the_wire() -> None:
    sent = tick_envelope()
    read = msgspec.msgpack.decode(msgspec.msgpack.encode(sent), type=EventEnvelope)
    assert msgspec.convert(read.data, Tick) == sent.data
    assert read.id == sent.id


@pytest.mark.parametrize(
    ("instrument", "topic"),
    [
        (Instrument(symbol="NSE:INFY", exchange="NSE"), Topics.EQUITY_TICKS),
        (Instrument(symbol="NFO:NIFTY26NOVFUT", exchange="NFO", kind="FUT"), Topics.EQUITY_TICKS),
        (Instrument(symbol="NFO:NIFTY26NOV24000CE", exchange="NFO", kind="CE"), Topics.OPTIONS_TICKS),
        (Instrument(symbol="CDS:USDINR26NOVFUT", exchange="CDS", kind="FUT"), Topics.FOREX_TICKS),
        (Instrument(symbol="MCX:GOLD26DECFUT", exchange="MCX", kind="FUT"), Topics.COMMODITY_TICKS),
        (Instrument(symbol="BINANCE:BTCUSDT", exchange="BINANCE", kind="SPOT"), Topics.CRYPTO_TICKS),
    ],
)
def test_an_instrument_travels_by_asset_class_never_by_namespace(instrument: Instrument, topic: str) -> None:
    assert instrument.topic == topic
    assert topic in Topics.market()


def test_topics_of_a_namespace_and_their_dead_letters() -> None:
    topic = Topics.of("zerodha", "orders.filled")
    assert topic == "zerodha.orders.filled"
    assert Topics.dead_letters(topic) == "zerodha.orders.filled.dlq"
    with pytest.raises(KeyError):
        Topics.of("zerodha", "orders.fil1ed")


def test_exchange_time_is_ist_whatever_the_host() -> None:
    ts = 1_795_146_300_000_000_000
    assert ist(ts) == dt.datetime(2026, 11, 20, 9, 15, tzinfo=IST)
    assert ist_day(ts) == (dt.date(2026, 11, 20) - dt.date(1970, 1, 1)).days
