"""How fast and how lean: `python -m tests.bench` for ours, `python -m tests.bench.peers` for the field.

Plain scripts, never collected by pytest. Every measurement runs in a fresh process (``child.py``) and
rounds are interleaved, because the same loop moves by a third between two minutes on a shared machine:
read ratios, not rates.
"""
