"""A local Kite Connect: REST, ticker, order book and faults, which the unmodified official client accepts as real.

``broker.Broker`` is the whole broker as a pure model (no clock, no I/O, no threads): the wire in ``serve`` and the
deterministic simulation of our order path run the same one. Sources of each rule are named where the rule is.
"""
