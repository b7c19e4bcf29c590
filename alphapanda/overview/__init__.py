"""Everything a person may want to see of a workspace, as one value that is read anew a few times a second.

    reader = Reader(workspace, settings).start()       # one a process, however many look
    reader.newest.lanes["paper"].net                   # paise
    reader.wait(after=reader.newest.number, timeout=1) # the next that differs

It reads what the others wrote (documents and topics on the server, the hub's answer, files) and changes nothing.
"""

from alphapanda.overview.market import Bars
from alphapanda.overview.reader import Reader
from alphapanda.overview.snapshot import (
    ErrorLine,
    Halt,
    Lane,
    LaneFill,
    LaneOrder,
    LanePosition,
    LimitUse,
    Overview,
    Price,
    Process,
    Today,
)
from alphapanda.overview.view import View

__all__ = [
    "Bars",
    "ErrorLine",
    "Halt",
    "Lane",
    "LaneFill",
    "LaneOrder",
    "LanePosition",
    "LimitUse",
    "Overview",
    "Price",
    "Process",
    "Reader",
    "Today",
    "View",
]
