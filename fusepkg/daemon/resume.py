"""The worker that goes on with a mount when the one before it has died or has handed over.

It is a copy of a spare process that has loaded all the code, or that process itself.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import select
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from fusepkg.daemon import supervisor
from fusepkg.daemon.handover import Handover
from fusepkg.daemon.logs import log_to_file, log_to_terminal
from fusepkg.daemon.stacks import print_stacks_on_signal

log = logging.getLogger(__name__)


def be_resumed() -> NoReturn:
    """Be that spare, and that worker once the supervisor says so. The number of the link to it is the only argument."""
    status = 1
    try:
        link = socket.socket(fileno=int(sys.argv[1]))
        link.set_inheritable(False)
        os.chdir("/")
        from fusepkg.daemon.preload import load_everything  # here, because it loads what may fail to load
        from fusepkg.daemon.serve import resume_mount

        load_everything()
        link, facts, numbers = _wait_to_serve(link)
        for number in numbers:
            os.set_inheritable(number, False)
        left = msgspec.convert(facts["state"], Handover)
        _log_as_before(left)
        print_stacks_on_signal()
        descriptors = dict(zip(facts["names"], numbers, strict=True))
        spare = {name: descriptors.pop(name) for name in supervisor.SPARE if name in descriptors}
        resume_mount(left, descriptors, link, spare | {"pid": facts.get("spare", 0)})
        status = 0
    except BaseException:
        log.exception("this process could not go on with the mount")
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def _wait_to_serve(link: socket.socket) -> tuple[socket.socket, dict[str, Any], list[int]]:
    """Fork each time the supervisor asks for it; return, in one of the copies or here, when it says what to serve.

    Also returns the link of that process, and the descriptors it was sent. Ends the process where there is nothing to
    serve any more.
    """
    gc.collect()
    gc.freeze()  # pages that the collector does not touch stay shared with the copies
    with suppress(OSError):  # that supervisor is dead: what it had said before still comes
        link.send(b'{"kind": "ready"}')
    _load_more(link)
    while True:
        message, numbers, _, _ = socket.recv_fds(link, supervisor.MAX_MESSAGE_BYTES, supervisor.MAX_DESCRIPTORS)
        if not message:  # the mount has ended, or the supervisor has died and another one follows
            os._exit(0)
        facts = json.loads(message)
        if "fork" not in facts:
            return link, facts, numbers
        with socket.socket(fileno=numbers[0]) as theirs:
            pid = _fork_orphan()
            if pid == 0:
                link.close()
                link = theirs.dup()
            else:
                with suppress(OSError):
                    link.send(json.dumps({"pid": pid}).encode())


def _load_more(link: socket.socket) -> None:
    """Load what only some mounts need, as long as nothing is to be served: the copies have it then."""
    if select.select([link], [], [], 0)[0]:
        return
    from fusepkg.store.s3.botocore import load_descriptions  # here, because it may fail to load

    load_descriptions()
    gc.collect()
    gc.freeze()


def _fork_orphan() -> int:
    """Fork a process whose parent has ended, so that the supervisor has it for its child; return its pid, there 0."""
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            os.close(writing)
            return 0
        os.write(writing, b"%d" % pid)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        pid = int(told.read())  # nothing if there was no room for another process
    os.waitpid(parent, 0)
    return pid


def _log_as_before(left: Handover) -> None:
    debug = left.mount_request().settings.debug
    if left.record.log.startswith("/"):
        log_to_file(Path(left.record.log), debug=debug)
    else:
        log_to_terminal(debug=debug)
