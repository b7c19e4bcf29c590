"""Records and artifacts, to which rows can be added and nothing else."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

TEXTS = (
    *("act", "role", "actor", "strategy", "namespace", "digest", "parameters", "state", "run", "account"),
    *("limits_json", "approvers", "certificate", "reason", "key", "signature", "previous", "hash"),
)
NUMBERS = ("at", "refers", "capital", "expires_at")
REFUSAL = "is only added to"


def upgrade() -> None:
    """Make the tables, and the triggers that refuse a change in the database itself."""
    op.create_table(
        "records",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in TEXTS),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in NUMBERS),
        sa.Column("auto_resume", sa.Boolean, nullable=False),
        sa.UniqueConstraint("previous", name="records_no_fork"),
    )
    op.create_table(
        "artifacts",
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    if op.get_bind().dialect.name == "sqlite":
        for table in ("records", "artifacts"):
            for act in ("UPDATE", "DELETE"):
                op.execute(
                    f"CREATE TRIGGER {table}_no_{act.lower()} BEFORE {act} ON {table}"
                    f" BEGIN SELECT RAISE(ABORT, '{table} {REFUSAL}'); END"
                )
        return
    op.execute(
        "CREATE FUNCTION only_added() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION '% {REFUSAL}', TG_TABLE_NAME; END $$"
    )
    for table in ("records", "artifacts"):
        op.execute(
            f"CREATE TRIGGER {table}_only_added BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION only_added()"
        )
