"""Where ticks come from: one process for all namespaces, and in it one place that puts every tick in order.

A ``Playback`` (the synthetic market or a tape) leads the tape clock through trading days; live venues such as
Binance's streams add what they heard since the last flush. The ``Sequencer`` numbers the rows, the tape log keeps
them, and only then the bus carries them. ``python -m alphapanda.feeds WORKSPACE`` runs it.
"""
