"""Postgres and poolers for the cases about drivers: a private server, and in front of it the binary, PgBouncer or nothing.

The cases run against the binary; the other two show what a case says of those who are known (`run.py --pooler direct`: all but
the leak tests pass; `--pooler pgbouncer`: many fail). Clients are admitted by SCRAM-SHA-256, as Debian has it.
"""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from harness import HERE, Failed, check, until

USER = PASSWORD = DATABASE = "app"
# What the pooler asks with, and the function that it asks.
ASKER = "evenkeel"
FUNCTION = HERE.parent.parent / "tools" / "bench" / "peers" / "pool-auth.sql"
KINDS = ("evenkeel", "pgbouncer", "direct")
SETTINGS = """
listen_addresses = '127.0.0.1'
password_encryption = 'scram-sha-256'
fsync = off
full_page_writes = off
max_connections = 200
shared_buffers = 64MB
logging_collector = off
"""
ADMISSION = "local all postgres trust\nhost all all 127.0.0.1/32 scram-sha-256\n"


def programs() -> Path:
    """The folder of Postgres's programs: `POSTGRES`, or the newest of Debian's."""
    if named := os.environ.get("POSTGRES"):
        return Path(named)
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    check(found, "no Postgres server is installed; `cargo xtask interop` installs it")
    return found[-1].parent


def free_port() -> int:
    """A port that nobody listens on now. Another process could take it before it is used; then the start fails."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Postgres:
    """A private server, run as the user `postgres` when this is root, which it refuses to run as."""

    def __init__(self) -> None:
        self.bin = programs()
        self.owner = pwd.getpwnam("postgres") if os.getuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="ekpg-", dir="/tmp"))
        self.port = free_port()
        self.process: subprocess.Popen | None = None
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def as_owner(self) -> dict[str, object]:
        """What `subprocess` is told so that a program runs as the server's user."""
        clean = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
        who = {"user": self.owner.pw_uid, "group": self.owner.pw_gid, "extra_groups": []} if self.owner else {}
        return {"cwd": self.folder, "env": clean, **who}

    def give(self, path: Path) -> None:
        if self.owner:
            os.chown(path, self.owner.pw_uid, self.owner.pw_gid)

    def _start(self) -> None:
        self.give(self.folder)
        data = self.folder / "data"
        self._run(self.bin / "initdb", "-U", "postgres", "--no-sync", "--locale=C.UTF-8", "-E", "UTF8", "-D", data)
        own = f"{SETTINGS}port = {self.port}\nunix_socket_directories = '{self.folder}'\n"
        with (data / "postgresql.conf").open("a") as file:
            file.write(own)
        (data / "pg_hba.conf").write_text(ADMISSION)
        log = (self.folder / "log").open("w")
        self.process = subprocess.Popen(
            [self.bin / "postgres", "-D", data], stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self.as_owner()
        )
        log.close()
        until(lambda: self.process.poll() is not None or self._is_up(), "Postgres answers", 60.0)
        check(self.process.poll() is None, "Postgres ended:", (self.folder / "log").read_text()[-2000:])
        self.sql(f"create role {USER} login password '{PASSWORD}'; create role {ASKER} login password '{ASKER}'")
        self.sql(f"create database {DATABASE} owner {USER}")
        # SET ROLE needs somebody to become.
        self.sql(f"create role reader; grant reader to {USER}")
        for database in ("postgres", DATABASE):
            self.sql(FUNCTION.read_text(), database)

    def _is_up(self) -> bool:
        with contextlib.suppress(Failed):
            return self.sql("select 1") == "1"
        return False

    def _run(self, *words: object) -> str:
        done = subprocess.run(
            [str(w) for w in words], stdin=subprocess.DEVNULL, capture_output=True, text=True, **self.as_owner()
        )
        check(done.returncode == 0, f"{words[0]} failed:", done.stderr.strip())
        return done.stdout.strip()

    def sql(self, text: str, database: str = "postgres") -> str:
        """What the superuser is answered, past every pooler."""
        psql = [self.bin / "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", self.folder, "-p", self.port, "-U", "postgres"]
        return self._run(*psql, "-d", database, "-c", text)

    def stop(self) -> None:
        if self.process:
            self.process.send_signal(3)  # SIGQUIT: at once; nothing in it is kept
            self.process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)


EVENKEEL = """\
[admin]
listen = "127.0.0.1:0"

[pool.main]
listen = "127.0.0.1:{port}"
servers = ["127.0.0.1:{server}"]
auth = {{ user = "evenkeel", password = "evenkeel" }}
size = {size}
session_state = "{state}"
"""

PGBOUNCER = """\
[databases]
* = host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users.txt
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 1000
ignore_startup_parameters = extra_float_digits
"""


class Pooler:
    """What clients connect to: one of `KINDS` in front of the server, with `size` server connections and a policy for what a
    session leaves behind."""

    def __init__(self, kind: str, binary: Path, postgres: Postgres, size: int, state: str) -> None:
        self.kind, self.size, self.state, self.postgres = kind, size, state, postgres
        self.process: subprocess.Popen | None = None
        self.port = postgres.port
        if kind == "direct":
            return
        self.port = free_port()
        self.folder = postgres.folder / f"{kind}-{self.port}"
        self.folder.mkdir()
        values = {"port": self.port, "server": postgres.port, "size": size, "state": state, "folder": self.folder}
        config = self.folder / ("pgbouncer.ini" if kind == "pgbouncer" else "evenkeel.toml")
        config.write_text((PGBOUNCER if kind == "pgbouncer" else EVENKEEL).format(**values))
        how: dict[str, object] = {"cwd": self.folder}
        if kind == "pgbouncer":
            users = postgres.sql("select format('\"%s\" \"%s\"', rolname, rolpassword) from pg_authid")
            (self.folder / "users.txt").write_text(users + "\n")
            postgres.give(self.folder)
            how = postgres.as_owner()
            command = ["/usr/sbin/pgbouncer", str(config)]
        else:
            command = [str(binary), "up", "-c", str(config)]
        log = (self.folder / "log").open("w")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **how)
        log.close()
        try:
            until(lambda: self.process.poll() is not None or self._is_up(), f"{kind} answers")
            check(self.process.poll() is None, f"{kind} ended:", self.log())
        except Failed:
            self.stop()
            raise

    def _is_up(self) -> bool:
        ask = [str(self.postgres.bin / "psql"), "-XqAt", "-c", "select 1", self.dsn + " connect_timeout=5"]
        return subprocess.run(ask, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0

    def log(self) -> str:
        return (self.folder / "log").read_text()[-3000:] if self.process else ""

    @property
    def dsn(self) -> str:
        return f"host=127.0.0.1 port={self.port} user={USER} password={PASSWORD} dbname={DATABASE}"

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{DATABASE}"

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
