"""Worker processes that decode images, and helpers for starting processes."""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any

from dle_bundle.errors import WorkError


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def without_interrupts() -> Iterator[None]:
    """A process that is started inside this block never sees Ctrl-C, which a terminal sends to every process.

    The block holds SIGINT back in this thread, and a new process inherits that. A handler in the new process would
    come too late: the signal may arrive while the process imports its modules.
    """
    resource_tracker.ensure_running()  # its own start would let the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class ProcessPool:
    """Processes that call functions; with a `count` of 1 there are none, and the functions are called here.

    The processes are started afresh instead of forked, for a fork of a process that runs threads may hang. Threads of
    this process start them and wait for their answers: Ctrl-C raises KeyboardInterrupt in the main thread alone, so it
    finds no process half started. A process ends when this end of its pipe is closed, and the kernel closes it when
    this process is killed.

    Example:
        >>> pool = ProcessPool(2)
        >>> list(pool.run(pow, [(2, 3), (3, 2)]))
        [8, 9]
        >>> pool.close()
    """

    def __init__(self, count: int) -> None:
        self._ahead = 2 * count
        self._threads = ThreadPoolExecutor(count) if count > 1 else None
        self._idle: list[_Worker] = []

    def run(self, function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Yield the result of `function` for each of `tasks`, in order; few are in progress or queued at a time.

        Raises what `function` raises, and WorkError when a process is killed.
        """
        if self._threads is None:
            for task in tasks:
                yield function(*task)
            return
        waiting: deque[Future[Any]] = deque()
        try:
            for task in tasks:
                waiting.append(self._threads.submit(self._call, function, task))
                if len(waiting) > self._ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        """End the processes, each after the call that it is making."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
        for worker in self._idle:
            worker.close()

    def _call(self, function: Callable[..., Any], task: tuple[Any, ...]) -> Any:
        try:
            worker = self._idle.pop()
        except IndexError:
            worker = _Worker()
        try:
            return worker.call(function, task)
        finally:
            self._idle.append(worker)


class _Worker:
    """A process that makes one call at a time."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_answer, args=(theirs,), daemon=True)
        with theirs, without_interrupts():
            self._process.start()

    def call(self, function: Callable[..., Any], task: tuple[Any, ...]) -> Any:
        try:
            self._pipe.send((function, task))
            result, error = self._pipe.recv()
        except (EOFError, OSError):
            raise WorkError(
                "A worker process that decodes images has died",
                [
                    "the system may have killed it because memory ran out: fewer cores mean fewer workers",
                    'a script of your own must do its work under `if __name__ == "__main__":`',
                ],
            ) from None
        if error is not None:
            raise error
        return result

    def close(self) -> None:
        self._pipe.close()
        self._process.join()


def _answer(pipe: Connection) -> None:
    """Run in the worker process: answer calls until the other end of the pipe is closed."""
    try:
        while True:
            function, task = pipe.recv()
            result: Any = None
            raised: Exception | None = None
            try:
                result = function(*task)
            except Exception as error:  # noqa: BLE001 - raised again where the call came from
                raised = error
            pipe.send((result, raised))
    except (EOFError, OSError):
        return
