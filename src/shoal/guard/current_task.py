"""The current task of a loop: what "Extending asyncio" lets a third-party task set around each of its steps."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, TypeAlias

Loop: TypeAlias = asyncio.AbstractEventLoop

if sys.version_info < (3, 14):
    # What asyncio's own functions for it read and write; they take two to four times as long.
    CURRENT_TASKS: Any = asyncio.tasks._current_tasks  # type: ignore[attr-defined]
else:

    class _CurrentTasks:
        """The current task of each loop, where there is no dictionary of them any more."""

        def get(self, loop: Loop) -> Any:
            return asyncio.current_task(loop)

        def __setitem__(self, loop: Loop, task: Any) -> None:
            asyncio.tasks._swap_current_task(loop, task)

        def __delitem__(self, loop: Loop) -> None:
            asyncio.tasks._swap_current_task(loop, None)

    CURRENT_TASKS: Any = _CurrentTasks()


def swap_task(loop: Loop, task: Any) -> Any:
    """Make *task* the current one of the loop, or with None no task; returns which it was."""
    before = CURRENT_TASKS.get(loop)
    if task is None:
        del CURRENT_TASKS[loop]
    else:
        CURRENT_TASKS[loop] = task
    return before
