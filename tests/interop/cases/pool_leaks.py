"""What one client leaves behind in its session and the next one must not find: on one server connection, for each
`session_state`. A does something that lasts; B asks what it sees, while A is still there and after it has gone.

B may have to wait while A is there: then A keeps the connection (it is pinned), which is as good an answer. What no pooler can
see on the wire is last, and said in a note.
"""

import contextlib
import threading

import psycopg

from harness import World, case, check, same

STATES = ("track", "reset", "pin", "error")
# How long B is waited for before A goes.
SHORT = 0.5
LONG = 20.0

# What A does; what B asks; what B must be told.
KINDS = {
    "SET": ("set work_mem = '7MB'", "show work_mem", "4MB"),
    "SET SESSION": ("set session statement_timeout = 7777", "show statement_timeout", "0"),
    "SET TIME ZONE": ("set time zone 'Asia/Tokyo'", "show timezone", None),
    "SET search_path": ("set search_path = leak, public", "show search_path", '"$user", public'),
    "SET among others": ("select 1; set enable_seqscan = off; select 2", "show enable_seqscan", "on"),
    "SET behind a comment": ("/* a */ -- b\n set enable_sort = off", "show enable_sort", "on"),
    "SET of a name of one's own": ("set app.tenant = '7'", "select coalesce(current_setting('app.tenant', true), '')", ""),
    "SESSION CHARACTERISTICS": (
        "set session characteristics as transaction read only", "show default_transaction_read_only", "off"),
    "set_config": ("select set_config('work_mem', '9MB', false)", "show work_mem", "4MB"),
    "set_config in a larger query": (
        "select 1 from (select set_config('enable_hashjoin', 'off', false)) s", "show enable_hashjoin", "on"),
    "SET ROLE": ("set role reader", "select current_user::text", "app"),
    "temporary table": (
        "create temporary table leak (n int)",
        "select count(*)::text from pg_class where relname = 'leak' and pg_table_is_visible(oid)", "0"),
    "SELECT INTO TEMP": (
        "select 1 as n into temp leak", "select count(*)::text from pg_class where relname = 'leak' and pg_table_is_visible(oid)", "0"),
    "LISTEN": ("listen leak", "select count(*)::text from pg_listening_channels()", "0"),
    "advisory lock": (
        "select pg_advisory_lock(4242)",
        "select count(*)::text from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()", "0"),
    "tried advisory lock": (
        "select pg_try_advisory_lock_shared(1, 2)",
        "select count(*)::text from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()", "0"),
    "SQL PREPARE": ("prepare leak as select 1", "select count(*)::text from pg_prepared_statements where from_sql", "0"),
    "WITH HOLD": (
        "declare leak cursor with hold for select 1", "select count(*)::text from pg_cursors where is_holdable", "0"),
}  # fmt: skip

# What is done where nobody looks: a function's body.
FUNCTION = """create or replace function leak_set() returns void language sql
as $$ select set_config('app.hidden', 'leaked', false) $$"""
HIDDEN = {
    "a function that sets": "select leak_set()",
    "a DO block that sets": "do $$ begin perform set_config('app.hidden', 'leaked', false); end $$",
}
SEEN = "select coalesce(current_setting('app.hidden', true), '')"


def connect(world: World, state: str) -> psycopg.Connection:
    return psycopg.connect(
        world.pool(size=1, state=state).dsn, autocommit=True, prepare_threshold=None, connect_timeout=20
    )


class Later:
    """B: connects, asks and goes, in a thread of its own, because it may have to wait."""

    def __init__(self, world: World, state: str, sql: str) -> None:
        self.told: object = None
        self.error: BaseException | None = None

        def run() -> None:
            try:
                with connect(world, state) as b:
                    self.told = b.execute(sql).fetchone()[0]
            except BaseException as error:
                self.error = error

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def came(self, within: float) -> bool:
        self.thread.join(within)
        return not self.thread.is_alive()


def do(a: psycopg.Connection, sql: str, how: str) -> str | None:
    """Does it as a simple query or by the extended protocol; returns the SQLSTATE of its failure."""
    if how == "simple":
        result = a.pgconn.exec_(sql.encode())
    else:
        result = a.pgconn.exec_params(sql.encode(), None)
    state = result.error_field(psycopg.pq.DiagnosticField.SQLSTATE)
    return state.decode() if state else None


def put(state: str, name: str) -> None:
    sql, probe, clean = KINDS[name]

    @case("pool:leaks", f"{state}: {name} does not cross")
    def run(world: World) -> None:
        wanted = clean
        if wanted is None:
            with connect(world, state) as c:
                wanted = c.execute(probe).fetchone()[0]
        for how in ("simple", "extended"):
            if how == "extended" and sql.startswith("select 1;"):
                continue
            a = connect(world, state)
            with contextlib.closing(a):
                failed = do(a, sql, how)
                # A setting that no other client can see, nor feel, need not be refused: what counts is what B sees.
                check(failed is None or state == "error", f"{how}: A was refused with {failed}")
                first = Later(world, state, probe)
                waits = not first.came(SHORT)
                if not waits:
                    check(first.error is None, f"{how}: B failed while A was there: {first.error}")
                    same(first.told, wanted, f"{how}: what B sees while A is there")
                if state == "track" and failed is None and not waits and probe.startswith("show"):
                    same(a.execute(probe).fetchone()[0] != wanted, True, f"{how}: A has kept its own setting")
            # Whoever waited goes on now.
            check(first.came(LONG), f"{how}: B still waits after A has gone")
            check(first.error is None, f"{how}: B failed: {first.error}")
            same(first.told, wanted, f"{how}: what B sees")
            last = Later(world, state, probe)
            check(last.came(LONG), f"{how}: C waits after everybody has gone")
            check(last.error is None, f"{how}: C failed: {last.error}")
            same(last.told, wanted, f"{how}: what C sees after A has gone")


for a_state in STATES:
    for a_name in KINDS:
        put(a_state, a_name)


def put_hidden(state: str) -> None:
    @case("pool:leaks", f"{state}: what cannot be seen on the wire")
    def run(world: World) -> None:
        world.postgres.sql(FUNCTION, "app")
        for name, sql in HIDDEN.items():
            with connect(world, state) as a:
                failed = do(a, sql, "simple")
                if failed is not None:
                    world.note(f"{name}: refused with {failed}")
                    continue
                b = Later(world, state, SEEN)
                waits = not b.came(SHORT)
            check(b.came(LONG), f"{name}: B still waits after A has gone")
            check(b.error is None, f"{name}: B failed: {b.error}")
            while_there = "B waited, then" if waits else "B"
            world.note(f"{name}: {while_there} saw {'what A had set' if b.told else 'nothing'}")
            world.postgres.sql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'")


for a_state in STATES:
    put_hidden(a_state)
