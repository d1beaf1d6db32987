"""wrk: as many requests as go through in a few seconds, and none of them fails."""

import re

from harness import World, case, check, command, same


@case("wrk", "32 connections for 5 s (2 s if short): every answer is 200, no socket error")
def wrk(world: World) -> None:
    seconds = 2 if world.short else 5
    done = command("wrk", "-t", 1, "-c", 32, "-d", f"{seconds}s", "--latency", f"{world.plain.url}/healthz")
    told = done.stdout.decode()
    same(done.returncode, 0, "wrk's status")
    requests = re.search(r"(\d+) requests in", told)
    check(requests and int(requests[1]) > 100, "too few requests:", told)
    check("Non-2xx" not in told and "Socket errors" not in told, told)
    rate, p99 = re.search(r"Requests/sec:\s+(\S+)", told), re.search(r"99%\s+(\S+)", told)
    world.note(f"{requests[1]} requests, {rate[1]} a second, p99 {p99[1]}; the Python service is what limits them")
