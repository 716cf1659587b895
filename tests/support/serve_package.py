"""Serve the app in a folder on the real runtime, without the local host: the timer, a chat and a stream. Print the results.

This program needs nothing of this project but two modules of local/host, so it can run where only the app is installed.
"""

import ast
import asyncio
import json
import sys
import urllib.request
import uuid
from pathlib import Path

from local.host.routes import build_routes
from local.host.worker import Message, Worker, http_trigger_data

# Seconds.
TIMEOUT = 60.0


async def post(worker: Worker, path: str, body: object, key: str) -> str:
    """Call the app as the host does: invoke the function, and forward the request to the runtime's own server."""
    routes, _ = build_routes(worker.functions, "api")
    route, parameters = next((route, found) for route in routes if (found := route.match("POST", path)) is not None)
    invocation_id = str(uuid.uuid4())
    headers = {"content-type": "application/json", "x-ms-invocation-id": invocation_id, "authorization": f"Bearer {key}"}
    request = urllib.request.Request(worker.http_uri + path, json.dumps(body).encode(), headers)

    def send() -> str:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            return str(response.read().decode())

    async with asyncio.TaskGroup() as group:
        group.create_task(worker.invoke(route.function, invocation_id, http_trigger_data(parameters)))
        sending = group.create_task(asyncio.to_thread(send))
    return sending.result()


async def run_timer(worker: Worker) -> None:
    """Run the app's only timer. Raise `FunctionFailed` if it fails."""
    (timer,) = (function for function in worker.functions if not function.is_http)
    data = {"Schedule": {"AdjustForDST": True}, "ScheduleStatus": None, "IsPastDue": False}
    await worker.invoke(timer, str(uuid.uuid4()), Message(json=json.dumps(data)))


def run_imports(folder: Path) -> tuple[int, list[str]]:
    """Run every import in the app, including those that only some calls or settings reach.

    Return the number of imports, and the missing packages.
    """
    count, missing = 0, set()
    for path in (folder / "function_app.py", *(folder / "shared").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                try:
                    exec(compile(ast.Module([node], []), path, "exec"), {})
                except ModuleNotFoundError as exc:
                    missing.add(str(exc.name))
                count += 1
    return count, sorted(missing)


def loaded_modules() -> dict[str, list[str]]:
    """Return the files of each loaded module, or the folders of a namespace package. Built-in modules have neither."""
    return {
        name: [file] if (file := getattr(module, "__file__", None)) else list(getattr(module, "__path__", ()))
        for name, module in sys.modules.items()
    }


async def main(folder: Path, key: str) -> None:
    worker = Worker(folder)
    await worker.start()
    # Before the calls: after a success, the health check sends no probe.
    await run_timer(worker)
    question = {"messages": [{"role": "user", "content": "Hello"}], "model": "chat"}
    results: dict[str, object] = {
        "functions": sorted(function.name for function in worker.functions),
        "chat": json.loads(await post(worker, "/api/v1/chat/completions", question, key)),
        "stream": await post(worker, "/api/v1/chat/completions", {**question, "stream": True}, key),
    }
    worker.stop()
    results["imports"], results["missing"] = run_imports(folder)
    print(json.dumps({**results, "modules": loaded_modules()}))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
