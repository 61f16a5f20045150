"""What a caller gets when a call fails for good: the last good answer, or one it can do with, and told apart."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar, overload

from shoal import _events

from .drivers import AsyncDriver, SyncDriver
from .kinds import is_async
from .pipeline import Pipeline
from .stale import StaleAnswers

P = ParamSpec("P")
T = TypeVar("T")

# None is a value to fall back to.
MISSING: Any = object()


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What a call with a fallback returns: the value, and whether it is the dependency's answer to this call.

    *degraded* is True when it is not: the value is then the last good answer (*stale*, obtained *age* seconds ago) or
    what was declared for this case. A stale value is the same object as was returned before: treat it as read-only.
    """

    value: T
    degraded: bool = False
    stale: bool = False
    age: float = 0.0


class Fallback:
    """The decorator that `Guard.fallback` returns."""

    __slots__ = ("_acall", "_call", "_function", "_key", "_pipeline", "_store", "_value")

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        call: SyncDriver,
        acall: AsyncDriver,
        store: StaleAnswers | None,
        key: Callable[..., Hashable] | None,
        value: Any,
        function: Callable[..., Any] | None,
    ) -> None:
        if key is None and value is MISSING and function is None:
            raise TypeError("fallback() needs key= for the last good answer, value= or function=")
        if value is not MISSING and function is not None:
            raise TypeError("fallback() takes value= or function=, not both")
        if function is not None and not callable(function):
            raise TypeError(
                f"function= is called with the error and the arguments, got {function!r}; use value= for a value"
            )
        self._pipeline = pipeline
        self._call = call
        self._acall = acall
        self._store = store if key is not None else None
        self._key = key
        self._value = value
        self._function = function

    # A coroutine function is a function too; the overloads overlap, and the narrower one comes first.
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, fn: Callable[P, Coroutine[Any, Any, T]], /
    ) -> Callable[P, Coroutine[Any, Any, Answer[T]]]: ...
    @overload
    def __call__(self, fn: Callable[P, T], /) -> Callable[P, Answer[T]]: ...
    def __call__(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
        """Decorate one function. Raises TypeError for an async fallback function of a sync one."""
        # Names the answers of this function, so that those of others with the same key are others.
        function = object()
        if is_async(fn):
            return self._decorate_async(fn, function)
        if self._function is not None and is_async(self._function):
            raise TypeError(f"{fn!r} is a plain function, so its fallback {self._function!r} must be one")
        return self._decorate(fn, function)

    def _decorate(self, fn: Callable[..., Any], function: object) -> Callable[..., Any]:
        call, pipeline = self._call, self._pipeline

        @functools.wraps(fn)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            place, early = self._claim(function, args, kwargs)
            if early is not None:
                return early
            try:
                value = call(pipeline, fn, args, kwargs)
            except Exception as error:
                answer = self._instead(place, error, args, kwargs)
                if answer is None:
                    raise
                return answer
            except BaseException:
                self._unclaim(place)
                raise
            return self._keep(place, value)

        return guarded

    def _decorate_async(self, fn: Callable[..., Any], function: object) -> Callable[..., Any]:
        acall, pipeline = self._acall, self._pipeline

        @functools.wraps(fn)
        async def guarded(*args: Any, **kwargs: Any) -> Any:
            place, early = self._claim(function, args, kwargs)
            if early is not None:
                return early
            try:
                value = await acall(pipeline, fn, args, kwargs)
            except Exception as error:
                answer = self._instead(place, error, args, kwargs)
                if answer is None:
                    raise
                if inspect.isawaitable(answer.value):
                    return Answer(await answer.value, degraded=True)
                return answer
            except BaseException:
                self._unclaim(place)
                raise
            return self._keep(place, value)

        return guarded

    def _claim(self, function: object, args: Any, kwargs: Any) -> tuple[Hashable, Answer[Any] | None]:
        """The place of the answer, and an old one if somebody else is asking for a new one already."""
        if self._key is None:
            return None, None
        place = (function, self._key(*args, **kwargs))
        # A key that cannot be hashed is to be heard of now, not after a good answer came.
        hash(place)
        if self._store is None:
            return place, None
        now = self._pipeline.now()
        old = self._store.claim(place, now=now, until=now + self._pipeline.longest)
        if old is None:
            return place, None
        _events.note_degraded(self._pipeline.name)
        return place, self._stale(*old)

    def _keep(self, place: Hashable, value: T) -> Answer[T]:
        if self._store is not None:
            self._store.put(place, value, now=self._pipeline.now())
        return Answer(value)

    def _unclaim(self, place: Hashable) -> None:
        if self._store is not None:
            self._store.unclaim(place)

    def _instead(self, place: Hashable, error: Exception, args: Any, kwargs: Any) -> Answer[Any] | None:
        """What to answer instead of *error*; None for nothing."""
        pipeline = self._pipeline
        if not pipeline.may_be_excused(error):
            self._unclaim(place)
            return None
        if self._store is not None:
            self._store.failed(place)
            if (old := self._store.get(place, now=pipeline.now())) is not None:
                _events.note_excused(pipeline.name)
                return self._stale(*old)
        if self._function is not None:
            value = self._function(error, *args, **kwargs)
        elif self._value is not MISSING:
            value = self._value
        else:
            return None
        with pipeline.lock:
            pipeline.tally.fallbacks += 1
        _events.note_excused(pipeline.name)
        return Answer(value, degraded=True)

    def _stale(self, value: T, age: float) -> Answer[T]:
        with self._pipeline.lock:
            self._pipeline.tally.stale += 1
        return Answer(value, degraded=True, stale=True, age=age)
