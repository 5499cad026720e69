"""A process that answers what the cache has, beside the one that fetches: requests of one session go to either.

It reads requests from the same descriptor, answers hits, and passes all else on as it came. It keeps nothing that
another could not make again: when it is killed, the kernel asks again.
"""

from __future__ import annotations

import errno
import gc
import json
import logging
import os
import select
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from fusepkg_cache import Cache
from fusepkg_cache.errors import CacheError

from fusepkg.engines import kernel, wire
from fusepkg.engines.answers import Answers, DeviceAnswers, TreeAnswers
from fusepkg.engines.device_operations import is_image, pair_number
from fusepkg.engines.shared import VERSIONS, SharedMemory
from fusepkg.fetch.cached import CachedReads
from fusepkg.index.files import root_of
from fusepkg.index.opening import open_index
from fusepkg.vfs.device import DataDevice, ImageFile, RootOwner
from fusepkg.vfs.tree import PackageTree

if TYPE_CHECKING:
    from fusepkg.index.opening import Index

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 64 * 1024

_LOOK_S = 1.0
"""How often one looks for requests unasked: the process that was woken for one may have died before it took it."""

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15

_TITLE = b"fusepkg-worker"
"""What ps(1) and top(1) call such a process: 15 bytes at most."""

_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@dataclass(slots=True)
class FrontVersion:
    """A version that this process has open."""

    number: int
    index: Index
    tree: PackageTree
    reads: CachedReads | None
    shared: SharedMemory

    def use(self, more: int) -> None:
        """Note uses of it."""
        self.shared.use(self.number, more)


class Front:
    """One such process. ``told`` is what ``crew`` sends it."""

    def __init__(self, told: dict[str, Any], device: int, requests: socket.socket, shared: SharedMemory) -> None:
        self._told = told
        self._device = device
        self._requests = requests
        self._shared = shared
        self._cache = _opened_cache(told["cache"])
        self._generation = -1
        self._shown: dict[int, tuple[str, str]] = {}
        self._current = -1
        self._open: dict[int, FrontVersion] = {}
        self._files: dict[int, ImageFile | DataDevice] = {}
        self._owner = RootOwner(*told["owner"])
        self._answers: Answers = (
            TreeAnswers(self._find, lambda: self._current, self._read, self._owner, told["time_s"])
            if told["engine"] == "fuse"
            else DeviceAnswers(self._find_file, self._read_device)
        )

    def run(self) -> None:
        """Serve until the session ends."""
        buffer = bytearray(wire.LARGEST_REQUEST)
        view = memoryview(buffer)
        waiting = select.epoll()
        waiting.register(self._device, select.EPOLLIN | select.EPOLLEXCLUSIVE)  # one process wakes for one request
        while True:
            try:
                count = os.readv(self._device, [buffer])
            except BlockingIOError:
                waiting.poll(_LOOK_S)
                continue
            except FileNotFoundError:  # it was interrupted
                continue
            except OSError:
                return
            request = view[:count]
            if not self._answered(request):
                self._requests.send(request)

    def close(self) -> None:
        """Let the cache note what was read lately."""
        if self._cache is not None:
            self._cache.close()

    def _answered(self, request: memoryview) -> bool:
        _, opcode, number, inode, *_ = wire.REQUEST.unpack_from(request)
        try:
            if self._shared.generation != self._generation:
                self._look_again()
            answer = self._answers.answer(opcode, number, inode, request)
        except Exception as exc:  # noqa: BLE001 - the first process answers, and logs what is wrong
            log.debug("request %d is passed on: %s", opcode, exc)
            return False
        if answer is None:
            return False
        if answer:
            write_answer(self._device, answer)
        return True

    def _look_again(self) -> None:
        """Take in what is shown now."""
        generation, facts = self._shared.facts()
        if generation < 0:
            raise BlockingIOError("what is shown is just changing")
        self._shown = {int(number): told for number, told in facts["versions"].items()}
        for number in [number for number in self._open if number not in self._shown]:
            del self._open[number]
        self._files.clear()
        self._current, self._generation = facts["current"], generation

    def _find(self, number: int) -> FrontVersion | None:
        found = self._open.get(number)
        if found is not None:
            return found
        if number not in self._shown or number >= VERSIONS:
            return None
        top_hash, directory = self._shown[number]
        index = open_index(root_of(Path(directory)), top_hash)
        if index is None:
            return None

        def note(entry: int, offset: int, length: int) -> None:
            self._requests.send(wire.NOTE.pack(0, 0, number, entry, offset, length), socket.MSG_DONTWAIT)

        watched = lambda: self._shared.watched  # noqa: E731
        reads = None if self._cache is None else CachedReads(self._cache, index.entries, watched, _unless_full(note))
        self._open[number] = FrontVersion(number, index, PackageTree(index), reads, self._shared)
        return self._open[number]

    def _read(self, version: Any, entry: int, offset: int, length: int) -> bytes | None:  # noqa: ANN401 - FrontVersion
        data: bytes | None = None if version.reads is None else version.reads.read(entry, offset, length)
        if data is not None:
            self._shared.count_read(len(data))
        return data

    def _find_file(self, inode: int) -> ImageFile | DataDevice | None:
        found = self._files.get(inode)
        if found is None:
            version = self._find(pair_number(inode))
            if version is None:
                return None
            if is_image(inode):
                found = ImageFile(version.index, self._owner, self._told["time_s"])
            else:
                found = DataDevice(version.index, None)
            self._files[inode] = found
        return found

    def _read_device(self, inode: int, device: DataDevice, offset: int, length: int) -> bytes | None:
        version = self._find(pair_number(inode))
        if version is None:
            return None
        return device.read_at_once(offset, length, lambda number, at, count: self._read(version, number, at, count))


def _opened_cache(directory: str | None) -> Cache | None:
    """Open the cache, without bounds: to evict is the first process's. None where there is none to be used."""
    try:
        return None if directory is None else Cache(Path(directory))
    except CacheError as exc:
        log.info("only names are answered beside the first process: %s", exc)
        return None


def _unless_full(note: Any) -> Any:  # noqa: ANN401
    def noted(*place: int) -> None:
        try:
            note(*place)
        except BlockingIOError:  # it has enough to do
            return

    return noted


def write_answer(device: int, answer: tuple[bytes, ...]) -> None:
    """Write an answer; a request that was interrupted, or asked again meanwhile, wants none."""
    try:
        os.writev(device, answer)
    except OSError as exc:
        if exc.errno not in (errno.ENOENT, errno.ENODEV):
            raise


def be_front(link: socket.socket) -> NoReturn:
    """Be such a process: wait to be told what to serve, and serve it. Ends with the process that started it."""
    status = 0
    try:
        kernel.keep_memory_private()
        parent = os.getppid()
        kernel.libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        kernel.libc().prctl(_PR_SET_NAME, _TITLE, 0, 0, 0)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):  # meant for the first process: it ends this one
            signal.signal(number, signal.SIG_IGN)
        message, descriptors, _, _ = socket.recv_fds(link, MAX_MESSAGE_BYTES, 3)
        if message and os.getppid() == parent:
            told = json.loads(message)
            device, requests, memory = descriptors
            shared = SharedMemory(memory, told["slot"], told["slots"])
            front = Front(told, device, socket.socket(fileno=requests), shared)
            link.send(b"ready")
            if link.recv(1):
                front.run()
                front.close()
    except BrokenPipeError:  # the mount has ended
        pass
    except BaseException:
        log.exception("a process that answers from the cache could not go on")
        status = 1
    finally:
        os._exit(status)


def _log_to_standard_error() -> None:
    """Log to what the first process has as standard error: its log, or the terminal."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(_LOG_FORMAT))
    root = logging.getLogger()
    inherited, root.handlers[:] = root.handlers[:], [handler]
    for one in inherited:  # now: later it would write to, or close, what else has its descriptor's number by then
        one.close()


def fork_front() -> tuple[int, socket.socket]:
    """Start one by a fork, which only a process with one thread may do; return its number and the link to it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        _log_to_standard_error()
        kept = os.dup2(theirs.detach(), 3)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        gc.freeze()
        be_front(socket.socket(fileno=kept))
    theirs.close()
    return child, ours


def be_spawned_front(link: socket.socket) -> NoReturn:
    """Be such a process in a new interpreter."""
    _log_to_standard_error()
    be_front(link)


def spawn_front() -> tuple[int, socket.socket]:
    """Start one in a new interpreter, which a process with threads may do."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    program = (
        f"import sys; sys.path.append({str(Path(__file__).parents[2])!r}); import socket; "
        "from fusepkg.engines.front import be_spawned_front; be_spawned_front(socket.socket(fileno=int(sys.argv[1])))"
    )
    with theirs:
        theirs.set_inheritable(True)
        child = os.posix_spawn(sys.executable, [sys.executable, "-c", program, str(theirs.fileno())], os.environ)
    return child, ours
