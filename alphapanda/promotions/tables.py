"""The two tables, as they are after the newest migration."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, LargeBinary, MetaData, Table, Text, UniqueConstraint

METADATA = MetaData()

RECORDS = Table(
    "records",
    METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    *(Column(name, Text, nullable=False) for name in ("act", "role", "actor", "strategy", "namespace")),
    *(Column(name, Text, nullable=False) for name in ("digest", "parameters", "state")),
    Column("refers", BigInteger, nullable=False),
    *(Column(name, Text, nullable=False) for name in ("run", "account", "limits_json")),
    *(Column(name, BigInteger, nullable=False) for name in ("capital", "expires_at")),
    Column("auto_resume", Boolean, nullable=False),
    *(Column(name, Text, nullable=False) for name in ("approvers", "certificate", "reason")),
    *(Column(name, Text, nullable=False) for name in ("key", "signature", "previous", "hash")),
    UniqueConstraint("previous", name="records_no_fork"),  # one record follows one record
)

ARTIFACTS = Table(
    "artifacts",
    METADATA,
    Column("digest", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
)
