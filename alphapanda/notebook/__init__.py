"""The notebook's side: a session with the hub, handles of runs with a live card, waiting that can be interrupted.

``alphapanda.connect`` is where it begins. Nothing of a run lives here: a kernel that is busy, interrupted or killed
changes nothing about how it trades.
"""
