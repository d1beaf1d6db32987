"""/metrics of the console, read by the parsers of Prometheus' own client library, and by its linter."""

import httpx
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from harness import World, case, check, command, same

REQUESTS = "evenkeel_route_requests"
DURATION = "evenkeel_route_request_duration_seconds"


def traffic(world: World) -> float:
    """A known number of requests; returns how many the `app` route had had before them."""
    before = world.plain.metric(f"{REQUESTS}_total", route="app")
    with httpx.Client(base_url=world.plain.url) as client:
        for code in (200, 200, 200, 404, 500):
            same(client.get(f"/status/{code}").status_code, code, "status")
    return before


def judge(families: dict, before: float) -> None:
    samples = [s for s in families[REQUESTS].samples if s.name == f"{REQUESTS}_total" and s.labels["route"] == "app"]
    same(sum(s.value for s in samples), before + 5, "requests counted on the route")
    same(families[DURATION].type, "histogram", "type of the duration")
    mine = [s for s in families[DURATION].samples if s.labels["route"] == "app"]
    counts = [s.value for s in mine if s.name == f"{DURATION}_count"]
    check(sum(counts) >= 5, "durations counted:", counts)
    series: dict[tuple, list[tuple[float, float]]] = {}
    for s in mine:
        if s.name == f"{DURATION}_bucket":
            key = tuple(sorted((k, v) for k, v in s.labels.items() if k != "le"))
            series.setdefault(key, []).append((float(s.labels["le"]), s.value))
    check(series, "there are no buckets")
    for buckets in series.values():
        same(buckets, sorted(buckets), "buckets in order, each at least the one before")
        same(buckets[-1][0], float("inf"), "last bucket")
    same(sum(buckets[-1][1] for buckets in series.values()), sum(counts), "all buckets against the count")
    for family in families.values():
        check(family.documentation, f"{family.name} has no help text")


@case("prometheus", "the text format parses, and counts what was sent")
def text(world: World) -> None:
    before = traffic(world)
    kind, body = world.plain.scrape("text/plain;version=0.0.4")
    check(kind.startswith("text/plain") and "version=0.0.4" in kind, "Content-Type:", kind)
    judge({family.name: family for family in prometheus(body)}, before)


@case("prometheus", "OpenMetrics parses, and counts what was sent")
def openmetrics(world: World) -> None:
    before = traffic(world)
    kind, body = world.plain.scrape("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    check(kind.startswith("application/openmetrics-text"), "Content-Type:", kind)
    check(body.endswith("# EOF\n"), "the end is missing:", body[-80:])
    judge({family.name: family for family in open_metrics(body)}, before)


@case("prometheus", "promtool finds nothing wrong with names, types, units and help texts")
def lint(world: World) -> None:
    traffic(world)
    body = world.plain.scrape("text/plain;version=0.0.4")[1]
    done = command("promtool", "check", "metrics", feed=body.encode())
    told = (done.stdout + done.stderr).decode().strip()
    check(done.returncode == 0 and not told, f"promtool ended with {done.returncode}:", told)


@case("prometheus", "label values stay bounded, whatever clients send")
def bounded(world: World) -> None:
    def series() -> int:
        return sum(len(family.samples) for family in prometheus(world.plain.scrape("text/plain")[1]))

    with httpx.Client(base_url=world.plain.url) as client:

        def burst(start: int) -> None:
            for n in range(start, start + 200):
                client.request(f"M{n}", f"/raw/{n}?q={n}", headers={"Host": f"h{n}.example"})

        burst(0)
        before = series()
        burst(1000)
    same(series(), before, "series after 200 more hosts, methods and paths")
