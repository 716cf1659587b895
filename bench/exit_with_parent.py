"""Run a module, and exit when the parent process does: `python -m bench.exit_with_parent -m MODULE ...`."""

import os
import runpy
import sys
import threading


def watch() -> None:
    # The parent holds the other end of this pipe and writes nothing. The pipe closes when the parent exits or is killed.
    sys.stdin.buffer.read()
    os._exit(1)


threading.Thread(target=watch, daemon=True).start()
# Do what `python -m MODULE ARGUMENTS` does.
sys.argv = sys.argv[2:]
sys.path.insert(0, os.getcwd())  # noqa: PTH109
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
