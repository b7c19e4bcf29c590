"""Who let what trade with money: a record that is only ever added to, and the approvals written into it.

``states`` is the table of moves, ``records`` one signed entry, ``ledger`` the chain of them in a database, ``verify``
what finds a changed one, ``approvals`` what people and gateways do with it.
"""
