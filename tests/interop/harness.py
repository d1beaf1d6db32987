"""What all cases share: the list of cases, the gateway and the services as processes, and waiting with a deadline.

A case is a function that takes the `World` and raises on failure; `@case("group", "what it shows")` puts it on the
list. Cases of a group run in the order of their file. Nothing here sleeps to wait for a state: `until` polls it.
"""

import asyncio
import contextlib
import inspect
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
# A state that is waited for comes in milliseconds; a machine that is busy building may take this long.
PATIENCE = 20.0
# The longest that one asynchronous case may take, beyond what it bounds itself.
CASE_MAX = 300.0


class Failed(Exception):
    """A case's claim does not hold."""


def check(holds: object, *what: object) -> None:
    """Fails the case unless `holds`."""
    if not holds:
        raise Failed(" ".join(str(w) for w in what))


def same(got: object, wanted: object, what: str = "value") -> None:
    """Fails the case unless both are equal."""
    if got != wanted:
        raise Failed(f"{what}: got {shorten(got)}, wanted {shorten(wanted)}")


def shorten(value: object, most: int = 300) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


def until(state: Callable[[], object], what: str, patience: float = PATIENCE) -> object:
    """Polls `state` until it is truthy and returns it; fails the case after `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        value = state()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {patience:g} s")
        time.sleep(0.02)


@dataclass(frozen=True)
class Case:
    group: str
    name: str
    run: Callable[["World"], object]


CASES: list[Case] = []


def case(group: str, name: str) -> Callable:
    """Puts a function on the list of cases."""

    def put(function: Callable) -> Callable:
        CASES.append(Case(group, name, function))
        return function

    return put


def perform(one: Case, world: "World") -> None:
    """Runs a case to its end."""
    if inspect.iscoroutinefunction(one.run):
        asyncio.run(asyncio.wait_for(one.run(world), CASE_MAX))
    else:
        one.run(world)


class Child:
    """A process that says on standard output what it listens on, then `ready`. Its lines are read for as long as it
    lives, so that it never waits for us; the last of standard error are kept for reports."""

    def __init__(self, command: list[str], environment: dict[str, str] | None = None) -> None:
        self.said: list[str] = []
        self.grumbled: list[str] = []
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
            text=True,
            errors="replace",
        )
        self.readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.said), daemon=True),
            threading.Thread(target=self._read, args=(self.process.stderr, self.grumbled), daemon=True),
        ]
        for reader in self.readers:
            reader.start()
        try:
            until(lambda: "ready" in self.said or self.process.poll() is not None, f"{command[0]} says ready", 60.0)
            check("ready" in self.said, f"{command[0]} ended with {self.process.poll()}:", self.complaints())
        except Failed:
            self.stop()
            raise

    @staticmethod
    def _read(pipe, into: list[str]) -> None:
        for line in pipe:
            into.append(line.rstrip("\n"))
            if len(into) > 2000:
                del into[:1000]

    def complaints(self) -> str:
        return "\n".join(self.grumbled[-20:])

    def stop(self, wanted: signal.Signals = signal.SIGTERM) -> int:
        """Ends the process, by force if it does not end by itself; returns its status."""
        if self.process.poll() is None:
            self.process.send_signal(wanted)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        for reader in self.readers:
            reader.join(PATIENCE)
        return self.process.returncode


class Services(Child):
    """The services behind the gateway: see `upstreams.py`. They end when our end of their standard input does."""

    def __init__(self) -> None:
        super().__init__([sys.executable, "-u", str(HERE / "upstreams.py")])
        words = (line.split() for line in self.said if line != "ready")
        self.ports = {name: int(port) for name, port in words}

    def raw(self, path: str) -> object:
        """Asks the raw service itself, past the gateway, and reads the JSON that it answers."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['raw']}{path}", timeout=PATIENCE) as answer:
            return json.load(answer)


class Gateway(Child):
    """The binary with a configuration of its own, on free ports."""

    def __init__(self, binary: Path, folder: Path, name: str, config: str) -> None:
        file = folder / f"{name}.toml"
        file.write_text(config)
        self.name = name
        super().__init__([str(binary), "up", "-c", str(file)])
        self.at = self._address("gateway")
        self.console = self._address("console")

    def _address(self, part: str) -> str:
        start = f"listening {part} http://"
        return next(line for line in self.said if line.startswith(start)).removeprefix(start)

    @property
    def url(self) -> str:
        return f"http://{self.at}"

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.at.rsplit(":", 1)
        return host, int(port)

    def peak_memory(self) -> int:
        """The most memory that the process ever had resident (VmHWM), in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        total = 0.0
        for line in self.scrape("text/plain")[1].splitlines():
            series, _, value = line.rpartition(" ")
            if series.split("{")[0] == name and all(f'{k}="{v}"' in series for k, v in labels.items()):
                total += float(value)
        return total

    def scrape(self, accept: str) -> tuple[str, str]:
        """Content type and text of /metrics."""
        request = urllib.request.Request(f"http://{self.console}/metrics", headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.headers["Content-Type"], answer.read().decode()


HEAD = """\
[gateway]
listen = "127.0.0.1:0"
drain_delay = "0s"
{gateway}
[admin]
listen = "127.0.0.1:0"
{rest}
"""


class World:
    """The services and the gateways that cases use; all of them end with it."""

    def __init__(self, binary: Path, short: bool, seed: int, pooler: str = "evenkeel") -> None:
        self.binary = binary
        self.pooler = pooler
        self.short = short
        self.seed = seed
        self.notes: list[str] = []
        self._stack = contextlib.ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="evenkeel-interop-")))
        self._services: Services | None = None
        self._gateways: dict[str, Gateway] = {}
        self._postgres: pool.Postgres | None = None
        self._pools: dict[tuple[int, str], pool.Pooler] = {}
        # Cases ask from many threads.
        self._lock = threading.RLock()

    def __enter__(self) -> "World":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def gateway(self, name: str, limits: str = "", service: str = "", rest: str | None = None) -> Gateway:
        """The gateway of this name; started when it is first asked for. `limits` go into `[gateway]`, `service` into
        each service; `rest` replaces the services and routes."""
        if name not in self._gateways:
            config = HEAD.format(gateway=limits, rest=rest if rest is not None else self._routes(service))
            gateway = Gateway(self.binary, self.folder, name, config)
            self._stack.callback(gateway.stop)
            self._gateways[name] = gateway
        gateway = self._gateways[name]
        check(
            gateway.process.poll() is None, f"the gateway has ended ({gateway.process.poll()}):", gateway.complaints()
        )
        return gateway

    @property
    def services(self) -> Services:
        """The services behind the gateways; started when they are first asked for."""
        if self._services is None:
            self._services = Services()
            self._stack.callback(self._services.stop)
        return self._services

    @property
    def postgres(self) -> "pool.Postgres":
        """The server behind the poolers; started when it is first asked for."""
        with self._lock:
            if self._postgres is None:
                self._postgres = pool.Postgres()
                self._stack.callback(self._postgres.stop)
            return self._postgres

    def pool(self, size: int = 20, state: str = "track") -> "pool.Pooler":
        """The pooler with so many server connections and this `session_state`; started when it is first asked for."""
        key = (size, state)
        with self._lock:
            if key not in self._pools:
                self._pools[key] = pool.Pooler(self.pooler, self.binary, self.postgres, size, state)
                self._stack.callback(self._pools[key].stop)
            found = self._pools[key]
        ended = found.process and found.process.poll()
        check(ended is None, f"the pooler has ended ({ended}):", found.log())
        return found

    @property
    def plain(self) -> Gateway:
        """A gateway with the limits that it has by itself."""
        return self.gateway("plain")

    def _routes(self, service: str) -> str:
        lines = []
        for name in ("raw", "websocket"):
            lines += ["[[route]]", f'name = "{name}"', f'path = "/{name}/*"', f'service = "{name}"']
        lines += ["[[route]]", 'name = "app"', 'service = "app"']
        for name, port in self.services.ports.items():
            lines += [f"[service.{name}]", f'endpoints = ["127.0.0.1:{port}"]', service]
        return "\n".join(lines)

    def note(self, text: str) -> None:
        """A line that is printed behind the case's own."""
        self.notes.append(text)

    def take_notes(self) -> list[str]:
        notes, self.notes = self.notes, []
        return notes


def command(
    *words: object, feed: bytes | None = None, patience: float = 60.0, environment: dict[str, str] | None = None
):
    """Runs a program to its end; returns what `subprocess.run` does. Never raises for a status."""
    try:
        return subprocess.run(
            [str(w) for w in words],
            input=feed,
            stdin=None if feed is not None else subprocess.DEVNULL,
            capture_output=True,
            timeout=patience,
            env={**os.environ, **(environment or {})},
        )
    except FileNotFoundError:
        raise Failed(f"`{words[0]}` is not installed; `cargo xtask interop` installs it") from None
    except subprocess.TimeoutExpired as error:
        raise Failed(f"`{words[0]}` did not end within {patience:g} s: {shorten(error.stderr)}") from None


# It uses what stands above.
import pool  # noqa: E402
