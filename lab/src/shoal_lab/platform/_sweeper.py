"""The janitor's child: waits for its standard input to close, then kills what is tracked and removes the run directory.

Run as a file by `python -I -S`, so that it starts in milliseconds and needs nothing but the standard library. It
reads lines from `Janitor`: `track PID`, `forget PID` and `keep` (leave the directory).
"""

import contextlib
import os
import select
import shutil
import signal
import sys
import time
from pathlib import Path

_PATIENCE = 5.0
"""Seconds given to killed processes to let go of their files."""


class Orders:
    """What the lab has asked for so far."""

    def __init__(self) -> None:
        self.groups: set[int] = set()
        self.keep = False

    def read(self, line: bytes) -> None:
        """Take one line; what is not understood is passed over, for there is nobody to tell."""
        match line.split():
            case [b"track", pid]:
                self.groups.add(int(pid))
            case [b"forget", pid]:
                self.groups.discard(int(pid))
            case [b"keep"]:
                self.keep = True


def wait_for_the_end(orders: Orders, *, parent: int) -> None:
    """Read orders until the pipe closes, or the parent is another: a fork of the lab could hold the pipe open."""
    pending = b""
    while True:
        orphaned = os.getppid() != parent
        readable, _, _ = select.select([0], [], [], 0.0 if orphaned else 1.0)
        data = os.read(0, 65536) if readable else b""
        if readable and not data:
            return
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            orders.read(line)
        if orphaned and not readable:
            return


def sweep(orders: Orders, run_dir: Path) -> None:
    """Kill every tracked group, then remove the directory, again while dying processes still write to it."""
    for group in orders.groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    if orders.keep:
        return
    deadline = time.monotonic() + _PATIENCE
    while run_dir.exists() and time.monotonic() < deadline:
        shutil.rmtree(run_dir, ignore_errors=True)
        time.sleep(0.02)


def main(run_dir: str, parent: str) -> None:
    """Serve one lab process."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.write(1, b"ready\n")
    os.close(1)
    orders = Orders()
    wait_for_the_end(orders, parent=int(parent))
    sweep(orders, Path(run_dir))


if __name__ == "__main__":
    main(*sys.argv[1:])
