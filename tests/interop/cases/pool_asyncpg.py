"""asyncpg through the pooler: a cache of prepared statements, its own Parse, Describe and Flush, binary formats."""

import asyncio

import asyncpg

from harness import World, case, check, same

GROUP = "pool:asyncpg"


def target(world: World) -> str:
    return world.pool().url


@case(GROUP, "40 clients with the cache of statements that it has by itself")
async def cache(world: World) -> None:
    times = 20 if world.short else 100

    async def work(number: int) -> None:
        c = await asyncpg.connect(target(world), timeout=30)
        try:
            for n in range(times):
                shape = (n * (number % 5 + 1) + number) % 13
                same(await c.fetchval(f"select $1::int + {shape} + $2::int", n, number), n + shape + number)
        finally:
            await c.close()

    await asyncio.gather(*(work(n) for n in range(40)))


@case(GROUP, "its pool, with the reset that it sends when a connection is given back")
async def its_pool(world: World) -> None:
    async with asyncpg.create_pool(target(world), min_size=5, max_size=20) as pool:

        async def work(number: int) -> None:
            for n in range(10):
                async with pool.acquire() as c, c.transaction():
                    same(await c.fetchval("select $1::text", f"{number}/{n}"), f"{number}/{n}")

        await asyncio.gather(*(work(n) for n in range(30)))


@case(GROUP, "executemany, a cursor, types by name, arrays, JSON")
async def kinds(world: World) -> None:
    c = await asyncpg.connect(target(world))
    try:
        await c.execute("drop table if exists things; drop type if exists mood; create type mood as enum ('fine', 'bad')")
        await c.execute("create table things (n int, m mood, a int[], j jsonb)")
        await c.executemany(
            "insert into things values ($1, $2, $3, $4)", [(n, "fine", [n, n + 1], f'{{"n": {n}}}') for n in range(500)]
        )
        async with c.transaction():
            seen = [row["n"] async for row in c.cursor("select n from things order by n", prefetch=50)]
        same(seen, list(range(500)))
        row = await c.fetchrow("select * from things where n = $1", 7)
        same((row["m"], row["a"], row["j"]), ("fine", [7, 8], '{"n": 7}'))
    finally:
        await c.close()


@case(GROUP, "COPY in and out")
async def copy(world: World) -> None:
    c = await asyncpg.connect(target(world))
    try:
        await c.execute("drop table if exists records; create table records (n int, t text)")
        await c.copy_records_to_table("records", records=[(n, "x" * 50) for n in range(20_000)])
        size = 0

        async def count(piece: bytes) -> None:
            nonlocal size
            size += len(piece)

        await c.copy_from_query("select * from records", output=count)
        check(size > 20_000 * 52, f"{size} bytes came")
    finally:
        await c.close()


@case(GROUP, "DDL between executions: it prepares anew and gives the right rows")
async def ddl(world: World) -> None:
    a, b = await asyncpg.connect(target(world)), await asyncpg.connect(target(world))
    try:
        await b.execute("drop table if exists altered; create table altered (one int); insert into altered values (1)")
        for _ in range(3):
            same(tuple(await a.fetchrow("select * from altered")), (1,))
        await b.execute("alter table altered add two text default 'two'")
        for _ in range(3):
            try:
                same(tuple(await a.fetchrow("select * from altered")), (1, "two"))
            except (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError):
                pass
        same(tuple(await a.fetchrow("select * from altered")), (1, "two"))
        await b.execute("alter table altered alter one type text using 'n' || one")
        for _ in range(3):
            try:
                same(tuple(await a.fetchrow("select * from altered")), ("n1", "two"))
            except (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError):
                pass
        same(tuple(await a.fetchrow("select * from altered")), ("n1", "two"))
    finally:
        await a.close()
        await b.close()


@case(GROUP, "an error, then the same statement with good values; a timeout cancels")
async def failures(world: World) -> None:
    c = await asyncpg.connect(target(world))
    try:
        for _ in range(3):
            try:
                await c.fetchval("select 1 / $1::int", 0)
                check(False, "a division by zero had a result")
            except asyncpg.DivisionByZeroError:
                pass
            same(await c.fetchval("select 1 / $1::int", 1), 1)
            try:
                await c.fetchval("select nothing_here from nowhere where n = $1", 1)
                check(False, "an unknown table was read")
            except asyncpg.UndefinedTableError:
                pass
        try:
            await c.fetchval("select pg_sleep(30)", timeout=0.3)
            check(False, "it was not cancelled")
        except asyncio.TimeoutError:
            pass
        same(await c.fetchval("select 8"), 8)
    finally:
        await c.close()
