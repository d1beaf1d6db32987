"""Near-valid byte streams for the differential test: requests that every server takes, and seeded changes to them.

Most changes are made at a joint of the message (a line, its end, the target, a chunk), because that is where parsers
differ; some hit a byte anywhere. The same seed makes the same streams.
"""

import codecs
import random
from dataclasses import dataclass, field


def table(text: str) -> list[bytes]:
    """One entry a line, with Python's escapes."""
    return [codecs.escape_decode(line)[0] for line in text.strip("\n").split("\n")]


METHODS = [*([b"GET"] * 3), b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"PATCH", b"QUERY", b"M-SEARCH"]
ODD_METHODS = [b"get", b"G ET", b"", b"GET\t", b"G(T", b"\x80", b"CONNECT", b"TRACE", b" GET", b"PRI", b"X" * 40]
TARGETS = table(r"""
/
/a
/a/b?c=d
/a%20b
/?x
/a;b=c
/~a/-_.!
//a
/a?b?c
http://host/x
http://host?x
""")
TARGETS.append(b"/" + b"p" * 300)
ODD_TARGETS = table(r"""
*
a
/a b
/a\tb
/../a
/a/./b
/%2e%2e/
/%00
/%
/a#b
/\\a
/\x80
/\x7f
https://host/x
http://
http://other/x
http://u@host/
http:/x
//host/x
host:80
/a"b
/<a>
/a?\\
HTTP://HOST/x
http://host#x
/\x0ba
""")
ODD_TARGETS.append(b"")
VERSIONS = table(r"""
HTTP/1.0
HTTP/1.1
HTTP/1.2
HTTP/2.0
HTTP/0.9
http/1.1
HTTP/1.1\x20
\x20HTTP/1.1
HTTP/01.1
HTTP/1.10
HTTP/1,1
HTTP/1.1\t
HTTP /1.1
""")
VERSIONS.append(b"")
FIELDS = table(r"""
Accept: */*
X-A: b
X-Empty:
Cookie: a=b; c=d
Connection: keep-alive
TE: trailers
Via: 1.1 x
X-Obs: \xe4
Accept-Encoding: gzip
Expect: 100-continue
Connection: upgrade\r\nUpgrade: x
X-Tab:\ta\tb\t
""")
FIELDS.append(b"X-Long: " + b"v" * 500)
# What makes framing, hosts and connections ambiguous when it stands beside what is there.
LINES = table(r"""
Content-Length: 0
Content-Length: 5
Content-Length: 05
Content-Length: +5
Content-Length: 5, 5
Content-Length: 5 5
Content-Length:
Content-Length: 0x5
Content-Length: -1
Content-Length: 99999999999999999999999
content-length: 5
Content-Length\t: 5
Content_Length: 5
Content-Length: 5;a
Content-Length: \x0b5
Transfer-Encoding: chunked
Transfer-Encoding: Chunked
Transfer-Encoding: chunked, identity
Transfer-Encoding: identity
Transfer-Encoding: gzip, chunked
Transfer-Encoding: xchunked
Transfer-Encoding:\tchunked
Transfer-Encoding : chunked
Transfer-Encoding: chunked\x0b
Transfer-Encoding: "chunked"
Transfer-Encoding: chunked;q=1
Transfer-Encoding:
Transfer_Encoding: chunked
\x20Transfer-Encoding: chunked
\tContent-Length: 5
X: y\r\n Transfer-Encoding: chunked
X: y\nTransfer-Encoding: chunked
X: y\rTransfer-Encoding: chunked
X\x00: y
X: \x00
: y
X y
X
Host: other
Host:
Host: a b
Host: a,b
Host: a/b
Host: u@h
Host: [::1]:80
Host: host:
Host: h\x80
host: host
Host : host
Connection: close
Connection: close, keep-alive
Connection: content-length
Connection: host
Connection: x-a
Connection: ,
Connection: transfer-encoding
Connection: keep-alive\r\nConnection: close
Keep-Alive: timeout=5
Proxy-Connection: close
Expect: 200-ok
Expect: 100-continue, x
Upgrade: h2c\r\nHTTP2-Settings: AA\r\nConnection: Upgrade, HTTP2-Settings
Trailer: Content-Length
X-Forwarded-For: 192.0.2.1
Forwarded: for=192.0.2.1
""")
LINE_ENDS = table(r"""
\n
\r
\r\r\n
\r\n\r\n
\x20\r\n
\n\r
\x0b\r\n
\r\n\x20
""")
COLONS = [b" :", b"\t:", b":", b":  ", b": \t", b"", b"::"]
BEFORE_REQUEST = [b"\r\n", b"\n", b"\r\n\r\n", b"\r", b" ", b"\x00"]
# The first three are valid.
CHUNKS = table(r"""
5\r\nhello\r\n
05\r\nhello\r\n
5;a=b\r\nhello\r\n
5;a="\r\nhello\r\n
5 \r\nhello\r\n
5\nhello\r\n
5\r\nhello\n
5\r\nhello
0x5\r\nhello\r\n
+5\r\nhello\r\n
-5\r\nhello\r\n
\r\nhello\r\n
5;\nhello\r\n
5;a\rb\r\nhello\r\n
10000000000000005\r\nhello\r\n
5\r\rhello\r\n
4\r\nhello\r\n
6\r\nhello\r\n
g\r\n
1e\r\nGET /smuggled HTTP/1.1\r\nHost: \r\n
""")
# The first three are valid.
LAST_CHUNKS = table(r"""
0\r\n\r\n
00\r\n\r\n
0\r\nX-T: u\r\n\r\n
0\r\nContent-Length: 5\r\n\r\n
0\r\nX T: u\r\n\r\n
0\r\n x: y\r\n\r\n
0\n\n
0\r\n\n
0\r\nX: y\n\r\n
0;a\r\n\r\n
0\r\n
0 \r\n\r\n
0\r\nHost: x\r\nX-Forwarded-For: y\r\n\r\n
""")
BYTES = b'\r\n\t :,;=/?#%.\\"*+-0159aAfFxX\x00\x0b\x0c\x1f\x7f\x80\x85\xa0\xff'
# Kinds of change; one that is named twice is as likely again.
CHANGES = """
    line line line line drop twice end version target method space case chunk chunk last cut first
""".split()


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
    match rng.choice(CHANGES):
        case "line":
            draft.lines.insert(rng.randrange(len(draft.lines) + 1), rng.choice(LINES))
        case "drop" if at is not None:
            del draft.lines[at]
        case "twice" if at is not None:
            draft.lines.insert(at, draft.lines[at])
        case "end":
            draft.ends[rng.randrange(len(draft.lines) + 2)] = rng.choice(LINE_ENDS)
        case "version":
            draft.version = rng.choice(VERSIONS)
        case "target":
            draft.target = rng.choice(ODD_TARGETS)
        case "method":
            draft.method = rng.choice(ODD_METHODS)
        case "space" if at is not None:
            line = draft.lines[at].replace(b":", rng.choice(COLONS), 1)
            draft.lines[at] = line + rng.choice([b"", b" ", b"\t"])
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
            draft.method = rng.choice(BEFORE_REQUEST) + draft.method


def scratch(rng: random.Random, data: bytes) -> bytes:
    """One change of a byte, wherever it is."""
    at = rng.randrange(len(data))
    odd = bytes([rng.choice(BYTES)])
    match rng.randrange(4):
        case 0:
            return data[:at] + odd + data[at:]
        case 1:
            return data[:at] + data[at + 1 :]
        case 2:
            return data[:at] + odd + data[at + 1 :]
        case _:
            return data[:at] + data[at : at + 8] + data[at:]


def mutated(rng: random.Random) -> tuple[bytes, int]:
    """A request, and how many changes were made to it."""
    draft, changes = valid(rng), rng.choice([0, 1, 1, 1, 2, 2, 3])
    bytewise = sum(rng.random() < 0.25 for _ in range(changes))
    for _ in range(changes - bytewise):
        mutate(rng, draft)
    data = draft.bytes()
    for _ in range(bytewise):
        data = scratch(rng, data)
    return data, changes
