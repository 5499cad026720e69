"""The worker that goes on with a mount when the one before it has died or has handed over."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

import msgspec

from fusepkg.daemon import supervisor
from fusepkg.daemon.handover import Handover
from fusepkg.daemon.logs import log_to_file, log_to_terminal
from fusepkg.daemon.stacks import print_stacks_on_signal

log = logging.getLogger(__name__)


def be_resumed() -> NoReturn:
    """Be that worker, once the supervisor says so. The number of the link to it is the only argument."""
    status = 1
    try:
        link = socket.socket(fileno=int(sys.argv[1]))
        link.set_inheritable(False)
        os.chdir("/")
        from fusepkg.daemon.preload import load_everything  # here, because it loads what may fail to load
        from fusepkg.daemon.serve import resume_mount

        load_everything()
        message, numbers, _, _ = socket.recv_fds(link, supervisor.MAX_MESSAGE_BYTES, supervisor.MAX_DESCRIPTORS)
        if not message:  # the mount has ended, or the supervisor has died and another one follows
            os._exit(0)
        for number in numbers:
            os.set_inheritable(number, False)
        facts = json.loads(message)
        left = msgspec.convert(facts["state"], Handover)
        _log_as_before(left)
        print_stacks_on_signal()
        resume_mount(left, dict(zip(facts["names"], numbers, strict=True)), link)
        status = 0
    except BaseException:
        log.exception("this process could not go on with the mount")
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def _log_as_before(left: Handover) -> None:
    debug = left.mount_request().settings.debug
    if left.record.log.startswith("/"):
        log_to_file(Path(left.record.log), debug=debug)
    else:
        log_to_terminal(debug=debug)
