"""Zerodha: the order path that cannot send twice, and what stands around it.

Read in this order: ``states`` (the life of an intent as a table), ``intents`` (what is written down), ``store``
(where), ``outcomes`` (what an answer means), ``reading`` (what the broker's book says), ``limits`` (how fast),
``policy`` (how patient), ``onrecord``, ``hearing`` and ``orderpath`` (what is there, what was learnt, what to do next),
``client`` (Kite over HTTP), ``trader`` (all of it behind a gateway).
"""
