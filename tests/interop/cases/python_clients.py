"""Python: httpx, requests, aiohttp, and http.client with requests pipelined by hand."""

import asyncio
import hashlib
import http.client
import io
import json
import socket

import aiohttp
import httpx
import requests

from harness import PATIENCE, World, case, check, same

import streams


@case("httpx", "a client's pool: 200 requests, one connection")
def sync_pool(world: World) -> None:
    before = world.plain.metric("evenkeel_gateway_connections_accepted_total")
    with httpx.Client(base_url=world.plain.url) as client:
        for n in range(200):
            answer = client.post("/echo", params={"n": n}, content=b"x" * n)
            same((answer.status_code, answer.json()["length"]), (200, n), "status and length")
    after = world.plain.metric("evenkeel_gateway_connections_accepted_total")
    same(after - before, 1.0, "connections accepted")


@case("httpx", "an asynchronous pool: 400 requests by 20 at a time, over at most 20 connections")
async def async_pool(world: World) -> None:
    before = world.plain.metric("evenkeel_gateway_connections_accepted_total")

    async def some(client: httpx.AsyncClient, worker: int) -> None:
        for n in range(20):
            answer = await client.get(f"/echo/{worker}/{n}")
            same(answer.json()["target"], f"/echo/{worker}/{n}", "target (each answer belongs to its request)")

    async with httpx.AsyncClient(base_url=world.plain.url, timeout=PATIENCE) as client:
        await asyncio.gather(*(some(client, worker) for worker in range(20)))
    made = world.plain.metric("evenkeel_gateway_connections_accepted_total") - before
    check(1 <= made <= 20, f"{made:g} connections were accepted")


@case("httpx", "an upload from a generator: chunked, 16 MB")
def upload_generator(world: World) -> None:
    size = 16_000_000
    answer = httpx.put(f"{world.plain.url}/echo", content=(bytes(b) for b in streams.blocks(size)), timeout=60.0)
    seen = answer.json()
    same((seen["length"], seen["sha256"]), (size, streams.digest(size)), "length and hash")
    fields = {name.lower(): value for name, value in seen["headers"]}
    same(fields.get("transfer-encoding"), "chunked", "Transfer-Encoding at the service")


@case("httpx", "downloads are streamed: with a length, chunked, and until the connection ends")
async def download(world: World) -> None:
    size = 16_000_000
    async with httpx.AsyncClient(base_url=world.plain.url, timeout=60.0) as client:
        for path in (f"/length/{size}", f"/chunked/{size}", f"/raw/close-delimited/{size}"):
            total = hashlib.sha256()
            async with client.stream("GET", path) as answer:
                async for piece in answer.aiter_bytes():
                    total.update(piece)
            same((answer.status_code, total.hexdigest()), (200, streams.digest(size)), path)


@case("aiohttp", "both ways at once: each piece comes back before the next is sent")
async def both_ways(world: World) -> None:
    count, returned = 50, asyncio.Queue(100)

    async def pieces():
        for n in range(count):
            yield b"piece %d\n" % n
            # The answer begins once the first piece is there; from then on they go in step.
            same(await asyncio.wait_for(returned.get(), PATIENCE), b"piece %d\n" % n, "piece")

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60.0)) as client:
        async with client.post(f"{world.plain.url}/duplex", data=pieces()) as answer:
            same(answer.status, 200, "status")
            for _ in range(count):
                returned.put_nowait(await answer.content.readline())
            same(await answer.content.read(), b"", "bytes behind the last piece")


@case("requests", "a session: every method, one connection")
def session(world: World) -> None:
    before = world.plain.metric("evenkeel_gateway_connections_accepted_total")
    with requests.Session() as client:
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            answer = client.request(method, f"{world.plain.url}/echo", data=b"body" if method[0] == "P" else None)
            same((answer.status_code, answer.json()["method"]), (200, method), "status and method")
        same(client.head(f"{world.plain.url}/length/9").headers["Content-Length"], "9", "length of a HEAD's answer")
        same(client.get(f"{world.plain.url}/status/204").content, b"", "body of a 204")
        same(client.get(f"{world.plain.url}/echo").json()["length"], 0, "the request behind them")
    after = world.plain.metric("evenkeel_gateway_connections_accepted_total")
    same(after - before, 1.0, "connections accepted")


@case("requests", "a POST that the service hangs up on is sent once: 502")
def post_once(world: World) -> None:
    with requests.Session() as client:
        # The first request leaves a connection to the service behind that the second may use.
        same(client.post(f"{world.plain.url}/raw/digest", data=b"a").status_code, 200, "status of the first")
        answer = client.post(f"{world.plain.url}/raw/hang-up/post", data=b"order")
    same((answer.status_code, answer.json()["code"]), (502, "upstream-closed"), "status and code")
    same(world.services.raw("/raw/counts").get("POST /raw/hang-up/post"), 1, "times that the service was asked")


@case("requests", "a GET that the service hangs up on is sent three times: 502")
def get_three_times(world: World) -> None:
    with requests.Session() as client:
        same(client.get(f"{world.plain.url}/raw/digest").status_code, 200, "status of the first")
        answer = client.get(f"{world.plain.url}/raw/hang-up/get")
    same((answer.status_code, answer.json()["code"]), (502, "upstream-closed"), "status and code")
    times = world.services.raw("/raw/counts").get("GET /raw/hang-up/get")
    same(times, 3, "times that the service was asked")


class Pipe:
    """A connection whose answers `http.client` reads one behind the other."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, PATIENCE)
        self.file = self.socket.makefile("rb", buffering=io.DEFAULT_BUFFER_SIZE)

    def makefile(self, _mode: str) -> "Pipe":
        return self

    def __getattr__(self, name: str):
        return getattr(self.file, name)

    def close(self) -> None:
        """Each answer closes its file when it has been read; the connection goes on."""

    def answer(self, method: str = "GET") -> tuple[http.client.HTTPResponse, bytes]:
        answer = http.client.HTTPResponse(self, method=method)
        answer.begin()
        return answer, answer.read()

    def end(self) -> None:
        self.file.close()
        self.socket.close()


@case("http.client", "100 pipelined requests of mixed kinds: every answer, in order")
def pipelined(world: World) -> None:
    pipe = Pipe(world.plain.address)
    kinds = ["GET /echo/{n}", "HEAD /length/500", "POST /echo/{n}", "GET /chunked/20000", "GET /status/204"]
    asked = []
    for n in range(100):
        method, target = kinds[n % len(kinds)].format(n=n).split()
        body = b"z" * n if method == "POST" else b""
        asked.append((method, target, len(body)))
        length = f"Content-Length: {len(body)}\r\n" if method == "POST" else ""
        pipe.socket.sendall(f"{method} {target} HTTP/1.1\r\nHost: pipe\r\n{length}\r\n".encode() + body)
    for method, target, length in asked:
        answer, body = pipe.answer(method)
        if target.startswith("/echo"):
            seen = json.loads(body)
            same((seen["method"], seen["target"], seen["length"]), (method, target, length), "what was asked")
        elif target.startswith("/chunked"):
            same(hashlib.sha256(body).hexdigest(), streams.digest(20_000), "hash")
        else:
            same((answer.status, body), (204 if "204" in target else 200, b""), target)
    pipe.end()


@case("http.client", "Connection: close in the middle of a pipeline: the rest is not answered")
def pipelined_close(world: World) -> None:
    pipe = Pipe(world.plain.address)
    ask = "GET /echo/{} HTTP/1.1\r\nHost: pipe\r\n{}\r\n"
    fields = ["", "Connection: close\r\n", ""]
    pipe.socket.sendall("".join(ask.format(n, field) for n, field in enumerate(fields)).encode())
    for _ in range(2):
        answer, _ = pipe.answer()
        same(answer.status, 200, "status")
    same(answer.headers["Connection"], "close", "Connection of the last answer")
    same(pipe.file.read(), b"", "bytes behind the last answer")
    pipe.end()


@case("http.client", "trailers pass both ways")
def trailers(world: World) -> None:
    pipe = Pipe(world.plain.address)
    pipe.socket.sendall(
        b"POST /raw/digest HTTP/1.1\r\nHost: pipe\r\nTransfer-Encoding: chunked\r\nTrailer: X-Check\r\n\r\n"
        b"3;a=b\r\nabc\r\n0\r\nX-Check: yes\r\n\r\n"
    )
    answer, body = pipe.answer()
    same(answer.status, 200, "status")
    check(b'"X-Check: yes"' in body and b'"length": 3' in body, "at the service:", body)
    pipe.socket.sendall(b"GET /raw/trailers HTTP/1.1\r\nHost: pipe\r\nTE: trailers\r\n\r\n")
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += pipe.file.readline()
    rest = b""
    while not rest.endswith(b"0\r\nX-Sum: 42\r\n\r\n"):
        line = pipe.file.readline()
        check(line, "the answer ended without its trailer:", rest)
        rest += line
    same(rest.split(b"\r\n")[1], b"hello", "body")
    pipe.end()
