"""The pages people look at: a Panel server under the hub, and the parts its dashboards are made of.

A dashboard is one file of ``dashboards/``: it asks ``visit`` for an open page, adds parts, each with the function that
says what it shows of an ``Overview``, and serves what ``page`` makes of them. Many pages, one reader, changes only.
"""

from alphapanda.panes.parts import Candles, Curve, Detail, Figures, Meters, Part, Table
from alphapanda.panes.visit import Visit, visit

__all__ = ["Candles", "Curve", "Detail", "Figures", "Meters", "Part", "Table", "Visit", "visit"]
