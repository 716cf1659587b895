"""Load the app in a folder on the real runtime, print its functions, and run all its imports.

This program needs nothing of this project but local/host/worker.py, so it can run where only the app is installed.
"""

import ast
import asyncio
import json
import sys
from pathlib import Path

from local.host.worker import Worker


async def functions_of(folder: Path) -> list[str]:
    worker = Worker(folder)
    await worker.start()
    worker.stop()
    return sorted(function.name for function in worker.functions)


def run_imports(folder: Path) -> tuple[int, list[str]]:
    """Run every import in the app, including those that only some calls or settings reach.

    Return the number of imports, and the missing packages.
    """
    count, missing = 0, set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                try:
                    exec(compile(ast.Module([node], []), path, "exec"), {})
                except ModuleNotFoundError as exc:
                    missing.add(str(exc.name))
                count += 1
    return count, sorted(missing)


if __name__ == "__main__":
    app_root = Path(sys.argv[1])
    functions = asyncio.run(functions_of(app_root))
    imports, missing_modules = run_imports(app_root)
    print(json.dumps({"functions": functions, "imports": imports, "missing": missing_modules}))
