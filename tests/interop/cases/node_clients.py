"""Node: undici and the http module. The cases are in `node/clients.cjs`, which runs once; each of its lines is a case."""

import json
import os
import re

from harness import CASE_MAX, HERE, Failed, World, case, check, command

SCRIPT = HERE / "node" / "clients.cjs"
# Where `cargo xtask interop` installs the packages, for those who call `run.py` themselves.
INSTALLED = HERE.parent.parent / "target" / "interop" / "node" / "node_modules"

_results: dict[str, str | None] = {}


def results(world: World) -> dict[str, str | None]:
    if not _results:
        modules = os.environ.get("NODE_PATH", str(INSTALLED))
        done = command("node", SCRIPT, world.plain.url, patience=CASE_MAX, environment={"NODE_PATH": modules})
        for line in done.stdout.decode().splitlines():
            told = json.loads(line)
            _results[f"{told['group']}: {told['name']}"] = told["error"]
        check(_results, f"node ended with {done.returncode}:", done.stderr.decode())
    return _results


def put(group: str, name: str) -> None:
    def run(world: World) -> None:
        key = f"{group}: {name}"
        all_results = results(world)
        check(key in all_results, "node ended before this case")
        if all_results[key] is not None:
            raise Failed(all_results[key])

    case(group, name)(run)


# The list is read from the script itself, so that it is written once.
for found in re.finditer(r"^add\('([^']+)', '([^']+)',", SCRIPT.read_text(), re.MULTILINE):
    put(*found.groups())
