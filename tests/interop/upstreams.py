"""The services behind the gateway: real server software where there is some, and one that speaks from a script.

| name | what it is | what for |
| --- | --- | --- |
| `app` | aiohttp | echo, conditional requests, streams both ways, event streams |
| `websocket` | websockets | echo, pings, close codes |
| `raw` | asyncio streams | what frameworks do not do: 103, trailers, early answers, hanging up, gigabytes |

Prints `NAME PORT` for each and then `ready`; ends when standard input does. The raw service counts what it is asked
(`/raw/counts`), and it also takes what must not go through the gateway: acknowledgements and questions.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import sys
from collections import Counter
from dataclasses import dataclass, field

import websockets
from aiohttp import web

import streams

# No answer and no wait of a service lasts longer than this, whatever a failed case leaves behind.
SERVICE_MAX = 600.0
READ = 256 * 1024


class Events:
    """Event streams that go on only when the last event was acknowledged past the gateway."""

    def __init__(self) -> None:
        self.queues: dict[str, asyncio.Queue[int]] = {}

    def queue(self, name: str) -> asyncio.Queue[int]:
        return self.queues.setdefault(name, asyncio.Queue(1000))

    async def acknowledged(self, name: str, number: int) -> None:
        while await asyncio.wait_for(self.queue(name).get(), 30.0) < number:
            pass

    @staticmethod
    def text(number: int) -> bytes:
        return f"id: {number}\nevent: tick\ndata: event {number}\n\n".encode()


EVENTS = Events()
COUNTS: Counter[str] = Counter()
CLOSE_CODES: dict[str, int] = {}


# --- app -----------------------------------------------------------------------------------------------------------

routes = web.RouteTableDef()


@routes.get("/healthz")
async def healthz(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


@routes.route("*", "/echo{rest:.*}")
async def echo(request: web.Request) -> web.Response:
    """What arrived, as JSON."""
    sha, length = hashlib.sha256(), 0
    async for piece in request.content.iter_any():
        sha.update(piece)
        length += len(piece)
    return web.json_response(
        {
            "method": request.method,
            "target": request.raw_path,
            "headers": [[n.decode("latin-1"), v.decode("latin-1")] for n, v in request.raw_headers],
            "length": length,
            "sha256": sha.hexdigest(),
        }
    )


@routes.get("/length/{n}")
async def with_length(request: web.Request) -> web.StreamResponse:
    return await stream(request, int(request.match_info["n"]), False)


@routes.get("/chunked/{n}")
async def chunked(request: web.Request) -> web.StreamResponse:
    return await stream(request, int(request.match_info["n"]), True)


async def stream(request: web.Request, n: int, is_chunked: bool) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    if is_chunked:
        answer.enable_chunked_encoding()
    else:
        answer.content_length = n
    await answer.prepare(request)
    # aiohttp would send the body of an answer to HEAD, too.
    for block in streams.blocks(n if request.method == "GET" else 0):
        await answer.write(bytes(block))
    await answer.write_eof()
    return answer


@routes.get("/etag")
async def etag(request: web.Request) -> web.Response:
    headers = {"ETag": '"v1"', "Cache-Control": "no-cache"}
    if request.headers.get("If-None-Match") == '"v1"':
        return web.Response(status=304, headers=headers)
    return web.Response(text="version one\n", headers=headers)


@routes.route("*", "/status/{code}")
async def status(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(status=int(request.match_info["code"]))


@routes.post("/duplex")
async def duplex(request: web.Request) -> web.StreamResponse:
    """Sends every piece back as it comes, long before the request has ended."""
    answer = web.StreamResponse()
    answer.enable_chunked_encoding()
    await answer.prepare(request)
    async for piece in request.content.iter_any():
        await answer.write(piece)
    await answer.write_eof()
    return answer


@routes.get("/events/{name}/{n}")
async def events(request: web.Request) -> web.StreamResponse:
    name, n = request.match_info["name"], int(request.match_info["n"])
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await answer.prepare(request)
    for number in range(n):
        await answer.write(Events.text(number))
        await EVENTS.acknowledged(name, number)
    return answer


# --- raw -----------------------------------------------------------------------------------------------------------


@dataclass
class Request:
    """A request as the gateway sent it; well-formed by contract, so this reads no more than it needs."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    method: str
    target: str
    headers: list[tuple[str, str]]
    sha: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    length: int = 0
    trailers: list[str] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        return next((v for n, v in self.headers if n.lower() == name), None)

    async def read_body(self) -> None:
        """Reads the body to its end, whatever its framing."""
        if self.header("transfer-encoding"):
            while size := int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16):
                await self._take(size)
                await self.reader.readexactly(2)
            while (line := await self.reader.readuntil(b"\r\n")) != b"\r\n":
                self.trailers.append(line.decode("latin-1").rstrip())
        else:
            await self._take(int(self.header("content-length") or 0))

    async def _take(self, n: int) -> None:
        self.length += n
        while n > 0:
            piece = await self.reader.read(min(n, READ))
            if not piece:
                raise asyncio.IncompleteReadError(b"", n)
            self.sha.update(piece)
            n -= len(piece)

    def seen(self) -> dict[str, object]:
        return {"length": self.length, "sha256": self.sha.hexdigest(), "trailers": self.trailers}

    async def answer(self, status: int, body: object, *fields: str) -> None:
        text = json.dumps(body).encode()
        head = [f"HTTP/1.1 {status} Reason", "Content-Type: application/json", f"Content-Length: {len(text)}", *fields]
        self.writer.write("\r\n".join([*head, "", ""]).encode() + text)
        await self.writer.drain()


async def read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = lines[0].split(" ")
    headers = [(n, v.strip()) for n, v in (line.split(":", 1) for line in lines[1:-2])]
    return Request(reader, writer, method, target, headers)


async def serve_raw(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    COUNTS["connections"] += 1
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.TimeoutError):
        async with asyncio.timeout(SERVICE_MAX):
            while await answer_raw(await read_request(reader, writer)):
                pass
    writer.close()


async def answer_raw(request: Request) -> bool:
    """Answers one request; false ends the connection."""
    COUNTS[f"{request.method} {request.target}"] += 1
    path, *rest = request.target.removeprefix("/raw/").split("/")
    writer = request.writer
    match path:
        case "counts":
            await request.answer(200, dict(COUNTS))
        case "close-code":
            await request.answer(200, CLOSE_CODES.pop(rest[0], None))
        case "acknowledge":
            EVENTS.queue(rest[0]).put_nowait(int(rest[1]))
            await request.answer(200, None)
        case "digest":
            await request.read_body()
            await request.answer(200, request.seen())
        case "hints":
            writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
            await request.answer(200, "hinted")
        case "trailers":
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
            writer.write(b"5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n")
            await writer.drain()
        case "close-delimited":
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
            for block in streams.blocks(int(rest[0])):
                writer.write(bytes(block))
                await writer.drain()
            return False
        case "close-delimited-events":
            writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
            for number in range(int(rest[1])):
                writer.write(Events.text(number))
                await EVENTS.acknowledged(rest[0], number)
            await writer.drain()
            return False
        case "hang-up":
            await request.read_body()
            return False
        case "too-large":
            # An answer while the body is still coming; the rest of it is not read.
            await request.answer(413, "too large", "Connection: close")
            return False
        case "down":
            await send_stream(request, int(rest[1]), rest[0] == "chunked")
        case _:
            await request.read_body()
            await request.answer(404, f"no {path}")
    return (request.header("connection") or "").lower() != "close"


async def send_stream(request: Request, n: int, is_chunked: bool) -> None:
    """The stream of `n` bytes; counts itself for as long as it is being sent."""
    COUNTS["down"] += 1
    framing = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {n}"
    try:
        request.writer.write(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode())
        for block in streams.blocks(n):
            if is_chunked:
                request.writer.write(b"%x\r\n%b\r\n" % (len(block), block))
            else:
                request.writer.write(bytes(block))
            await request.writer.drain()
        if is_chunked:
            request.writer.write(b"0\r\n\r\n")
        await request.writer.drain()
    finally:
        COUNTS["down"] -= 1


# --- websocket -----------------------------------------------------------------------------------------------------


def handshake(connection: websockets.ServerConnection, request: websockets.Request) -> websockets.Response | None:
    if request.path.endswith("/forbidden"):
        return connection.respond(403, "not you\n")
    return None


async def serve_websocket(connection: websockets.ServerConnection) -> None:
    """Echoes, but for texts that begin with `!`, which are orders."""
    name = connection.request.path.rsplit("/", 1)[1]
    try:
        async for message in connection:
            match message.split() if isinstance(message, str) else []:
                case ["!close", code, *reason]:
                    await connection.close(int(code), " ".join(reason))
                case ["!ping"]:
                    pong = await connection.ping(b"from the service")
                    await asyncio.wait_for(pong, 30.0)
                    await connection.send("pong came back")
                case _:
                    await connection.send(message)
    finally:
        await asyncio.wait_for(connection.wait_closed(), 30.0)
        CLOSE_CODES[name] = connection.close_code


# --- all -----------------------------------------------------------------------------------------------------------


async def main() -> None:
    async with contextlib.AsyncExitStack() as stack:
        app = web.Application(client_max_size=1 << 40)
        app.add_routes(routes)
        runner = web.AppRunner(app, access_log=None, keepalive_timeout=60.0)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024, shutdown_timeout=0.1)
        await site.start()
        say("app", runner.addresses[0][1])
        raw = await asyncio.start_server(serve_raw, "127.0.0.1", 0, limit=READ, backlog=1024)
        say("raw", raw.sockets[0].getsockname()[1])
        server = await websockets.serve(
            serve_websocket, "127.0.0.1", 0, process_request=handshake, max_size=8 << 20, close_timeout=2.0
        )
        say("websocket", server.sockets[0].getsockname()[1])
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        # Nobody waits for the rest: connections end with the process.
        os._exit(0)


def say(name: str, port: int) -> None:
    print(name, port, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
