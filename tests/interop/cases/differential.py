"""The gateway's request parser against h11 and httptools (llhttp).

Some thousand near-valid byte streams are made by seeded mutation. Each goes to the gateway on a connection of its own,
from a loopback address of its own, so that what a recording service receives can be told apart by `X-Forwarded-For`.
Behind each stream stands a plain request for `/end`: it shows whether both sides agree where the mutated one ended.

The claim: what the gateway forwards, both parsers read from the client's bytes as the same requests in the same order
(method, target, host, body). The gateway may refuse what they take; it may never forward what they refuse or read
otherwise. The few exceptions are in `oracles.JUSTIFIED`, each with its reason; the streams come from `mutation.py`.
"""

import asyncio
import contextlib
import random
from collections import Counter
from dataclasses import dataclass, field

import h11

from harness import PATIENCE, Failed, World, case, check, same, shorten

import mutation
from oracles import JUSTIFIED, ORACLES, Message, read_by_h11

END = b"GET /end HTTP/1.1\r\nHost: end\r\nConnection: close\r\n\r\n"
# Connections that are open at a time.
LANES = 64
# Limits of the gateway here: a stream that stops in the middle of a message is to end soon.
LIMITS = 'header_timeout = "2s"\nidle_timeout = "2s"\nbody_idle_timeout = "500ms"\nmin_rate = "0B/s"'


@dataclass
class Stream:
    """What a client sends, what came of it."""

    data: bytes
    mutated: bool
    answer: bytes = b""
    ended: bool = False
    forwarded: list[Message] = field(default_factory=list)


def make_streams(seed: int, count: int) -> list[Stream]:
    rng = random.Random(seed)
    made = (mutation.mutated(rng) for _ in range(count))
    return [Stream(data + END, changes > 0) for data, changes in made]


class Recorder:
    """The service: answers everything with an empty 200 and remembers it under the client's address."""

    def __init__(self) -> None:
        self.by_client: dict[str, list[Message]] = {}
        self.broken: list[str] = []
        self.busy = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server, open_message, seen = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20), None, b""
        try:
            while True:
                event = server.next_event()
                if event is h11.NEED_DATA:
                    if server.they_are_waiting_for_100_continue:
                        writer.write(server.send(h11.InformationalResponse(status_code=100, headers=[])))
                    data = await reader.read(65536)
                    seen = (seen + data)[-4000:]
                    server.receive_data(data)
                elif isinstance(event, h11.Request):
                    fields = dict(event.headers)
                    open_message = Message(event.method, event.target, fields.get(b"host"))
                    self.busy += 1
                    client = fields.get(b"x-forwarded-for", b"nobody").decode("latin-1")
                    self.by_client.setdefault(client, []).append(open_message)
                elif isinstance(event, h11.Data):
                    open_message.body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    open_message.whole, open_message = True, None
                    self.busy -= 1
                    answer = server.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                    writer.write(answer + server.send(h11.EndOfMessage()))
                    server.start_next_cycle()
                else:
                    return
        except h11.RemoteProtocolError as error:
            # A message that the gateway broke off is known to be incomplete; anything else must be readable.
            if open_message is None or "without sending complete message body" not in str(error):
                self.broken.append(f"{error}: {shorten(seen)}")
        except (ConnectionError, asyncio.CancelledError):
            # The gateway is gone, or the case has ended.
            pass
        finally:
            self.busy -= open_message is not None
            writer.close()


def client_address(index: int) -> str:
    """A loopback address of the stream's own."""
    return f"127.{1 + (index >> 14)}.{(index >> 7) & 127}.{1 + (index & 127)}"


async def send(address: tuple[str, int], index: int, stream: Stream) -> None:
    reader, writer = await asyncio.open_connection(*address, local_addr=(client_address(index), 0))
    try:
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                writer.write(stream.data)
                while piece := await reader.read(65536):
                    stream.answer += piece
            stream.ended = True
    except TimeoutError:
        pass
    finally:
        writer.close()


async def send_all(address: tuple[str, int], streams: list[Stream]) -> None:
    waiting = iter(enumerate(streams))

    async def lane() -> None:
        for index, stream in waiting:
            await send(address, index, stream)

    await asyncio.gather(*(lane() for _ in range(LANES)))


def judge(stream: Stream, used: Counter[str]) -> str | None:
    """What is wrong with what became of a stream, if anything."""
    if not stream.ended:
        return "the gateway neither answered nor closed"
    if stream.answer and not stream.answer.startswith(b"HTTP/1.1 "):
        return f"the answer is none: {shorten(stream.answer)}"
    for name, read in ORACLES.items():
        messages, why = read(stream.data)
        at = 0
        for forwarded in stream.forwarded:
            # The gateway answers some requests itself (a path with dots, TRACE), so some may be left out.
            agreeing = (n for n in range(at, len(messages)) if messages[n].agrees(forwarded))
            found = next(agreeing, None)
            if found is not None:
                at = found + 1
                continue
            excuse = next((d for d in JUSTIFIED if d.oracle == name and d.applies(stream.data, forwarded, why)), None)
            if excuse is None:
                return f"forwarded {forwarded}, but {name} reads {messages[at:]} ({why})"
            used[f"{name}: {excuse.what}"] += 1
            break
        else:
            if not stream.mutated and at < len(messages):
                return f"a valid stream was not forwarded whole: {at} of {len(messages)} requests"
    return None


@case("differential", "what the gateway forwards, h11 and httptools read the same from the client's bytes")
async def differential(world: World) -> None:
    streams = make_streams(world.seed, 1000 if world.short else 4000)
    recorder = Recorder()
    server = await asyncio.start_server(recorder.serve, "127.0.0.1", 0, backlog=1024)
    endpoint = "127.0.0.1:%d" % server.sockets[0].getsockname()[1]
    service = f'[service.recorder]\nendpoints = ["{endpoint}"]'
    gateway = await asyncio.to_thread(world.gateway, "differential", LIMITS, rest=service)
    await send_all(gateway.address, streams)
    async with asyncio.timeout(PATIENCE):
        while recorder.busy:
            await asyncio.sleep(0.01)
    server.close()
    for index, stream in enumerate(streams):
        stream.forwarded = recorder.by_client.pop(client_address(index), [])
    used: Counter[str] = Counter()
    verdicts = ((n, stream, judge(stream, used)) for n, stream in enumerate(streams))
    wrong = [f"stream {n}: {why}\n  {shorten(stream.data, 700)}" for n, stream, why in verdicts if why]
    report(world, streams, used)
    if wrong:
        raise Failed(f"seed {world.seed}: {len(wrong)} of {len(streams)} streams\n" + "\n".join(wrong[:8]))
    same(recorder.broken, [], "what the service could not read")
    same(list(recorder.by_client), [], "requests of nobody")
    # The comparison means nothing if it had nothing to compare.
    mutated = [s for s in streams if s.mutated]
    forwarded = sum(bool(s.forwarded) for s in mutated)
    check(0.1 < forwarded / len(mutated) < 0.9, f"{forwarded} of {len(mutated)} mutated streams were forwarded")


def report(world: World, streams: list[Stream], used: Counter[str]) -> None:
    mutated = [s for s in streams if s.mutated]
    forwarded = sum(bool(s.forwarded) for s in mutated)
    stricter = sum(not s.forwarded and bool(read_by_h11(s.data)[0]) for s in mutated)
    world.note(
        f"seed {world.seed}: {len(streams)} streams, {len(mutated)} of them mutated; of these {forwarded} were "
        f"forwarded in part or whole, and {stricter} that h11 begins to take were refused"
    )
    for what, times in sorted(used.items()):
        reason = next(d.reason for d in JUSTIFIED if f"{d.oracle}: {d.what}" == what)
        world.note(f"{times:4} times {what} ({reason})")
