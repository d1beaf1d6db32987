"""The gateway's request parser against h11 and httptools (llhttp).

Some thousand near-valid byte streams are made by seeded mutation. Each goes to the gateway on a connection of its own,
from a loopback address of its own, so that what a recording service receives can be told apart by `X-Forwarded-For`.
Behind each stream stands a plain request for `/end`: it shows whether both sides agree where the mutated one ended.

The claim: what the gateway forwards, both parsers read from the client's bytes as the same requests in the same order
(method, target, host, body). The gateway may refuse what they take; it may never forward what they refuse or read
otherwise. The few exceptions are in `JUSTIFIED`, each with its reason.
"""

import asyncio
import contextlib
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import h11
import httptools

from harness import PATIENCE, Failed, World, case, check, same, shorten

END = b"GET /end HTTP/1.1\r\nHost: end\r\nConnection: close\r\n\r\n"
# Connections that are open at a time.
LANES = 64
# Why h11 reads no further: it was asked to.
ENDS = "the request ends the connection"
# Limits of the gateway here: a stream that stops in the middle of a message is to end soon.
LIMITS = 'header_timeout = "2s"\nidle_timeout = "2s"\nbody_idle_timeout = "500ms"\nmin_rate = "0B/s"'


@dataclass
class Message:
    """A request as one side reads it. `whole` is false if its body breaks off."""

    method: bytes
    target: bytes
    host: bytes | None
    body: bytes = b""
    whole: bool = False

    def __repr__(self) -> str:
        body = f"{shorten(self.body, 60)} {'whole' if self.whole else 'broken off'}"
        return f"({self.method!r} {shorten(self.target, 60)} {self.host!r} {body})"

    def agrees(self, forwarded: "Message") -> bool:
        """Whether the gateway forwarded this very request. It writes an absolute target in origin form, and cuts off a
        body that it refuses halfway."""
        if (self.method, origin(self.target)) != (forwarded.method, origin(forwarded.target)):
            return False
        host = authority(self.target) or self.host
        if host is not None and forwarded.host is not None and host.lower() != forwarded.host.lower():
            return False
        if forwarded.whole:
            return self.whole and self.body == forwarded.body
        return self.body.startswith(forwarded.body)


def origin(target: bytes) -> bytes:
    split = re.match(rb"(?i)http://[^/?]*", target)
    path = target[split.end() :] if split else target
    return path if path[:1] in (b"/", b"*") else b"/" + path


def authority(target: bytes) -> bytes | None:
    split = re.match(rb"(?i)http://([^/?]*)", target)
    return split[1] if split else None


# --- oracles -------------------------------------------------------------------------------------------------------


def read_by_h11(data: bytes) -> tuple[list[Message], str]:
    """The requests that h11 reads from `data`, and why it stopped."""
    server = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    messages: list[Message] = []
    try:
        server.receive_data(data)
        while True:
            event = server.next_event()
            if event is h11.NEED_DATA:
                return messages, "incomplete"
            if isinstance(event, h11.Request):
                host = next((v for n, v in event.headers if n == b"host"), None)
                messages.append(Message(event.method, event.target, host))
            elif isinstance(event, h11.Data):
                messages[-1].body += event.data
            elif isinstance(event, h11.EndOfMessage):
                messages[-1].whole = True
                server.send(h11.Response(status_code=404, headers=[("Content-Length", "0")]))
                server.send(h11.EndOfMessage())
                if server.our_state is not h11.DONE:
                    return messages, ENDS
                server.start_next_cycle()
            elif event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                return messages, "paused"
    except h11.RemoteProtocolError as error:
        return messages, f"refused: {error}"


class Listener:
    """What httptools calls back."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def on_message_begin(self) -> None:
        self.messages.append(Message(b"", b"", None))

    def on_url(self, url: bytes) -> None:
        self.messages[-1].target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers are told here as well.
        if name.lower() == b"host" and not self.messages[-1].method:
            self.messages[-1].host = value.strip(b" \t")

    def on_headers_complete(self) -> None:
        self.messages[-1].method = self.parser.get_method()

    def on_body(self, body: bytes) -> None:
        self.messages[-1].body += body

    def on_message_complete(self) -> None:
        self.messages[-1].whole = True


def read_by_httptools(data: bytes) -> tuple[list[Message], str]:
    """The requests that llhttp reads from `data`, and why it stopped."""
    listener = Listener()
    listener.parser = parser = httptools.HttpRequestParser(listener)
    why = "incomplete"
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade as upgrade:
        # It stops at every request that asks for an upgrade; a server that does not grant it reads on.
        rest = data[upgrade.args[0] :]
        listener.messages[-1].whole = True
        if rest and rest != data:
            more, why = read_by_httptools(rest)
            listener.messages += more
    except httptools.HttpParserError as error:
        why = f"refused: {error}"
    return [m for m in listener.messages if m.method], why


ORACLES = {"h11": read_by_h11, "httptools": read_by_httptools}


@dataclass(frozen=True)
class Difference:
    """Where an oracle differs from the gateway, and the gateway is right. `applies` looks at what the client sent, what
    the gateway forwarded of it and why the oracle stopped."""

    oracle: str
    what: str
    applies: Callable[[bytes, Message, str], object]
    reason: str


NO_METHOD = ("refused: Invalid method encountered", "refused: Expected space after method")
# llhttp's list holds others as well; these are those that the streams here use.
KNOWN_TO_LLHTTP = {b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"QUERY", b"M-SEARCH"}
REQUEST_LINE = re.compile(rb"(?m)(\S+) \S+ HTTP/1\.[01]\r$")
HTTP10_KEPT = re.compile(rb"(?i) HTTP/1\.0\r\n(?:[^\r\n]+\r\n)*connection:[^\r\n]*keep-alive")
UPGRADE = re.compile(rb"(?im)^upgrade:")
CHUNKED_TAB = re.compile(rb"(?im)^transfer-encoding:[ \t]*chunked[ \t]*\t[ \t]*\r$")
PROXY_CLOSE = re.compile(rb"(?im)^proxy-connection:[^\r\n]*close")

JUSTIFIED = [
    Difference(
        "h11",
        "an empty line before a request",
        lambda _, __, why: why == "refused: no request line received",
        "RFC 9112, 2.2: a server should skip at least one; h11 refuses it",
    ),
    Difference(
        "h11",
        "HTTP/1.0 with Connection: keep-alive",
        lambda data, _, why: why == ENDS and HTTP10_KEPT.search(data) is not None,
        "RFC 9112, 9.3: such a connection may be kept; h11 never does, so it does not read the request behind",
    ),
    Difference(
        "httptools",
        "a method that it does not know",
        lambda data, forwarded, why: (
            why in NO_METHOD and {forwarded.method, *REQUEST_LINE.findall(data)} - KNOWN_TO_LLHTTP
        ),
        "RFC 9110, 9.1: any token is a method; llhttp has a closed list",
    ),
    Difference(
        "httptools",
        "PRI as a method of HTTP/1",
        lambda _, __, why: "HTTP/2 Connection Preface" in why,
        "it is a token as any other in `PRI / HTTP/1.1`; the preface itself (`PRI * HTTP/2.0`) is refused with 505",
    ),
    Difference(
        "httptools",
        "Proxy-Connection: close",
        lambda data, _, why: "Data after" in why and PROXY_CLOSE.search(data) is not None,
        "RFC 9112, C.2.2: it has no meaning, and the gateway drops it; llhttp takes it for Connection",
    ),
    Difference(
        "httptools",
        "a tab behind `chunked`",
        lambda data, _, why: "invalid `Transfer-Encoding`" in why and CHUNKED_TAB.search(data) is not None,
        "RFC 9110, 5.5: white space at the ends of a value, tabs too, is no part of it; the gateway writes the field anew",
    ),
    Difference(
        "httptools",
        "an odd chunk extension",
        lambda _, __, why: "chunk extensions" in why,
        "RFC 9112, 7.1.1: unknown extensions are to be ignored; the gateway reads none, bounds them and drops them all",
    ),
    Difference(
        "httptools",
        "an upgrade",
        lambda data, _, __: UPGRADE.search(data) is not None,
        "RFC 9110, 7.8: a server that does not upgrade reads the request as any other; llhttp takes it for granted and stops",
    ),
]


# --- streams -------------------------------------------------------------------------------------------------------

METHODS = [b"GET", b"GET", b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"PATCH", b"QUERY", b"M-SEARCH"]
TARGETS = [b"/", b"/a", b"/a/b?c=d", b"/a%20b", b"/?x", b"/a;b=c", b"/~a/-_.!", b"//a", b"/a?b?c", b"http://host/x", b"http://host?x", b"/" + b"p" * 300]  # fmt: skip
FIELDS = [b"Accept: */*", b"X-A: b", b"X-Empty:", b"Cookie: a=b; c=d", b"Connection: keep-alive", b"TE: trailers", b"Via: 1.1 x", b"X-Obs: \xe4", b"Accept-Encoding: gzip", b"X-Long: " + b"v" * 500, b"Expect: 100-continue", b"Connection: upgrade\r\nUpgrade: x", b"X-Tab:\ta\tb\t"]  # fmt: skip
# What makes framing, hosts and connections ambiguous when it stands beside what is there.
LINES = [
    b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: 05", b"Content-Length: +5", b"Content-Length: 5, 5", b"Content-Length: 5 5", b"Content-Length:", b"Content-Length: 0x5", b"Content-Length: -1",
    b"Content-Length: 99999999999999999999999", b"content-length: 5", b"Content-Length\t: 5", b"Content_Length: 5", b"Content-Length: 5;a", b"Content-Length: \x0b5",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: Chunked", b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding:\tchunked", b"Transfer-Encoding : chunked", b"Transfer-Encoding: chunked\x0b", b"Transfer-Encoding: \"chunked\"", b"Transfer-Encoding: chunked;q=1", b"Transfer-Encoding:", b"Transfer_Encoding: chunked",
    b" Transfer-Encoding: chunked", b"\tContent-Length: 5", b"X: y\r\n Transfer-Encoding: chunked", b"X: y\nTransfer-Encoding: chunked", b"X: y\rTransfer-Encoding: chunked", b"X\x00: y", b"X: \x00", b": y", b"X y", b"X",
    b"Host: other", b"Host:", b"Host: a b", b"Host: a,b", b"Host: a/b", b"Host: u@h", b"Host: [::1]:80", b"Host: host:", b"Host: h\x80", b"host: host", b"Host : host",
    b"Connection: close", b"Connection: close, keep-alive", b"Connection: content-length", b"Connection: host", b"Connection: x-a", b"Connection: ,", b"Connection: transfer-encoding", b"Connection: keep-alive\r\nConnection: close", b"Keep-Alive: timeout=5", b"Proxy-Connection: close",
    b"Expect: 200-ok", b"Expect: 100-continue, x", b"Upgrade: h2c\r\nHTTP2-Settings: AA\r\nConnection: Upgrade, HTTP2-Settings", b"Trailer: Content-Length", b"X-Forwarded-For: 192.0.2.1", b"Forwarded: for=192.0.2.1",
]  # fmt: skip
VERSIONS = [b"HTTP/1.0", b"HTTP/1.1", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"HTTP/1.1 ", b" HTTP/1.1", b"HTTP/01.1", b"HTTP/1.10", b"HTTP/1,1", b"", b"HTTP/1.1\t", b"HTTP /1.1"]
ODD_TARGETS = [b"*", b"", b"a", b"/a b", b"/a\tb", b"/../a", b"/a/./b", b"/%2e%2e/", b"/%00", b"/%", b"/a#b", b"/\\a", b"/\x80", b"/\x7f", b"https://host/x", b"http://", b"http://other/x", b"http://u@host/", b"http:/x", b"//host/x", b"host:80", b"/a\"b", b"/<a>", b"/a?\\", b"HTTP://HOST/x", b"http://host#x", b"/\x0ba"]  # fmt: skip
ALPHABET = b"\r\n\t :,;=/?#%.\\\"*+-0159aAfFxX\x00\x0b\x0c\x1f\x7f\x80\x85\xa0\xff"
CHUNKS = [b"5\r\nhello\r\n", b"05\r\nhello\r\n", b"5;a=b\r\nhello\r\n", b"5;a=\"\r\nhello\r\n", b"5 \r\nhello\r\n", b"5\nhello\r\n", b"5\r\nhello\n", b"5\r\nhello", b"0x5\r\nhello\r\n", b"+5\r\nhello\r\n", b"-5\r\nhello\r\n", b"\r\nhello\r\n", b"5;\nhello\r\n", b"5;a\rb\r\nhello\r\n", b"10000000000000005\r\nhello\r\n", b"5\r\rhello\r\n", b"4\r\nhello\r\n", b"6\r\nhello\r\n", b"g\r\n", b"1e\r\nGET /smuggled HTTP/1.1\r\nHost: \r\n"]  # fmt: skip
LAST_CHUNKS = [b"0\r\n\r\n", b"00\r\n\r\n", b"0\r\nX-T: u\r\n\r\n", b"0\r\nContent-Length: 5\r\n\r\n", b"0\r\nX T: u\r\n\r\n", b"0\r\n x: y\r\n\r\n", b"0\n\n", b"0\r\n\n", b"0\r\nX: y\n\r\n", b"0;a\r\n\r\n", b"0\r\n", b"0 \r\n\r\n", b"0\r\nHost: x\r\nX-Forwarded-For: y\r\n\r\n"]  # fmt: skip


@dataclass
class Draft:
    """A request that is being put together, so that mutations can take it at its joints."""

    method: bytes
    target: bytes
    version: bytes = b"HTTP/1.1"
    lines: list[bytes] = field(default_factory=list)
    ends: dict[int, bytes] = field(default_factory=dict)
    body: bytes = b""

    def bytes(self) -> bytes:
        all_lines = [b" ".join(p for p in (self.method, self.target, self.version)), *self.lines, b""]
        return b"".join(line + self.ends.get(n, b"\r\n") for n, line in enumerate(all_lines)) + self.body


def valid(rng: random.Random) -> Draft:
    """A request that every server takes."""
    draft = Draft(rng.choice(METHODS), rng.choice(TARGETS))
    if draft.method == b"OPTIONS" and rng.random() < 0.3:
        draft.target = b"*"
    draft.lines = [b"Host: host", *rng.sample(FIELDS, rng.randrange(4))]
    framing = rng.choice(["none", "none", "length", "length", "chunked", "chunked"])
    if framing == "length":
        draft.body = rng.choice([b"hello", b"x" * 20_000, b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"])
        draft.lines.append(b"Content-Length: %d" % len(draft.body))
    elif framing == "chunked":
        draft.body = rng.choice(CHUNKS[:3]) * rng.randrange(3) + rng.choice(LAST_CHUNKS[:3])
        draft.lines.append(b"Transfer-Encoding: chunked")
    rng.shuffle(draft.lines)
    return draft


def mutate(rng: random.Random, draft: Draft) -> None:
    """One change at a joint."""
    at = rng.randrange(len(draft.lines)) if draft.lines else None
    match rng.choice(["line", "line", "line", "line", "drop", "twice", "end", "version", "target", "method", "space", "case", "chunk", "chunk", "last", "cut", "first"]):  # fmt: skip
        case "line":
            draft.lines.insert(rng.randrange(len(draft.lines) + 1), rng.choice(LINES))
        case "drop" if at is not None:
            del draft.lines[at]
        case "twice" if at is not None:
            draft.lines.insert(at, draft.lines[at])
        case "end":
            draft.ends[rng.randrange(len(draft.lines) + 2)] = rng.choice([b"\n", b"\r", b"\r\r\n", b"\r\n\r\n", b" \r\n", b"\n\r", b"\x0b\r\n", b"\r\n "])  # fmt: skip
        case "version":
            draft.version = rng.choice(VERSIONS)
        case "target":
            draft.target = rng.choice(ODD_TARGETS)
        case "method":
            draft.method = rng.choice([b"get", b"G ET", b"", b"GET\t", b"G(T", b"\x80", b"CONNECT", b"TRACE", b" GET", b"PRI", b"X" * 40])
        case "space" if at is not None:
            draft.lines[at] = draft.lines[at].replace(b":", rng.choice([b" :", b"\t:", b":", b":  ", b": \t", b"", b"::"]), 1) + rng.choice([b"", b" ", b"\t"])  # fmt: skip
        case "case" if at is not None:
            draft.lines[at] = draft.lines[at].swapcase()
        case "chunk":
            where = rng.choice([0, len(draft.body)])
            draft.body = draft.body[:where] + rng.choice(CHUNKS) + draft.body[where:]
        case "last":
            draft.body += rng.choice(LAST_CHUNKS)
        case "cut":
            draft.body = draft.body[: rng.randrange(len(draft.body) + 1)]
        case "first":
            draft.method = rng.choice([b"\r\n", b"\n", b"\r\n\r\n", b"\r", b" ", b"\x00"]) + draft.method


def scratch(rng: random.Random, data: bytes) -> bytes:
    """One change of a byte, wherever it is."""
    at = rng.randrange(len(data))
    odd = bytes([rng.choice(ALPHABET)])
    match rng.randrange(4):
        case 0:
            return data[:at] + odd + data[at:]
        case 1:
            return data[:at] + data[at + 1 :]
        case 2:
            return data[:at] + odd + data[at + 1 :]
        case _:
            return data[:at] + data[at : at + 8] + data[at:]


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
    made = []
    for _ in range(count):
        draft, changes = valid(rng), rng.choice([0, 1, 1, 1, 2, 2, 3])
        bytewise = sum(rng.random() < 0.25 for _ in range(changes))
        for _ in range(changes - bytewise):
            mutate(rng, draft)
        data = draft.bytes()
        for _ in range(bytewise):
            data = scratch(rng, data)
        made.append(Stream(data + END, changes > 0))
    return made


# --- the run -------------------------------------------------------------------------------------------------------


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
    wrong = [f"stream {n}: {why}\n  {shorten(stream.data, 700)}" for n, stream in enumerate(streams) if (why := judge(stream, used))]
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
        f"seed {world.seed}: {len(streams)} streams, {len(mutated)} of them mutated; of these {forwarded} were forwarded "
        f"in part or whole, and {stricter} that h11 begins to take were refused"
    )
    for what, times in sorted(used.items()):
        reason = next(d.reason for d in JUSTIFIED if f"{d.oracle}: {d.what}" == what)
        world.note(f"{times:4} times {what} ({reason})")
