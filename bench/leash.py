"""`python -m bench.leash -m MODULE ...`: runs MODULE, and ends with the process that started it."""

import os
import runpy
import sys
import threading


def watch() -> None:
    # Standard input is a pipe that nobody writes to; it ends with the process that holds its other end.
    sys.stdin.buffer.read()
    os._exit(1)


threading.Thread(target=watch, daemon=True).start()
# As `python -m MODULE ARGUMENTS` would.
sys.argv = sys.argv[2:]
sys.path.insert(0, os.getcwd())  # noqa: PTH109
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
