"""How the record's tables came to be: one Alembic revision a file in ``versions``, run when a ledger opens.

A new one is a file with ``revision``, ``down_revision`` and ``upgrade``; there is no way back, for records are only
added. It changes ``tables`` in the same commit.
"""
