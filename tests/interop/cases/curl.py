"""curl: what people try first. Each case asks for the protocol's details, not only for a body."""

import hashlib
import json

from harness import World, case, check, command, same

import streams

MARK = "\n#"


def curl(world: World, path: str, *options: object, feed: bytes | None = None) -> tuple[str, dict]:
    """The body as text, and curl's own account of the transfer."""
    wanted = '{"status":%{http_code},"version":"%{http_version}","connects":%{num_connects},"sent":%{size_upload}}'
    done = command(
        "curl", "--silent", "--show-error", "--max-time", "60", "--write-out", MARK + wanted, *options,
        f"{world.plain.url}{path}", feed=feed,
    )  # fmt: skip
    check(done.returncode == 0, f"curl ended with {done.returncode}:", done.stderr.decode())
    body, _, account = done.stdout.decode().rpartition(MARK)
    return body, json.loads(account)


def echoed(body: str) -> dict:
    seen = json.loads(body)
    seen["fields"] = {name.lower(): value for name, value in seen["headers"]}
    return seen


@case("curl", "GET with a query, and the fields that the gateway adds")
def get(world: World) -> None:
    fields = ["X-Forwarded-For: 192.0.2.7", "Connection: x-hop", "x-hop: 1"]
    body, account = curl(world, "/echo/a%20b?x=1&y=%2F", *(word for field in fields for word in ("-H", field)))
    seen = echoed(body)
    same((account["status"], account["version"]), (200, "1.1"), "status and version")
    same(seen["target"], "/echo/a%20b?x=1&y=%2F", "target")
    same(seen["fields"]["host"], world.plain.at, "Host")
    same(seen["fields"]["x-forwarded-for"], "127.0.0.1", "X-Forwarded-For (a stranger's is not believed)")
    check("x-request-id" in seen["fields"] and "traceparent" in seen["fields"], "ids are missing:", seen["fields"])
    check("x-hop" not in seen["fields"], "a field named by Connection was sent on")


@case("curl", "HEAD: the length of the answer, and no body")
def head(world: World) -> None:
    body, account = curl(world, "/length/12345", "--head")
    same(account["status"], 200, "status")
    check("content-length: 12345" in body.lower(), "no Content-Length in:", body)


@case("curl", "POST of a form")
def post(world: World) -> None:
    body, _ = curl(world, "/echo", "--data", "a=1&b=2")
    seen = echoed(body)
    same((seen["method"], seen["length"]), ("POST", 7), "method and length")
    same(seen["sha256"], hashlib.sha256(b"a=1&b=2").hexdigest(), "hash")


@case("curl", "PUT of 5 MB with Expect: 100-continue")
def put(world: World) -> None:
    size = 5_000_000
    file = world.folder / "five-megabytes"
    file.write_bytes(b"".join(bytes(b) for b in streams.blocks(size)))
    # If no 100 came, curl would wait for ten minutes and run into its time limit.
    body, account = curl(
        world, "/echo", "--upload-file", file, "-H", "Expect: 100-continue", "--expect100-timeout", 600, "--verbose"
    )
    seen = echoed(body)
    same((seen["method"], seen["length"], account["sent"]), ("PUT", size, size), "method, length and bytes sent")
    same(seen["sha256"], streams.digest(size), "hash")
    same(seen["fields"].get("content-length"), str(size), "Content-Length at the service")


@case("curl", "Expect: 100-continue with a body that the route does not take: 413, nothing sent")
def put_too_large(world: World) -> None:
    file = world.folder / "seventy-megabytes"
    with file.open("wb") as out:
        out.truncate(70 * streams.MIB)
    _, account = curl(world, "/echo", "--upload-file", file, "-H", "Expect: 100-continue", "--expect100-timeout", 600)
    same((account["status"], account["sent"]), (413, 0), "status and bytes sent")


@case("curl", "PUT of a stream without a length: chunked")
def put_chunked(world: World) -> None:
    sent = b"".join(bytes(b) for b in streams.blocks(3_000_000))
    body, _ = curl(world, "/echo", "--upload-file", "-", "-H", "Transfer-Encoding: chunked", "-H", "Expect:", feed=sent)
    seen = echoed(body)
    same((seen["method"], seen["length"]), ("PUT", len(sent)), "method and length")
    same(seen["sha256"], hashlib.sha256(sent).hexdigest(), "hash")
    same(seen["fields"].get("transfer-encoding"), "chunked", "Transfer-Encoding at the service")


@case("curl", "HTTP/1.0: a body without a known length comes uncoded, and the connection ends")
def http10(world: World) -> None:
    url = f"{world.plain.url}/chunked/100000"
    done = command("curl", "--silent", "--http1.0", "--include", "--max-time", 60, url)
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    check(head.startswith(b"HTTP/1.1 200") and b"transfer-encoding" not in head.lower(), head)
    same(hashlib.sha256(body).hexdigest(), streams.digest(100_000), "hash")


@case("curl", "a chunked answer of 5 MB")
def get_chunked(world: World) -> None:
    done = command("curl", "--silent", "--fail", "--max-time", 60, f"{world.plain.url}/chunked/5000000")
    same(done.returncode, 0, "curl's status")
    same(hashlib.sha256(done.stdout).hexdigest(), streams.digest(5_000_000), "hash")


@case("curl", "keep-alive: five requests of five kinds on one connection")
def keep_alive(world: World) -> None:
    base = world.plain.url
    paths = ("echo", "length/70000", "chunked/70000", "status/204", "raw/close-delimited/1000")
    urls = [f"{base}/{path}" for path in paths]
    done = command("curl", "--silent", "--fail", "--max-time", 60, "--write-out", "%{stderr}%{num_connects} ", *urls)
    same(done.returncode, 0, "curl's status")
    same(done.stderr.decode().split(), ["1", "0", "0", "0", "0"], "connections made for each request")


@case("curl", "an ETag: 304 without a body, on a connection that is kept")
def not_modified(world: World) -> None:
    url = f"{world.plain.url}/etag"
    words = ["--silent", "--max-time", 60, "-H", 'If-None-Match: "v1"']
    words += ["--write-out", "%{http_code}:%{num_connects}:%{size_download} "]
    done = command("curl", *words, url, url)
    same(done.stdout.decode().split(), ["304:1:0", "304:0:0"], "status, connections and bytes of both")


@case("curl", "dot segments as they are: refused with 400 and a problem document")
def dot_segments(world: World) -> None:
    for path in ("/echo/../secret", "/echo/./x", "/echo/%2e%2e/secret", "/..", "/echo/%2E/"):
        body, account = curl(world, path, "--path-as-is")
        same(account["status"], 400, f"status of {path}")
        same(json.loads(body)["code"], "malformed-request", f"code of {path}")


@case("curl", "an answer while the body is still coming: 413 from the service arrives")
def early_answer(world: World) -> None:
    file = world.folder / "seventy-megabytes"
    with file.open("wb") as out:
        out.truncate(60 * streams.MIB)
    _, account = curl(world, "/raw/too-large", "--upload-file", file, "-H", "Expect:")
    same(account["status"], 413, "status")
    check(account["sent"] < 60 * streams.MIB, "the whole body was taken all the same")


@case("curl", "103 Early Hints pass before the answer")
def hints(world: World) -> None:
    body, account = curl(world, "/raw/hints", "--include")
    same(account["status"], 200, "status")
    check(body.startswith("HTTP/1.1 103") and "rel=preload" in body, "no 103 in:", body)
