"""psycopg 3 through the pooler: statements prepared at first sight, pipelines, COPY both ways, cancellation, errors."""

import threading

import psycopg
from psycopg import errors

from harness import World, case, check, same

GROUP = "pool:psycopg"
ROWS = 20_000


def connect(world: World, prepare: int | None = 1, **more) -> psycopg.Connection:
    return psycopg.connect(world.pool().dsn, autocommit=True, prepare_threshold=prepare, connect_timeout=20, **more)


def side_by_side(count: int, work) -> None:
    """Runs `work(number)` in so many threads and raises what the first that failed raised."""
    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        check(not thread.is_alive(), "a client still waits after 120 s")
    if failures:
        raise failures[0]


@case(GROUP, "40 clients, every statement prepared, each with texts of its own under the same names")
def prepared(world: World) -> None:
    times = 40 if world.short else 200

    def work(number: int) -> None:
        with connect(world) as c:
            for n in range(times):
                # The driver names them _pg3_0, _pg3_1 … in the order of their first use, which differs from client to client.
                shape = (n * (number % 7 + 1) + number) % 11
                row = c.execute(f"select %s::int + {shape}, %s::text, {number}", (n, f"n{n}")).fetchone()
                same(row, (n + shape, f"n{n}", number))

    side_by_side(40, work)


@case(GROUP, "transactions, savepoints, and an error that is rolled back")
def transactions(world: World) -> None:
    with connect(world) as c:
        c.execute("drop table if exists account")
        c.execute("create table account (id int primary key, amount int not null)")
        c.execute("insert into account select n, 100 from generate_series(1, 10) n")

    def work(number: int) -> None:
        with connect(world) as c:
            for n in range(20):
                first, second = sorted(((number + n) % 10 + 1, (number * 3 + n) % 10 + 1))
                with c.transaction():
                    c.execute("update account set amount = amount - 1 where id = %s", (first,))
                    try:
                        with c.transaction():
                            c.execute("update account set amount = null where id = %s", (second,))
                    except errors.NotNullViolation:
                        pass
                    c.execute("update account set amount = amount + 1 where id = %s", (second,))

    side_by_side(10, work)
    with connect(world) as c:
        same(c.execute("select sum(amount)::int from account").fetchone(), (1000,))


@case(GROUP, "a pipeline of 500, each answer for its question")
def pipeline(world: World) -> None:
    with connect(world) as c, c.pipeline():
        cursors = [c.execute("select %s::int", (n,)) for n in range(500)]
        same([cursor.fetchone()[0] for cursor in cursors], list(range(500)))


@case(GROUP, "an error in a pipeline ends it to its Sync and not further; what follows is answered")
def pipeline_error(world: World) -> None:
    for prepare in (None, 0, 1):
        with connect(world, prepare) as c:
            for _ in range(3):
                with c.pipeline() as p:
                    first = c.execute("select 1")
                    p.sync()
                    told: list[type] = []
                    # The driver tells an error wherever it happens to meet it, and what was skipped perhaps with the next call.
                    for _ in range(3):
                        try:
                            if not told:
                                c.execute("select 1 / %s::int", (0,))
                                c.execute("select 2")
                            p.sync()
                            break
                        except (errors.DivisionByZero, psycopg.errors.PipelineAborted) as error:
                            told.append(type(error))
                    same(told[:1], [errors.DivisionByZero], "what was told first")
                    after = c.execute("select 3")
                    same((first.fetchone(), after.fetchone()), ((1,), (3,)))
                same(c.execute("select 4").fetchone(), (4,))


@case(GROUP, "COPY in and out, text and binary, and one that the client breaks off")
def copy(world: World) -> None:
    with connect(world) as c:
        c.execute("drop table if exists copied")
        c.execute("create table copied (n int, t text)")
        with c.cursor().copy("copy copied from stdin") as to:
            for n in range(ROWS):
                to.write_row((n, f"row {n}" * 5))
        with c.cursor().copy("copy copied (n, t) from stdin (format binary)") as to:
            to.set_types(["int4", "text"])
            for n in range(ROWS):
                to.write_row((n, "binary"))
        try:
            with c.cursor().copy("copy copied from stdin") as to:
                to.write_row((1, "never"))
                raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        with c.cursor().copy("copy (select * from copied order by n) to stdout") as out:
            same(sum(1 for _ in out.rows()), 2 * ROWS)
        # A COPY whose rows do not fit fails after the client has begun to send.
        try:
            with c.cursor().copy("copy copied from stdin") as to:
                for n in range(1000):
                    to.write_row(("not a number", "x"))
            check(False, "a row that does not fit was taken")
        except errors.InvalidTextRepresentation:
            pass
        same(c.execute("select count(*)::int from copied").fetchone(), (2 * ROWS,))
        c.execute("drop table copied")


@case(GROUP, "rows of 16 MB both ways, and a cursor that is read bit by bit")
def large(world: World) -> None:
    with connect(world) as c:
        text = "x" * (16 << 20)
        same(len(c.execute("select %s::text || %s::text", (text, "y")).fetchone()[0]), len(text) + 1)
        with c.transaction(), c.cursor(name="bit_by_bit") as cursor:
            cursor.itersize = 100
            cursor.execute("select n from generate_series(1, 5000) n")
            same(sum(n for (n,) in cursor), 5000 * 5001 // 2)


@case(GROUP, "DDL between two executions: the right rows, or one error and then the right rows; never wrong ones")
def ddl(world: World) -> None:
    with connect(world) as a, connect(world) as b:
        b.execute("drop table if exists changing")
        b.execute("create table changing (one int)")
        b.execute("insert into changing values (1)")
        same(a.execute("select * from changing where one = %s", (1,)).fetchone(), (1,))
        same(a.execute("select * from changing where one = %s", (1,)).fetchone(), (1,))
        b.execute("create index on changing (one)")
        same(a.execute("select * from changing where one = %s", (1,)).fetchone(), (1,))
        b.execute("alter table changing add two text default 'two'")
        for _ in range(3):
            try:
                same(a.execute("select * from changing where one = %s", (1,)).fetchone(), (1, "two"))
            except errors.FeatureNotSupported as error:
                check("cached plan" in str(error), error)
                # As with Postgres itself: the driver has to prepare it anew.
                a.execute("deallocate all")
        same(a.execute("select * from changing where one = %s", (1,)).fetchone(), (1, "two"))
        b.execute("drop table changing")
        try:
            a.execute("select * from changing where one = %s", (1,))
            check(False, "a table that is gone was read")
        except errors.UndefinedTable:
            pass
        same(a.execute("select 5").fetchone(), (5,))


@case(GROUP, "DEALLOCATE, DEALLOCATE ALL and DISCARD ALL, and the same statements again")
def deallocate(world: World) -> None:
    with connect(world) as c:
        for sql in ("deallocate all", "discard all", "DeAllocate  All -- ", "deallocate prepare all"):
            for n in range(3):
                same(c.execute("select %s::int + 1", (n,)).fetchone(), (n + 1,))
            c.execute(sql)
        same(c.execute("select %s::int + 1", (9,)).fetchone(), (10,))


@case(GROUP, "cancel of a running query, and the connection goes on")
def cancel(world: World) -> None:
    with connect(world) as c:
        timer = threading.Timer(0.3, c.cancel)
        timer.start()
        try:
            c.execute("select pg_sleep(30)")
            check(False, "it was not cancelled")
        except errors.QueryCanceled:
            pass
        timer.join()
        same(c.execute("select 6").fetchone(), (6,))


@case(GROUP, "cancel races: a late cancel meets nobody else's query")
def cancel_races(world: World) -> None:
    """On two server connections; who cancels asks for short queries, so that its cancel often comes too late."""
    pooler, times = world.pool(size=2), 60 if world.short else 400
    stop = threading.Event()

    def work(number: int) -> None:
        if number == 0:
            try:
                with psycopg.connect(pooler.dsn, autocommit=True) as c:
                    for _ in range(times):
                        late = threading.Thread(target=c.cancel)
                        late.start()
                        try:
                            c.execute("select 1")
                        except errors.QueryCanceled:
                            pass
                        late.join()
            finally:
                stop.set()
        else:
            with psycopg.connect(pooler.dsn, autocommit=True) as c:
                while not stop.is_set():
                    # QueryCanceled here is the failure.
                    c.execute("select pg_sleep(0.002)")

    side_by_side(4, work)


@case(GROUP, "a client that waits for a connection can be cancelled, and then asks again")
def cancel_waiting(world: World) -> None:
    pooler = world.pool(size=1)
    if pooler.kind == "direct":
        return
    holder, waiter = (psycopg.connect(pooler.dsn, autocommit=True) for _ in range(2))
    with holder, waiter:
        holder.execute("begin")
        timer = threading.Timer(0.3, waiter.cancel)
        timer.start()
        ended = threading.Timer(5.0, holder.execute, ("rollback",))
        ended.start()
        try:
            waiter.execute("select 1")
            check(False, "it was not cancelled, but answered once the other one had gone")
        except errors.QueryCanceled:
            pass
        ended.cancel()
        ended.join()
        holder.execute("rollback")
        same(waiter.execute("select 7").fetchone(), (7,))


@case(GROUP, "a client that dies inside a transaction leaves no transaction behind")
def dies(world: World) -> None:
    with connect(world) as c:
        c.execute("drop table if exists half")
        c.execute("create table half (n int)")
    for _ in range(5):
        c = connect(world)
        c.execute("begin")
        c.execute("insert into half values (1)")
        c.pgconn.finish()
    with connect(world) as c:
        # Takes a lock that any of them would hold.
        c.execute("set local statement_timeout = 0")
        c.execute("alter table half add more int")
        same(c.execute("select count(*)::int from half").fetchone(), (0,))


@case(GROUP, "more clients than Postgres has connections, in turns")
def many(world: World) -> None:
    def work(number: int) -> None:
        with connect(world) as c:
            for n in range(5):
                same(c.execute("select %s::int", (number,)).fetchone(), (number,))

    side_by_side(300 if world.pooler != "direct" else 50, work)


@case(GROUP, "wrong password, unknown database, unknown user: what Postgres says, by its code")
def refusals(world: World) -> None:
    good = world.pool().dsn
    for change, state in (
        ({"password": "wrong"}, "28P01"),
        ({"user": "nobody_here"}, "28P01"),
        ({"dbname": "nothing_here"}, "3D000"),
    ):
        try:
            psycopg.connect(good, connect_timeout=20, **change).close()
            check(False, f"{change} was admitted")
        except psycopg.OperationalError as error:
            told = str(error)
            check(
                state == "28P01" and "password authentication failed" in told
                or state == "3D000" and "does not exist" in told,
                f"{change}: {told}",
            )
