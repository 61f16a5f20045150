"""What the company's databases hold before the first customer comes."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from shoal_lab.company.passwords import password_hash
from shoal_lab.company.tokens import new_key

_TABLES = {
    "auth": (
        "CREATE TABLE users (name text PRIMARY KEY, password text NOT NULL, active boolean NOT NULL DEFAULT true)",
        "CREATE TABLE signing_keys (id text PRIMARY KEY, pem text NOT NULL)",
    ),
    "balance": ("CREATE TABLE balances (owner text PRIMARY KEY, cents bigint NOT NULL)",),
    "wallet": ("CREATE TABLE accounts (owner text PRIMARY KEY, locked boolean NOT NULL DEFAULT false)",),
}


async def seed(service: str, dsn: str, customers: Sequence[str], *, password: str) -> None:
    """Create and fill the tables of one service's database; *password* is that of every customer."""
    connection = await asyncpg.connect(dsn, timeout=10.0)
    try:
        for statement in _TABLES[service]:
            await connection.execute(statement)
        if service == "auth":
            users = [(name, password_hash(name, password)) for name in customers]
            await connection.copy_records_to_table("users", records=users, columns=("name", "password"))
            await connection.execute("INSERT INTO signing_keys VALUES ('key-1', $1)", new_key())
        elif service == "balance":
            accounts = [(name, 1_000 + 137 * number) for number, name in enumerate(customers)]
            await connection.copy_records_to_table("balances", records=accounts, columns=("owner", "cents"))
        else:
            await connection.copy_records_to_table("accounts", records=[(n,) for n in customers], columns=("owner",))
    finally:
        await connection.close()
