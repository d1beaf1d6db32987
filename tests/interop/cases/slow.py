"""Slow clients: slowhttptest with hundreds of connections while others are served, and clients of our own that drip.

The limits are short here, so that the gateway's patience ends within the time of a test. That a client is cut off is
awaited with a deadline; how fast is not asserted beyond it.
"""

import asyncio
import contextlib
import csv
import socket
import time

import httpx

from harness import PATIENCE, Gateway, World, case, check, command, same, until

LIMITS = """\
header_timeout = "1s"
body_idle_timeout = "1s"
min_rate = "2KiB/s"
min_rate_grace = "1s"
"""
# Pieces of a dripping client are this far apart.
DRIP = 0.1
BIG = 1 << 30


def gateway(world: World) -> Gateway:
    return world.gateway("slow", LIMITS + 'idle_timeout = "1s"')


def attacked(world: World) -> Gateway:
    """One that does not close the others' connections when this machine is too busy to ask for a second."""
    return world.gateway("attacked", LIMITS)


# --- slowhttptest --------------------------------------------------------------------------------------------------


class Others:
    """Ordinary clients that go on asking while something else happens; every answer must be whole and right."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers = 0
        self.stopped = asyncio.Event()

    async def client(self) -> None:
        async with httpx.AsyncClient(base_url=self.url, timeout=PATIENCE) as client:
            while not self.stopped.is_set():
                answer = await client.post("/echo/other", content=b"x" * 3000)
                same((answer.status_code, answer.json()["length"]), (200, 3000), "another client's answer")
                self.answers += 1

    async def during(self, job) -> object:
        """Runs `job` while eight clients ask."""
        clients = [asyncio.create_task(self.client()) for _ in range(8)]
        try:
            result = await job
        finally:
            self.stopped.set()
            await asyncio.gather(*clients)
        return result


async def attack(world: World, mode: str, *options: object, path: str, closes: bool) -> None:
    """Runs slowhttptest beside other clients. `closes`: most of its connections must be closed while it runs."""
    seconds, rate = (5, 200) if world.short else (20, 400)
    slow, report = attacked(world), world.folder / f"slowhttptest{mode}"
    connections = rate * seconds if closes else 400
    words = ["slowhttptest", mode, "-c", connections, "-r", rate, "-l", seconds, "-p", 5]
    words += [*options, "-u", f"{slow.url}{path}", "-g", "-o", report]
    others = Others(slow.url)
    done = await others.during(asyncio.to_thread(command, *words, patience=seconds + 60.0))
    check(report.with_suffix(".csv").is_file(), "it left no report:", done.stdout[-800:], done.stderr[-800:])
    with report.with_suffix(".csv").open() as file:
        seen = [{name: int(value) for name, value in row.items()} for row in csv.DictReader(file)]
    check(all(row["Service Available"] > 0 for row in seen), "its probe was not answered:", seen)
    closed, most = seen[-1]["Closed"], max(row["Connected"] for row in seen)
    opened = closed + seen[-1]["Connected"]
    check(opened >= 300, f"it opened only {opened} connections")
    if closes:
        check(closed >= opened // 2, f"only {closed} of {opened} connections were closed:", seen)
    check(others.answers > 50, f"others had only {others.answers} answers")
    world.note(
        f"of {opened} connections, at most {most} at a time, {closed} were closed; "
        f"others had {others.answers} answers, all right"
    )


@case("slow", "slowhttptest: slow headers; others are served, its connections are closed")
async def slow_headers(world: World) -> None:
    await attack(world, "-H", "-i", 2, "-x", 16, path="/echo", closes=True)


@case("slow", "slowhttptest: slow bodies; others are served, its connections are closed")
async def slow_bodies(world: World) -> None:
    await attack(world, "-B", "-i", 2, "-s", 8192, "-x", 10, path="/echo", closes=True)


@case("slow", "slowhttptest: slow reads; others are served")
async def slow_reads(world: World) -> None:
    # Its answers fit into the kernel's buffers, so the gateway is done with most of them; what it does about answers that
    # do not fit is shown below.
    await attack(world, "-X", "-w", 10, "-y", 20, "-n", 5, "-z", 32, path="/length/300000", closes=False)


# --- clients that drip ---------------------------------------------------------------------------------------------


async def drip(address: tuple[str, int], start: bytes, piece: bytes) -> bytes:
    """Sends `start`, then `piece` over and over at the pace of a slow client, until the gateway ends the connection.
    Returns what it said; fails if it does not end it."""
    reader, writer = await asyncio.open_connection(*address)
    said = b""
    try:
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                writer.write(start)
                while True:
                    try:
                        got = await asyncio.wait_for(reader.read(65536), DRIP)
                    except TimeoutError:
                        writer.write(piece)
                        continue
                    if not got:
                        break
                    said += got
    finally:
        writer.close()
    return said


async def all_end(world: World, start: str, piece: bytes, answer: bytes, count: int = 50) -> None:
    """`count` clients that drip so are all told `answer` (nothing at all, if empty) and closed."""
    slow = gateway(world)
    said = await asyncio.gather(*(drip(slow.address, start.encode(), piece) for _ in range(count)))
    for one in said:
        check(one.startswith(answer) if answer else one == b"", "the gateway said", one[:300])
    given_back = lambda: slow.metric("evenkeel_gateway_connections_open") < count  # noqa: E731
    await asyncio.to_thread(until, given_back, "connections are given back")


TIMEOUT = b"HTTP/1.1 408 "


@case("slow", "a head that drips: 408 and closed")
async def head_drips(world: World) -> None:
    await all_end(world, "GET / HTTP/1.1\r\nHost: slow\r\nX: ", b"a", TIMEOUT)


@case("slow", "a head that stops: 408 and closed")
async def head_stops(world: World) -> None:
    await all_end(world, "GET / HTTP/1.1\r\nHost: sl", b"", TIMEOUT)


@case("slow", "a client that says nothing: closed without a word")
async def silent(world: World) -> None:
    await all_end(world, "", b"", b"")


@case("slow", "a kept connection without another request: closed after the answer")
async def idle(world: World) -> None:
    await all_end(world, "GET /healthz HTTP/1.1\r\nHost: slow\r\n\r\n", b"", b"HTTP/1.1 200 ")


@case("slow", "a small body that drips: 408, and the service is never asked")
async def small_body_drips(world: World) -> None:
    path = "/raw/digest/small-drip"
    await all_end(world, f"POST {path} HTTP/1.1\r\nHost: slow\r\nContent-Length: 4000\r\n\r\n", b"a", TIMEOUT)
    counts = await asyncio.to_thread(world.services.raw, "/raw/counts")
    same(counts.get(f"POST {path}", 0), 0, "times that the service was asked")


async def warm(world: World, count: int) -> None:
    """Leaves `count` idle connections to the raw service behind."""
    async with httpx.AsyncClient(base_url=gateway(world).url, timeout=PATIENCE) as client:
        await asyncio.gather(*(client.get("/raw/digest") for _ in range(count)))


@case("slow", "a large body that drips or stops: 408 and closed, on new and on kept connections")
async def large_body_drips(world: World) -> None:
    head = "POST /raw/digest HTTP/1.1\r\nHost: slow\r\nContent-Length: 4000000\r\n\r\n"
    for _ in range(2):
        await all_end(world, head, b"a", TIMEOUT, 20)
        await all_end(world, head + "begun", b"", TIMEOUT, 20)
        await warm(world, 20)


@case("slow", "a chunked body that drips or stops: 408 and closed")
async def chunked_body_drips(world: World) -> None:
    head = "POST /raw/digest HTTP/1.1\r\nHost: slow\r\nTransfer-Encoding: chunked\r\n\r\n"
    await all_end(world, head, b"1\r\na\r\n", TIMEOUT, 20)
    await all_end(world, head + "5\r\nab", b"", TIMEOUT, 20)


@case("slow", "a client that does not read: cut off, and the service's connection is free")
async def does_not_read(world: World) -> None:
    slow, clients = gateway(world), []

    def streaming() -> int:
        return world.services.raw("/raw/counts").get("down", 0)

    try:
        for _ in range(10):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(PATIENCE)
            client.connect(slow.address)
            client.sendall(f"GET /raw/down/length/{BIG} HTTP/1.1\r\nHost: slow\r\n\r\n".encode())
            clients.append(client)
        await asyncio.to_thread(until, lambda: streaming() == 10, "the streams begin")
        await asyncio.to_thread(until, lambda: streaming() == 0, "the streams are cut off")
        for client in clients:
            received = await asyncio.to_thread(drain, client)
            check(received < BIG, "all of it arrived after all")
    finally:
        for client in clients:
            client.close()


def drain(client: socket.socket) -> int:
    """Reads to the end; returns how many bytes came."""
    total = 0
    with contextlib.suppress(ConnectionError):
        while piece := client.recv(1 << 20):
            total += len(piece)
    return total


@case("slow", "a client that reads slowly but steadily is served to the end")
async def reads_steadily(world: World) -> None:
    size, total = 400_000, 0
    reader, writer = await asyncio.open_connection(*gateway(world).address, limit=2048)
    writer.write(f"GET /length/{size} HTTP/1.1\r\nHost: slow\r\nConnection: close\r\n\r\n".encode())
    deadline = time.monotonic() + PATIENCE * 3
    await reader.readuntil(b"\r\n\r\n")
    # About 200 KB/s: slow for this machine, a hundred times what the limit asks.
    while piece := await reader.read(4096):
        total += len(piece)
        check(time.monotonic() < deadline, f"only {total} bytes arrived")
        await asyncio.sleep(0.02)
    writer.close()
    same(total, size, "bytes")
