"""One life of a pod's process: what the kubelet calls a container."""

import asyncio
import contextlib
import signal
from dataclasses import dataclass
from typing import Final

from .process import Process

MINIMUM_GRACE: Final = 0.5
"""Real seconds from SIGTERM to SIGKILL at least, however fast the platform's clock runs: programs do not run faster."""


@dataclass(slots=True)
class Container:
    """A process from its start to its end. Durations are real seconds."""

    id: str
    process: Process
    started_at: float
    killed_for: str = ""
    """The failed probe it is ended for, empty if it is not."""

    @property
    def running(self) -> bool:
        """It has not ended yet."""
        return self.process.returncode is None

    @property
    def end(self) -> str:
        """Why it ended, empty while it runs."""
        code = self.process.returncode
        if code is None:
            return ""
        if self.killed_for:
            return self.killed_for
        return f"it exited with status {code}" if code >= 0 else f"it was ended by {signal.Signals(-code).name}"

    async def stop(self, *, grace: float, pre_stop: float) -> None:
        """Pause, SIGTERM, SIGKILL. The pre-stop pause is part of the grace period; SIGTERM gets what is left of it."""
        pause = min(pre_stop, grace)
        if pause:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self.process.wait()
        await self.process.terminate(max(MINIMUM_GRACE, grace - pause))
