"""Where functions run: threads, processes, Dask, Ray, Spark, or any Executor of concurrent.futures."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from fusepkg.errors import MissingExtra, UsageError
from fusepkg.work.entry_points import load_entry_point

if TYPE_CHECKING:
    from collections.abc import Callable

GROUP = "fusepkg.executors"
"""The entry points that add executors: each is called with the number of workers, or None, and gives an Executor."""

DEFAULT_WORKERS = 16
"""Believed of an executor that does not tell."""


_OWN_DASK = {
    "distributed.deploy.lost-worker-timeout": "1 day",
    "distributed.scheduler.allowed-failures": 1,
}
"""While a cluster is open that was opened here. 15 s after Dask has lost a worker it gives it up for good if it is just
starting again: a cluster whose workers died often had none left, and waited for ever. And a call that kills its worker
need not kill four."""


class ReopeningExecutor:
    """An executor that may be opened again where its workers died; one that the caller has made is not."""

    def __init__(self, make: Callable[[], Executor] | None, given: Executor | None, count: int) -> None:
        self._make = make
        self._open = given
        self.count = count

    @property
    def executor(self) -> Executor:
        """The open executor."""
        if self._open is None:
            assert self._make is not None
            self._open = self._make()
        return self._open

    @property
    def can_restart(self) -> bool:
        """Whether it can be opened again."""
        return self._make is not None

    def restart(self) -> None:
        """Close it; the next use opens a new one."""
        self.close()

    def close(self) -> None:
        """Shut down what was opened here. What was handed over stays open."""
        if self._make is not None and self._open is not None:
            self._open.shutdown(wait=False, cancel_futures=True)
            self._open = None


def find_workers(executor: object, jobs: int | None) -> ReopeningExecutor:
    """Return the executor that a name or an object stands for. Raises UsageError, MissingExtra."""
    if jobs is not None and jobs < 1:
        raise UsageError(f"{jobs} workers", hint="Write a number above 0")
    if isinstance(executor, Executor):
        return ReopeningExecutor(None, executor, jobs or getattr(executor, "_max_workers", None) or DEFAULT_WORKERS)
    if hasattr(executor, "get_executor"):  # a Client of Dask
        return ReopeningExecutor(None, executor.get_executor(), jobs or DEFAULT_WORKERS)
    if hasattr(executor, "sparkContext"):
        return ReopeningExecutor(None, SparkExecutor(executor), jobs or executor.sparkContext.defaultParallelism)
    if not isinstance(executor, str):
        raise UsageError(
            f"{executor!r} is no executor", hint=f"Give an Executor, or one of {', '.join(sorted(_BUILT_IN))}"
        )
    cores = len(os.sched_getaffinity(0))
    make = _BUILT_IN.get(executor) or load_entry_point(GROUP, executor, also=_BUILT_IN)
    count = jobs or (cores if executor in ("processes", "threads") else DEFAULT_WORKERS)
    return ReopeningExecutor(lambda: make(jobs), None, count)


def check_picklable(function: object, executor: Executor) -> None:
    """Raise UsageError for a function that cannot reach other processes."""
    if isinstance(executor, ProcessPoolExecutor):
        try:
            pickle.dumps(function)
        except Exception as exc:
            raise UsageError(
                f"{function!r} cannot be sent to other processes: {exc}",
                hint="Define it at the top of a module, or use threads",
            ) from exc


def _threads(jobs: int | None) -> Executor:
    return ThreadPoolExecutor(jobs or len(os.sched_getaffinity(0)), thread_name_prefix="fusepkg-transform")


def _processes(jobs: int | None) -> Executor:
    context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks
    workers = jobs or len(os.sched_getaffinity(0))
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent)


def _end_with_parent() -> None:
    """End this worker when its driver is gone, however that ended: it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch() -> None:
            wait([parent.sentinel])
            os._exit(1)

        threading.Thread(target=watch, name="fusepkg-parent", daemon=True).start()


def _dask(jobs: int | None) -> Executor:
    try:
        import dask
        from distributed import Client
    except ImportError as exc:
        raise MissingExtra("Dask's scheduler is missing", hint='pip install "fusepkg[dask]"') from exc
    address = os.environ.get("DASK_SCHEDULER_ADDRESS")
    with ExitStack() as opening:
        if address:
            client = opening.enter_context(Client(address))
        else:
            opening.enter_context(dask.config.set(_OWN_DASK))
            client = opening.enter_context(Client(n_workers=jobs, threads_per_worker=1, dashboard_address=None))
        return _Closing(client.get_executor(), opening.pop_all().close)


def _ray(jobs: int | None) -> Executor:
    try:
        import ray
    except ImportError as exc:
        raise MissingExtra("Ray is missing", hint='pip install "fusepkg[ray]"') from exc
    if ray.is_initialized():
        return RayExecutor()
    ray.init(num_cpus=jobs, include_dashboard=False, log_to_driver=False)
    return _Closing(RayExecutor(), ray.shutdown)


def _spark(jobs: int | None) -> Executor:
    try:
        from pyspark.sql import SparkSession
    except ImportError as exc:
        raise MissingExtra("Spark is missing", hint='pip install "fusepkg[spark]"') from exc
    there = SparkSession.getActiveSession()
    if there is not None:
        return SparkExecutor(there)
    building = SparkSession.builder.appName("fusepkg")
    session = (building.master(f"local[{jobs}]") if jobs else building).getOrCreate()
    return _Closing(SparkExecutor(session), session.stop)


class RayExecutor(Executor):
    """Ray's workers as an Executor. What a worker leaves when it dies, Ray gives to another."""

    def __init__(self) -> None:
        import ray

        self._call = ray.remote(_call)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See Executor."""
        future: Future[Any] = self._call.remote(fn, args, kwargs).future()
        return future


class SparkExecutor(Executor):
    """Spark's workers as an Executor: each call is a job of one task."""

    def __init__(self, session: Any) -> None:
        self._context = session.sparkContext
        self._threads = ThreadPoolExecutor(max(1, self._context.defaultParallelism))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See Executor."""
        context = self._context

        def run() -> Any:
            return context.parallelize([0], 1).map(lambda _: fn(*args, **kwargs)).collect()[0]

        return self._threads.submit(run)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See Executor. The session stays."""
        self._threads.shutdown(wait, cancel_futures=cancel_futures)


class _Closing(Executor):
    """An executor whose client is closed with it."""

    def __init__(self, executor: Executor, close: Callable[[], object]) -> None:
        self._executor, self._close = executor, close

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See Executor."""
        return self._executor.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See Executor. What is under way ends with the client: Dask's executor knows no ``cancel_futures``."""
        try:
            self._executor.shutdown(wait)
        finally:
            self._close()


def _call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return fn(*args, **kwargs)


_BUILT_IN: dict[str, Callable[[int | None], Executor]] = {
    "threads": _threads,
    "processes": _processes,
    "dask": _dask,
    "ray": _ray,
    "spark": _spark,
}
