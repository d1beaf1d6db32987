"""Programs through the pooler: psql, pgbench in every mode, and JDBC, whose jar Debian has."""

import os
import re

from harness import HERE, World, case, check, command, same
from pool import PASSWORD, USER

JAR = "/usr/share/java/postgresql.jar"
JAVA = HERE / "java" / "Cases.java"


def psql(world: World, *words: object, feed: str | None = None):
    done = command(
        world.postgres.bin / "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", world.pool().dsn, *words,
        feed=None if feed is None else feed.encode(),
    )  # fmt: skip
    check(done.returncode == 0, f"psql {words} ended with {done.returncode}:", done.stderr.decode())
    return done.stdout.decode().strip()


@case("pool:psql", "queries, its own commands, \\copy both ways, \\gdesc")
def with_psql(world: World) -> None:
    same(psql(world, "-c", "select 1 as one, 'two' as two"), "1|two")
    psql(world, "-c", "drop table if exists people", "-c", "create table people (id int primary key, name text)")
    script = "\\copy people from stdin\n1\tada\n2\tgrace\n\\.\ninsert into people values (3, 'edsger');\n"
    psql(world, feed=script)
    same(psql(world, "-c", "\\copy people to stdout"), "1\tada\n2\tgrace\n3\tedsger")
    check("people" in psql(world, "-c", "\\d"), "\\d does not list the table")
    check("people_pkey" in psql(world, "-c", "\\di"), "\\di does not name the key")
    check("name|text" in psql(world, "-c", "\\d people"), "\\d people does not name the columns")
    same(psql(world, feed="select 1 as a, now() as b \\gdesc\n"), "a|integer\nb|timestamp with time zone")
    same(psql(world, feed="begin;\nselect count(*) from people;\nrollback;\nselect 4;\n"), "3\n4")
    same(psql(world, feed="\\set n 2\nselect name from people where id = :n;\n"), "grace")
    same(psql(world, "-1", "-c", "insert into people values (9, 'x')", "-c", "select count(*) from people"), "4")


@case("pool:psql", "a script of many statements, notices, and an error that says what Postgres says")
def psql_script(world: World) -> None:
    many = "".join(f"select {n};\n" for n in range(500))
    same(psql(world, feed=many).splitlines(), [str(n) for n in range(500)])
    done = command(world.postgres.bin / "psql", "-XAt", world.pool().dsn, "-c", "do $$ begin raise notice 'told'; end $$")
    check(b"NOTICE:  told" in done.stderr, done.stderr)
    done = command(world.postgres.bin / "psql", "-XAt", world.pool().dsn, "-c", "select nothing")
    check(done.returncode == 1 and b'column "nothing" does not exist' in done.stderr and b"LINE 1" in done.stderr, done.stderr)


def pgbench(world: World, *words: object) -> str:
    pooler = world.pool()
    target = ["-h", "127.0.0.1", "-p", pooler.port, "-U", USER]
    done = command(
        world.postgres.bin / "pgbench", *target, *words, USER, environment={"PGPASSWORD": PASSWORD}, patience=180.0
    )
    said = done.stdout.decode() + done.stderr.decode()
    check(done.returncode == 0 and "aborted" not in said, f"pgbench {words} ended with {done.returncode}:", said)
    return said


def processed(said: str) -> int:
    found = re.search(r"actually processed: (\d+)", said)
    check(found and "failed transactions: 0 " in said, said)
    return int(found[1])


_filled: set[int] = set()


def filled(world: World) -> None:
    """Tables of pgbench, made through the pooler, with COPY."""
    if world.pool().port not in _filled:
        pgbench(world, "-i", "-q", "-s", 2)
        _filled.add(world.pool().port)


def put_pgbench(mode: str) -> None:
    @case("pool:pgbench", f"-M {mode}: TPC-B and SELECT, 40 clients")
    def run(world: World) -> None:
        filled(world)
        each = 25 if world.short else 100
        # A thread for each client: pgbench prepares while nobody else of its thread is served, and with fewer server
        # connections than clients it would wait for a client of its own that is inside a transaction.
        for script in ("-S", "-N"):
            same(processed(pgbench(world, "-n", script, "-M", mode, "-c", 40, "-j", 40, "-t", each)), 40 * each)

    @case("pool:pgbench", f"-M {mode}: a connection for each transaction")
    def connecting(world: World) -> None:
        filled(world)
        same(processed(pgbench(world, "-n", "-S", "-C", "-M", mode, "-c", 8, "-j", 2, "-t", 10)), 80)


for a_mode in ("simple", "extended", "prepared"):
    put_pgbench(a_mode)


def put_pipeline(mode: str) -> None:
    @case("pool:pgbench", f"-M {mode}: pipelines")
    def run(world: World) -> None:
        filled(world)
        script = world.folder / "pipeline.sql"
        script.write_text(
            "\\set a random(1, 200000)\n\\startpipeline\nbegin;\n"
            "update pgbench_accounts set abalance = abalance + 1 where aid = :a;\n"
            "select abalance from pgbench_accounts where aid = :a;\ncommit;\n\\endpipeline\n"
        )
        same(processed(pgbench(world, "-n", "-f", script, "-M", mode, "-c", 20, "-j", 2, "-t", 50)), 1000)


for a_mode in ("extended", "prepared"):
    put_pipeline(a_mode)


_java: dict[str, str | None] = {}


def java_results(world: World) -> dict[str, str | None]:
    """Every case of `Cases.java`, which runs once: a line `ok NAME` or `FAILED NAME: why` for each."""
    if not _java:
        check(os.path.exists(JAR), f"there is no {JAR}; `cargo xtask interop` installs it")
        url = f"jdbc:postgresql://127.0.0.1:{world.pool().port}/{USER}"
        done = command("java", "-cp", JAR, JAVA, url, USER, PASSWORD, patience=180.0)
        for line in done.stdout.decode().splitlines():
            verdict, _, rest = line.partition(" ")
            name, _, why = rest.partition(": ")
            _java[name] = None if verdict == "ok" else why
        check(_java, f"java ended with {done.returncode}:", done.stderr.decode()[-3000:])
    return _java


def put_java(name: str) -> None:
    @case("pool:jdbc", name)
    def run(world: World) -> None:
        results = java_results(world)
        check(name in results, "java ended before this case")
        check(results[name] is None, results[name])


# The list is read from the source itself, so that it is written once.
for found in re.finditer(r'^        add\("([^"]+)",', JAVA.read_text(), re.MULTILINE):
    put_java(found[1])
