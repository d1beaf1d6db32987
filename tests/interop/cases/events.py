"""Server-sent events arrive one by one. The service sends an event only when the one before was acknowledged past the
gateway, so a gateway that holds back a single byte of them stands still; no time is measured."""

import asyncio

import httpx

from harness import PATIENCE, World, case, check, same

COUNT = 20


async def follow(world: World, name: str, path: str) -> None:
    direct = f"http://127.0.0.1:{world.services.ports['raw']}/raw/acknowledge/{name}"
    timeout = httpx.Timeout(PATIENCE)
    async with httpx.AsyncClient(timeout=timeout) as client, httpx.AsyncClient(timeout=timeout) as aside:
        async with client.stream("GET", f"{world.plain.url}{path}") as answer:
            same(answer.status_code, 200, "status")
            check(answer.headers["Content-Type"].startswith("text/event-stream"), answer.headers)
            seen = 0
            async for line in answer.aiter_lines():
                if line.startswith("data:"):
                    same(line, f"data: event {seen}", "event")
                    same((await aside.get(f"{direct}/{seen}")).status_code, 200, "acknowledgement")
                    seen += 1
    same(seen, COUNT, "events")


@case("sse", "each event arrives before the next is sent (chunked)")
async def chunked(world: World) -> None:
    await follow(world, "chunked", f"/events/chunked/{COUNT}")


@case("sse", "each event arrives before the next is sent (HTTP/1.0, until the connection ends)")
async def until_close(world: World) -> None:
    await follow(world, "plain", f"/raw/close-delimited-events/plain/{COUNT}")


@case("sse", "10 streams at once, in step with none but their own reader")
async def many(world: World) -> None:
    await asyncio.gather(*(follow(world, f"many-{n}", f"/events/many-{n}/{COUNT}") for n in range(10)))


@case("sse", "a reader that goes away ends the stream at the service")
async def gone(world: World) -> None:
    async with httpx.AsyncClient(timeout=PATIENCE) as client:
        async with client.stream("GET", f"{world.plain.url}/raw/down/chunked/{1 << 30}") as answer:
            pieces = answer.aiter_raw()
            await anext(pieces)
            counts = await asyncio.to_thread(world.services.raw, "/raw/counts")
            same(counts["down"], 1, "streams while it is read")
    async with asyncio.timeout(PATIENCE):
        while (await asyncio.to_thread(world.services.raw, "/raw/counts"))["down"]:
            await asyncio.sleep(0.02)
