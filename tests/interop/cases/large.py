"""Two gigabytes up and down, told by their SHA-256, through a process that stays small."""

import hashlib
import http.client
import json
import subprocess
import sys

from harness import CASE_MAX, HERE, Gateway, World, case, check, same

import streams

MEMORY_MAX = 64 * streams.MIB


def gateway(world: World) -> Gateway:
    return world.gateway("large", 'max_body = "4GiB"', 'timeout = "10m"')


def size(world: World) -> int:
    # Not a whole number of mebibytes, so that the last piece is a part.
    return (64 * streams.MIB if world.short else 2048 * streams.MIB) - 12345


_digests: dict[int, str] = {}


def digest(total: int) -> str:
    if total not in _digests:
        _digests[total] = streams.digest(total)
    return _digests[total]


def in_bounds(world: World) -> None:
    peak = gateway(world).peak_memory()
    world.note(f"peak memory of the gateway so far: {peak / streams.MIB:.1f} MiB")
    check(peak < MEMORY_MAX, f"the gateway grew to {peak / streams.MIB:.1f} MiB")


def seen(answer: bytes, total: int) -> None:
    told = json.loads(answer)
    same((told["length"], told["sha256"]), (total, digest(total)), "length and hash at the service")


@case("large", "up, with a length (http.client)")
def up_with_length(world: World) -> None:
    total = size(world)
    connection = http.client.HTTPConnection(gateway(world).at, timeout=CASE_MAX)
    connection.request("PUT", "/raw/digest", body=streams.blocks(total), headers={"Content-Length": str(total)})
    answer = connection.getresponse()
    seen(answer.read(), total)
    connection.close()
    in_bounds(world)


@case("large", "up, chunked (curl)")
def up_chunked(world: World) -> None:
    total = size(world)
    maker = subprocess.Popen([sys.executable, str(HERE / "streams.py"), str(total)], stdout=subprocess.PIPE)
    words = ["curl", "--silent", "--show-error", "--max-time", str(CASE_MAX), "--upload-file", "-", "-H", "Expect:"]
    try:
        done = subprocess.run([*words, f"{gateway(world).url}/raw/digest"], stdin=maker.stdout, capture_output=True)
    finally:
        maker.stdout.close()
        if maker.poll() is None:
            maker.kill()
        maker.wait()
    check(done.returncode == 0, "curl:", done.stderr.decode())
    seen(done.stdout, total)
    in_bounds(world)


@case("large", "down, with a length (http.client)")
def down_with_length(world: World) -> None:
    total, sha, got = size(world), hashlib.sha256(), 0
    connection = http.client.HTTPConnection(gateway(world).at, timeout=CASE_MAX)
    connection.request("GET", f"/raw/down/length/{total}")
    answer = connection.getresponse()
    same(answer.headers["Content-Length"], str(total), "Content-Length")
    buffer = bytearray(streams.MIB)
    while n := answer.readinto(buffer):
        sha.update(memoryview(buffer)[:n])
        got += n
    same((got, sha.hexdigest()), (total, digest(total)), "length and hash")
    connection.close()
    in_bounds(world)


@case("large", "down, chunked (curl)")
def down_chunked(world: World) -> None:
    total, sha, got = size(world), hashlib.sha256(), 0
    words = ["curl", "--silent", "--show-error", "--fail", "--max-time", str(CASE_MAX)]
    with subprocess.Popen([*words, f"{gateway(world).url}/raw/down/chunked/{total}"], stdout=subprocess.PIPE) as curl:
        while piece := curl.stdout.read(streams.MIB):
            sha.update(piece)
            got += len(piece)
    same((curl.returncode, got, sha.hexdigest()), (0, total, digest(total)), "curl's status, length and hash")
    in_bounds(world)


@case("large", "a reader of a gigabyte that pauses does not make the gateway hold it")
def backpressure(world: World) -> None:
    total = size(world)
    connections = [http.client.HTTPConnection(gateway(world).at, timeout=CASE_MAX) for _ in range(8)]
    for connection in connections:
        connection.request("GET", f"/raw/down/length/{total}")
    answers = [connection.getresponse() for connection in connections]
    # Every stream has begun and stands still: what the gateway holds now is what it holds for a slow reader.
    for answer in answers:
        same(len(answer.read(100_000)), 100_000, "bytes read")
    in_bounds(world)
    for connection in connections:
        connection.close()
