"""Sequences of messages that drivers send and that transaction pooling breaks, by libpq's own functions: each call with
`prepare`, `describe_prepared` or `exec_prepared` is a Sync of its own, between which another client gets the connection."""

import itertools

import psycopg
from psycopg import pq

from harness import World, case, check, same

GROUP = "pool:wire"
OK = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)


class Raw:
    """A connection of libpq; a result that is an error raises its SQLSTATE."""

    def __init__(self, world: World, size: int = 1) -> None:
        self.pg = pq.PGconn.connect(world.pool(size=size).dsn.encode())
        check(self.pg.status == pq.ConnStatus.OK, self.pg.error_message)

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *_: object) -> None:
        self.pg.finish()

    @staticmethod
    def value(result: pq.PGresult) -> bytes | None:
        if result.status not in OK:
            raise State(result.error_field(pq.DiagnosticField.SQLSTATE).decode(), result.error_message.decode())
        return result.get_value(0, 0) if result.ntuples else None

    def ask(self, sql: str) -> bytes | None:
        return self.value(self.pg.exec_(sql.encode()))

    def prepare(self, name: str, sql: str) -> None:
        self.value(self.pg.prepare(name.encode(), sql.encode()))

    def run(self, name: str, *values: str) -> bytes | None:
        return self.value(self.pg.exec_prepared(name.encode(), [value.encode() for value in values]))

    def describe(self, name: str) -> int:
        result = self.pg.describe_prepared(name.encode())
        self.value(result)
        return result.nparams


class State(Exception):
    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


def fails(code: str, run) -> None:
    try:
        run()
    except State as state:
        same(state.code, code, "SQLSTATE")
        return
    check(False, f"it did not fail with {code}")


@case(GROUP, "the same name for different texts in two clients, on one server connection")
def same_name(world: World) -> None:
    with Raw(world) as a, Raw(world) as b:
        a.prepare("s", "select 'a' || $1::text")
        b.prepare("s", "select $1::int + $2::int")
        for n in range(20):
            same(a.run("s", str(n)), b"a%d" % n)
            same(b.run("s", str(n), "1"), b"%d" % (n + 1))
        same((a.describe("s"), b.describe("s")), (1, 2))


@case(GROUP, "the unnamed statement, parsed and bound with a Sync in between")
def unnamed(world: World) -> None:
    with Raw(world) as a, Raw(world) as b:
        for n in range(20):
            a.prepare("", f"select $1::int + {n}")
            b.prepare("", f"select $1::text || $2::text || '{n}'")
            same((a.describe(""), b.describe("")), (1, 2))
            same(a.run("", "1"), b"%d" % (n + 1))
            same(b.run("", "x", "y"), b"xy%d" % n)
            # It may be bound again until another text is parsed or a simple query sent.
            same(a.run("", "2"), b"%d" % (n + 2))


@case(GROUP, "an unnamed statement is gone after a simple query, as at Postgres")
def unnamed_gone(world: World) -> None:
    with Raw(world) as a:
        a.prepare("", "select 1")
        a.ask("select 2")
        fails("26000", lambda: a.run(""))
        same(a.ask("select 3"), b"3")


@case(GROUP, "a statement that is not there, a name that is taken, a text that is wrong: Postgres's codes")
def codes(world: World) -> None:
    with Raw(world) as a, Raw(world) as b:
        fails("26000", lambda: a.run("never"))
        fails("26000", lambda: a.describe("never"))
        a.prepare("once", "select 1")
        fails("42P05", lambda: a.prepare("once", "select 2"))
        same(a.run("once"), b"1")
        fails("42P01", lambda: a.prepare("bad", "select * from no_such_table"))
        fails("26000", lambda: a.run("bad"))
        # Its name is free, and what it means is what was parsed with success.
        a.prepare("bad", "select 'good'")
        same(a.run("bad"), b"good")
        fails("26000", lambda: b.run("bad"))
        a.ask("deallocate once")
        fails("26000", lambda: a.run("once"))
        a.prepare("once", "select 2")
        same(a.run("once"), b"2")
        fails("26000", lambda: a.ask("deallocate never"))
        a.ask('deallocate all')
        fails("26000", lambda: a.run("once"))


@case(GROUP, "a name in any spelling: DEALLOCATE folds it as Postgres does")
def spelling(world: World) -> None:
    with Raw(world) as a:
        a.prepare("Mixed Case", "select 1")
        a.prepare("lower", "select 2")
        fails("26000", lambda: a.ask("deallocate Mixed"))
        a.ask('DEALLOCATE PREPARE "Mixed Case"')
        a.ask("deallocate LOWER")
        for name in ("Mixed Case", "lower"):
            fails("26000", lambda: a.run(name))


@case(GROUP, "a thousand statements of one client, more than a server connection keeps")
def thousand(world: World) -> None:
    with Raw(world) as a, Raw(world) as b:
        for n in range(1000):
            a.prepare(f"s{n}", f"select {n} + $1::int")
        b.prepare("s1", "select 'b'")
        for n in itertools.chain(range(0, 1000, 3), range(999, 0, -7)):
            same(a.run(f"s{n}", "1"), b"%d" % (n + 1))
        same(b.run("s1"), b"b")


@case(GROUP, "one text, prepared by 50 clients, in clients' transactions and outside")
def shared(world: World) -> None:
    clients = [Raw(world, size=20) for _ in range(50)]
    try:
        for n, client in enumerate(clients):
            client.prepare(f"mine{n}", "select $1::int * 2")
        for turn in range(5):
            for n, client in enumerate(clients):
                if n % 10 == turn:
                    client.ask("begin")
                same(client.run(f"mine{n}", str(n)), b"%d" % (n * 2))
                if n % 10 == turn:
                    client.ask("rollback")
    finally:
        for client in clients:
            client.pg.finish()


@case(GROUP, "a prepared statement is there inside a transaction that has failed: refused with 25P02, and there after it")
def failed_transaction(world: World) -> None:
    with Raw(world) as a, Raw(world) as b:
        a.prepare("s", "select 'a'")
        b.prepare("s", "select 'b'")
        a.ask("begin")
        fails("22012", lambda: a.ask("select 1/0"))
        fails("25P02", lambda: a.run("s"))
        fails("25P02", lambda: a.prepare("t", "select 1"))
        a.ask("rollback")
        same((a.run("s"), b.run("s")), (b"a", b"b"))
        fails("26000", lambda: a.run("t"))


@case(GROUP, "several statements in one query, an empty one, and a transaction that one of them opens")
def several(world: World) -> None:
    with Raw(world) as a, Raw(world) as b:
        same(a.ask("select 1; select 2; select 3"), b"3")
        same(a.pg.exec_(b"").status, pq.ExecStatus.EMPTY_QUERY)
        same(a.ask("create table if not exists seen (n int); begin; insert into seen values (1); select 4"), b"4")
        same(a.ask("select count(*) from seen"), b"1")
        a.ask("rollback")
        # All of one query is one transaction, the table too.
        same(b.ask("select count(*) from pg_class where relname = 'seen'"), b"0")
        fails("22012", lambda: a.ask("select 1; select 1/0; select 2"))
        same(a.ask("select 5; begin; commit; select 6"), b"6")


@case(GROUP, "pipelines: an error is the answer to what follows up to its Sync, and to nothing behind it")
def pipelines(world: World) -> None:
    S = pq.ExecStatus
    with Raw(world) as a, Raw(world) as b:
        for turn in range(5):
            a.pg.enter_pipeline_mode()
            a.pg.send_query_params(b"select 1", None)
            a.pg.pipeline_sync()
            a.pg.send_query_params(b"select 1 / $1::int", [b"0"])
            a.pg.send_query_params(b"select 2", None)
            a.pg.send_prepare(b"p%d" % turn, b"select 3")
            a.pg.pipeline_sync()
            a.pg.pipeline_sync()
            a.pg.send_prepare(b"q%d" % turn, b"select 4 + $1::int")
            a.pg.send_describe_prepared(b"q%d" % turn)
            a.pg.send_query_prepared(b"q%d" % turn, [b"1"])
            a.pg.send_flush_request()
            a.pg.pipeline_sync()
            a.pg.flush()
            wanted = [S.TUPLES_OK, S.PIPELINE_SYNC, S.FATAL_ERROR, S.PIPELINE_ABORTED, S.PIPELINE_ABORTED, S.PIPELINE_SYNC]
            wanted += [S.PIPELINE_SYNC, S.COMMAND_OK, S.COMMAND_OK, S.TUPLES_OK, S.PIPELINE_SYNC]
            got = []
            for _ in wanted:
                result = a.pg.get_result()
                check(result is not None, f"only {len(got)} answers: {got}")
                got.append(pq.ExecStatus(result.status))
                if result.status == S.FATAL_ERROR:
                    same(result.error_field(pq.DiagnosticField.SQLSTATE), b"22012")
                # Each answer but a Sync's is closed by a null result.
                if result.status != S.PIPELINE_SYNC:
                    check(a.pg.get_result() is None, "an answer of two results")
            same(got, wanted)
            a.pg.exit_pipeline_mode()
            same(b.ask("select 5"), b"5")
            same(a.run(f"q{turn}", "2"), b"6")
            fails("26000", lambda: a.run(f"p{turn}"))


@case(GROUP, "what a client set at its start is what it has, and nobody else")
def startup(world: World) -> None:
    pooler = world.pool(size=1)
    with psycopg.connect(pooler.dsn, autocommit=True, application_name="one", options="-c statement_timeout=7777") as a:
        with psycopg.connect(pooler.dsn, autocommit=True, client_encoding="latin1", application_name="two") as b:
            for _ in range(3):
                same(a.execute("show application_name").fetchone(), ("one",))
                same(b.execute("show application_name").fetchone(), ("two",))
                same(b.execute("show client_encoding").fetchone(), ("LATIN1",))
                same(a.execute("show client_encoding").fetchone(), ("UTF8",))
                same(a.execute("show statement_timeout").fetchone(), ("7777ms",))
                same(b.execute("show statement_timeout").fetchone(), ("0",))


@case(GROUP, "a setting that Postgres reports is reported to the client whose it is")
def reported(world: World) -> None:
    with Raw(world) as a, Raw(world) as b:
        a.ask("set time zone 'Asia/Tokyo'")
        same(b.ask("select 1"), b"1")
        same(a.pg.parameter_status(b"TimeZone"), b"Asia/Tokyo")
        check(b.pg.parameter_status(b"TimeZone") != b"Asia/Tokyo", "another client was told")
