"""Runs a module as a child that ends when its parent does.

    python -m exchange.cli.child PARENT_PID MODULE ARGS...

A supervisor that is killed cannot end its children, and a writer or a gateway left over would go on without
one. On Linux the kernel sends SIGTERM when the parent dies; elsewhere a thread looks once a second.

An argument `env:NAME` stands for the value of that environment variable, so that a connection string with a
password never stands in the list of processes.
"""

from __future__ import annotations

import ctypes
import gc
import os
import runpy
import signal
import sys
import threading
import time

# structlog draws in rich for its tracebacks in colour, which no child shows: without it a child starts, and is started
# again, in half the time.
sys.modules["rich"] = None  # type: ignore[assignment]

import structlog  # noqa: E402 - see above

from exchange.cli.log import log_to  # noqa: E402 - see above

PR_SET_PDEATHSIG = 1


def follow_parent(parent: int) -> None:
    """Arrange that this process is asked to stop when `parent` dies.

    Raises:
        SystemExit: It is dead already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    # It may have died before the kernel was told.
    if os.getppid() != parent:
        sys.exit(0)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)


def collect_rarely() -> None:
    """Let the garbage collector walk seldom.

    What a child holds it holds for long, such as the lots of a writer, and little of what it makes has
    cycles; at Python's own thresholds a tenth of a writer's time went into walking over its lots.
    """
    gc.set_threshold(50_000, 50, 50)


def main(argv: list[str]) -> None:
    """Follow the parent, then become the module."""
    parent, module, *arguments = argv
    follow_parent(int(parent))
    collect_rarely()
    log_to(once=True)
    sys.argv = [
        module,
        *(
            os.environ.pop(each.removeprefix("env:")) if each.startswith("env:") else each
            for each in arguments
        ),
    ]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except Exception as error:
        from exchange.cli.context import expected_fault

        told = expected_fault(error)
        if told is None:
            raise
        structlog.get_logger().error("process.ended", module=module, detail=told[1])
        sys.exit(told[0])


if __name__ == "__main__":
    main(sys.argv[1:])
