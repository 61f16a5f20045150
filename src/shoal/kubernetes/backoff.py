"""How long a container that ended has to wait before it is started again: CrashLoopBackOff."""


class RestartBackoff:
    """When one container may start again, over all its restarts.

    The first restart is immediate; the next ones come *base* seconds after the end of the container, doubling up to
    *cap*, without jitter. A container that lived for more than twice *cap* since its last restart starts from the
    beginning. Moments are seconds on any clock that never jumps, the same one throughout.

    Numbers: `MaxCrashLoopBackOff` and `initialCrashLoopBackOff` of the kubelet; algorithm: `doBackOff` in
    `kuberuntime_manager.go` and client-go's `flowcontrol.Backoff`. Real waits are up to half as long again, because
    the kubelet looks only now and then: the moment returned is the earliest.

    >>> backoff = RestartBackoff()
    >>> [backoff.ended(at) - at for at in (0.0, 1.0, 12.0, 33.0)]
    [0.0, 10.0, 20.0, 40.0]
    """

    __slots__ = ("_base", "_bumped_at", "_cap", "_current", "_ended_at")

    def __init__(self, *, base: float = 10.0, cap: float = 300.0) -> None:
        if not 0 < base <= cap:
            raise ValueError(f"base must be above 0 and at most cap, got {base} and {cap}")
        self._base = base
        self._cap = cap
        self._current = 0.0
        self._bumped_at = 0.0
        self._ended_at: float | None = None

    def ended(self, at: float, *, killed: bool = False) -> float:
        """The container ended *at* this moment; returns the moment it starts again, *at* itself or later.

        *killed* says that the kubelet ended it after a failed probe. It then decides before it has seen the end, so it
        judges by the end of the instance before: if that is longer ago than the current wait, or there is none, the
        restart is immediate, and the wait grows all the same.
        """
        previous, self._ended_at = self._ended_at, at
        if killed:
            if previous is None:
                return at
            if self._wait_over(since=previous, now=at):
                self._bump(event=previous, now=at)
                return at
        start = at if self._forgotten(at) else at + self._current
        self._bump(event=at, now=start)
        return start

    def _wait_over(self, *, since: float, now: float) -> bool:
        return self._forgotten(since) or now - since >= self._current

    def _forgotten(self, event: float) -> bool:
        return self._current == 0.0 or event - self._bumped_at > 2 * self._cap

    def _bump(self, *, event: float, now: float) -> None:
        self._current = self._base if self._forgotten(event) else min(2 * self._current, self._cap)
        self._bumped_at = now
