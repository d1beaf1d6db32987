"""h11 and httptools (llhttp) as oracles: which requests they read from a client's bytes, and where the gateway rightly
reads otherwise (`JUSTIFIED`, each with its reason)."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import h11
import httptools

from harness import shorten

# Why h11 reads no further: it was asked to.
ENDS = "the request ends the connection"


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
FRAMING_TRAILER = re.compile(
    rb"(?i)\r\n0+(?:;[^\r\n]*)?\r\n(?:[^\r\n]+\r\n)*(?:content-length|transfer-encoding):"
)
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
        "RFC 9112, 7.1.1: unknown extensions are to be ignored; the gateway reads none, bounds and drops them all",
    ),
    Difference(
        "httptools",
        "framing in trailers",
        lambda data, _, why: "Transfer-Encoding" in why and FRAMING_TRAILER.search(data) is not None,
        "RFC 9110, 6.5.1: such a field means nothing there, and the gateway drops it; llhttp reads it as one of the head",
    ),
    Difference(
        "httptools",
        "an upgrade",
        lambda data, _, __: UPGRADE.search(data) is not None,
        "RFC 9110, 7.8: a server that does not upgrade reads on; llhttp takes it for granted and stops",
    ),
]
