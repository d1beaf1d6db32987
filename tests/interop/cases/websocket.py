"""WebSocket through an upgraded connection, with `websockets` at both ends."""

import asyncio
import random

import websockets

from harness import PATIENCE, World, case, check, same, until


def connect(world: World, name: str, **options: object) -> websockets.connect:
    return websockets.connect(
        f"ws://{world.plain.at}/websocket/{name}", max_size=8 << 20, open_timeout=PATIENCE, **options
    )


async def receive(socket: websockets.ClientConnection) -> str | bytes:
    return await asyncio.wait_for(socket.recv(), PATIENCE)


@case("websocket", "texts come back, with and without compression")
async def texts(world: World) -> None:
    for compression in ("deflate", None):
        async with connect(world, "texts", compression=compression) as socket:
            for text in ("hello", "", "Grüße, 世界", "x" * 70_000):
                await socket.send(text)
                same(await receive(socket), text, "echo")


@case("websocket", "binary messages of a mebibyte, ten in flight")
async def binary(world: World) -> None:
    messages = [random.Random(n).randbytes(1 << 20) for n in range(10)]
    async with connect(world, "binary", compression=None) as socket:
        sender = asyncio.create_task(send_all(socket, messages))
        for message in messages:
            check(await receive(socket) == message, "a message came back changed")
        await sender


async def send_all(socket: websockets.ClientConnection, messages: list[bytes]) -> None:
    for message in messages:
        await socket.send(message)


@case("websocket", "pings and pongs pass both ways")
async def pings(world: World) -> None:
    async with connect(world, "pings", ping_interval=None) as socket:
        pong = await socket.ping(b"from the client")
        await asyncio.wait_for(pong, PATIENCE)
        await socket.send("!ping")
        same(await receive(socket), "pong came back", "the service's ping")


@case("websocket", "the service's close code and reason reach the client")
async def closed_by_service(world: World) -> None:
    async with connect(world, "service") as socket:
        await socket.send("!close 4001 that is all")
        try:
            await receive(socket)
            check(False, "the connection stayed open")
        except websockets.ConnectionClosed as closed:
            same((closed.rcvd.code, closed.rcvd.reason), (4001, "that is all"), "code and reason")


async def code_at_service(world: World, name: str) -> object:
    """The close code that the service saw; asked past the gateway."""
    return await asyncio.to_thread(
        until, lambda: world.services.raw(f"/raw/close-code/{name}"), "the service sees the end"
    )


@case("websocket", "the client's close code reaches the service, and so does its vanishing")
async def closed_by_client(world: World) -> None:
    for code in (1000, 4002):
        socket = await connect(world, f"client-{code}")
        await socket.send("hello")
        same(await receive(socket), "hello", "echo")
        await socket.close(code)
        same(await code_at_service(world, f"client-{code}"), code, "code")
    socket = await connect(world, "vanished")
    socket.transport.abort()
    same(await code_at_service(world, "vanished"), 1006, "code")


@case("websocket", "a refused handshake is an ordinary answer")
async def refused(world: World) -> None:
    try:
        async with connect(world, "forbidden"):
            check(False, "the handshake went through")
    except websockets.InvalidStatus as error:
        same((error.response.status_code, error.response.body), (403, b"not you\n"), "status and body")


@case("websocket", "50 connections at once, 20 messages on each")
async def many(world: World) -> None:
    before = world.plain.metric("evenkeel_gateway_tunnels_total")
    barrier = asyncio.Barrier(50)

    async def one(number: int) -> None:
        async with connect(world, f"many-{number}") as socket:
            await asyncio.wait_for(barrier.wait(), PATIENCE)
            for n in range(20):
                await socket.send(f"{number}:{n}")
                same(await receive(socket), f"{number}:{n}", "echo")

    await asyncio.gather(*(one(number) for number in range(50)))
    same(world.plain.metric("evenkeel_gateway_tunnels_total") - before, 50.0, "tunnels counted")
