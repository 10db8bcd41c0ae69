"""asyncpg: its own protocol code, binary both ways, Parse and Describe with Flush before Bind, a pool that resets."""

import asyncio
import datetime
import decimal
import io
import ssl
import uuid

import asyncpg

from steps import HANG_S, ask, check, env, run

ME = "asyncpg"


def settings(**more):
    context = ssl.create_default_context(cafile=env("PGSSLROOTCERT"))
    return {
        "host": "localhost", "port": int(env("PGPORT")), "user": env("PGUSER"), "database": env("PGDATABASE"),
        "password": env("PGPASSWORD"), "ssl": context, "timeout": HANG_S, **more,
    }


async def connect(**more):
    return await asyncpg.connect(**settings(**more))


async def fails(sqlstate, act):
    try:
        await act
    except asyncpg.PostgresError as error:
        check(f"sqlstate of {error}", sqlstate, error.sqlstate)
        return error
    raise AssertionError(f"{sqlstate} did not come")


async def connects():
    db = await connect()
    check("TLS", True, db._transport.get_extra_info("ssl_object") is not None)
    await db.close()
    await fails("28000", connect(password=env("PGPASSWORD") + "x"))
    db = await connect(server_settings={"application_name": "x", "timezone": "UTC"})
    check("setting", "UTC", await db.fetchval("SHOW timezone"))
    await db.close()


async def simple():
    db = await connect()
    check("tag", "SELECT 1", await db.execute("SELECT 1; SELECT 2"))
    await db.close()


async def extended():
    db = await connect()
    statement = await db.prepare("SELECT name FROM items WHERE id = $1")
    for n in range(1, 21):
        check("name", f"item {n}", await statement.fetchval(n))
    check("values", ("ü€", None, [1, None, 3]), tuple(await db.fetchrow("SELECT $1::text, $2::int, $3::int[]", "ü€", None, [1, None, 3])))
    for n in range(150):
        check("cache", n, await db.fetchval(f"SELECT $1::int + {n} - {n}", n))
    await db.close()


async def binary():
    db = await connect()
    value = (2**63 - 1, 0.1, b"\0\xff'\\", datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc), uuid.UUID(int=7),
             decimal.Decimal("12345678901234567890.12"), [1, None, 3], '{"a": 1}')
    got = await db.fetchrow(
        "SELECT $1::int8, $2::float8, $3::bytea, $4::timestamptz, $5::uuid, $6::numeric, $7::int[], $8::jsonb", *value)
    check("values", value, tuple(got))
    await db.close()


async def transaction():
    db = await connect()
    async with db.transaction(isolation="serializable"):
        await db.execute("INSERT INTO notes (test) VALUES ($1)", ME)
        try:
            async with db.transaction():
                await db.execute("INSERT INTO items (id, name) VALUES (1, 'again')")
        except asyncpg.UniqueViolationError:
            pass
        check("rows", 1, await db.fetchval("SELECT count(*) FROM notes WHERE test = $1", ME))
    async with db.transaction(readonly=True):
        await fails("25006", db.execute("INSERT INTO notes (test) VALUES ($1)", ME))
    await db.close()


async def batch():
    db = await connect()
    await db.executemany("INSERT INTO notes (test, body) VALUES ($1, $2)", [(ME + "-batch", str(n)) for n in range(1000)])
    check("rows", 1000, await db.fetchval("SELECT count(*) FROM notes WHERE test = $1", ME + "-batch"))
    await db.close()


async def copy_in():
    db = await connect()
    tag = await db.copy_records_to_table("notes", records=[(ME + "-copy", f"row {n}") for n in range(3000)], columns=["test", "body"])
    check("rows", "COPY 3000", tag)
    bad = io.BytesIO(b"no number\tx\n" * 5000)
    await fails("22P02", db.copy_to_table("items", source=bad, columns=["id", "name"]))
    check("behind it", 1, await db.fetchval("SELECT 1"))
    await db.close()


async def copy_out():
    db = await connect()
    out = io.BytesIO()
    await db.copy_from_query("SELECT id FROM items WHERE id < $1 ORDER BY id", 501, output=out)
    check("rows", [str(n).encode() for n in range(1, 501)], out.getvalue().split())
    await db.copy_from_table("items", output=io.BytesIO(), format="binary")
    await db.close()


async def cursor():
    db = await connect()
    async with db.transaction():
        count = 0
        async for _ in db.cursor("SELECT id FROM items WHERE id > $1 ORDER BY id", 0, prefetch=7):
            count += 1
        check("rows", 1000, count)
        c = await db.cursor("SELECT id FROM items ORDER BY id")
        await c.forward(10)
        check("moved", 11, (await c.fetchrow())["id"])
    await db.close()


async def listen():
    one, two = await connect(), await connect()
    heard = asyncio.Queue()

    def hear(*told):
        heard.put_nowait(told[3])

    await one.add_listener("asyncpg", hear)
    await two.execute("NOTIFY asyncpg, 'by statement'")
    await two.execute("SELECT pg_notify('asyncpg', $1)", "by function")
    check("payloads", ["by statement", "by function"], [await asyncio.wait_for(heard.get(), HANG_S) for _ in range(2)])
    await one.remove_listener("asyncpg", hear)
    await one.close()
    await two.close()


async def cancel():
    db = await connect()
    try:
        await db.execute("SELECT pg_sleep(600)", timeout=1)
    except asyncio.TimeoutError:
        check("alive", 1, await db.fetchval("SELECT 1"))
        await db.close()
        return "its timeout sends CancelRequest"
    raise AssertionError("the sleep was not cancelled")


async def errors():
    db = await connect()
    error = await fails("23505", db.execute("INSERT INTO items (id, name) VALUES (1, $1)", "x"))
    check("fields", ("shop", "items", "items_pkey", True),
          (error.schema_name, error.table_name, error.constraint_name, "already exists" in error.detail))
    check("position", "8", (await fails("42703", db.fetch("SELECT nothing"))).position)
    check("next step", True, "Next:" in (await fails("42501", db.execute("DELETE FROM notes"))).message)
    await fails("42501", db.fetch("DELETE FROM notes WHERE $1", True))
    transaction = db.transaction()
    await transaction.start()
    await fails("42501", db.fetch("DELETE FROM notes WHERE $1", True))
    await fails("25P02", db.fetch("SELECT 1"))
    await transaction.rollback()
    check("alive", 1, await db.fetchval("SELECT 1"))
    await db.close()


async def large_objects():
    db = await connect()
    oid = await db.fetchval("SELECT lo_from_bytea(0, $1)", b"abc" * 1000)
    await db.execute("SELECT lo_put($1, 3, $2)", oid, b"XYZ")
    check("read", b"XYZabc", await db.fetchval("SELECT lo_get($1, 3, 6)", oid))
    check("unlink", 1, await db.fetchval("SELECT lo_unlink($1)", oid))
    await db.close()
    return "by SQL functions; the driver has no other way"


async def types():
    db = await connect()
    check("composite", (1, "ok", (7, "seven")), tuple(await db.fetchrow("SELECT id, m, p FROM typed WHERE m = $1", "ok")))
    check("array of them", ["ok", "sad"], await db.fetchval("SELECT $1::mood[]", ["ok", "sad"]))
    await db.set_type_codec("mood", schema="shop", encoder=str.lower, decoder=str.upper, format="text")
    check("codec", "OK", await db.fetchval("SELECT m FROM typed"))
    await db.reload_schema_state()
    await db.close()


async def reset():
    async with asyncpg.create_pool(**settings(min_size=1, max_size=1)) as pool:
        for _ in range(3):
            async with pool.acquire() as db:
                check("pooled", 1, await db.fetchval("SELECT 1"))
    return "its pool releases advisory locks, cursors, listeners and settings by one text"


async def drain():
    db = await connect()
    transaction = db.transaction()
    await transaction.start()
    await db.execute("INSERT INTO notes (test, body) VALUES ($1, 'before')", ME + "-drain")
    await asyncio.to_thread(ask, "drain")
    await db.execute("INSERT INTO notes (test, body) VALUES ($1, 'while')", ME + "-drain")
    await transaction.commit()
    try:
        while True:
            await db.fetchval("SELECT 1")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
        told = f"{type(error).__name__}: {error}"
    await asyncio.to_thread(ask, "reopen")
    db = await connect()
    check("kept", 2, await db.fetchval("SELECT count(*) FROM notes WHERE test = $1", ME + "-drain"))
    await db.close()
    return f"the old session says {told}"


def now(step):
    return lambda: asyncio.run(step())


run({
    "connect": now(connects), "simple": now(simple), "extended": now(extended), "binary": now(binary),
    "transaction": now(transaction), "batch": now(batch), "pipeline": "the driver waits for each answer",
    "copy in": now(copy_in), "copy out": now(copy_out), "cursor": now(cursor), "listen": now(listen), "cancel": now(cancel),
    "errors": now(errors), "large objects": now(large_objects), "types": now(types), "reset": now(reset), "drain": now(drain),
})
