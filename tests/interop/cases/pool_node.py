"""Node's drivers through the pooler: node-postgres, postgres.js, Prisma. The cases are in `node/pool.cjs`, which runs once; each
of its lines is a case.

Prisma's client is generated from `node/schema.prisma` before that. It needs no engine: the queries are compiled in
WebAssembly and go through `@prisma/adapter-pg`. Its command would download engines all the same, so it is told that they
are there.
"""

import json
import os
import re

from harness import CASE_MAX, HERE, Failed, World, case, check, command

SCRIPT = HERE / "node" / "pool.cjs"
SCHEMA = HERE / "node" / "schema.prisma"
# Where `cargo xtask interop` installs the packages, for those who call `run.py` themselves.
INSTALLED = HERE.parent.parent / "target" / "interop" / "node" / "node_modules"

_results: dict[str, str | None] = {}


def generate(world: World, modules: str) -> str:
    """The client, beside the schema in a folder of this run; returns where it is."""
    folder = world.folder / "prisma"
    folder.mkdir()
    (folder / "schema.prisma").write_text(SCHEMA.read_text())
    (folder / "node_modules").symlink_to(modules)
    nothing = folder / "no-engine"
    nothing.touch(mode=0o755)
    quiet = {"PRISMA_HIDE_UPDATE_MESSAGE": "1", "CHECKPOINT_DISABLE": "1", "DATABASE_URL": world.pool().url}
    engines = {"PRISMA_SCHEMA_ENGINE_BINARY": str(nothing), "PRISMA_QUERY_ENGINE_LIBRARY": str(nothing)}
    build = ["node", f"{modules}/prisma/build/index.js", "generate", "--schema", folder / "schema.prisma"]
    done = command(*build, patience=120.0, environment={**quiet, **engines})
    check((folder / "generated").is_dir(), "Prisma generated no client:", done.stdout.decode(), done.stderr.decode())
    return str(folder / "generated")


def results(world: World) -> dict[str, str | None]:
    if not _results:
        modules = os.environ.get("NODE_PATH", str(INSTALLED))
        client = generate(world, modules)
        words = ["node", SCRIPT, world.pool().url, client]
        done = command(*words, patience=CASE_MAX, environment={"NODE_PATH": modules})
        for line in done.stdout.decode().splitlines():
            if line.startswith('{"group"'):
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
