"""Access profiles of a mount: recorded at a command, written into the bucket, replayed when the mount begins."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

import trio

from fusepkg.errors import ControlError, FusepkgError
from fusepkg.fetch.first_reads import FirstReads
from fusepkg.model.access_profile import MAX_READS
from fusepkg.registry.profiles import get_profile, put_profile

if TYPE_CHECKING:
    from typing import Any

    from fusepkg.daemon.control import Question
    from fusepkg.daemon.prefetching import Prefetching
    from fusepkg.fetch.prefetch import PrefetchProgress
    from fusepkg.fetch.reader import EntryReader
    from fusepkg.store.protocol import ObjectStore

log = logging.getLogger(__name__)


class Profiling:
    """Records and replays the profiles of one package. ``name`` is the package's, ``store`` its registry."""

    def __init__(self, reader: EntryReader, prefetching: Prefetching, store: ObjectStore, name: str) -> None:
        self._reader = reader
        self._prefetching = prefetching
        self._store = store
        self._name = name
        self._recording = ""
        self._reads: FirstReads | None = None
        self._replayed = ""
        self._progress: PrefetchProgress | None = None
        self._refusal: FusepkgError | None = None

    async def replay(self, profile: str) -> None:
        """Begin to fetch what a profile says. Raises nothing but Cancelled: a mount goes on without."""
        self._replayed = profile
        get = partial(get_profile, self._store, self._name, profile)
        try:
            found = await trio.to_thread.run_sync(get, abandon_on_cancel=True)
        except FusepkgError as exc:
            log.warning("nothing is replayed: %s", exc.message)
            self._refusal = exc
            return
        replay = self._reader.replay(self._prefetching.version, found)
        self._progress = replay.progress
        self._prefetching.begin(replay)

    async def answer(self, question: Question, top_hash: str) -> dict[str, Any]:
        """Answer ``profile_record``, ``profile_stop`` and ``profile_drop``, about a mount that shows ``top_hash``.

        Raises ControlError, and what writing to the bucket raises: what was recorded is kept then.
        """
        if question.what == "profile_record":
            if self._reads is not None:
                raise ControlError(
                    f"a profile is being recorded here: {self._recording}", hint="`fusepkg profile stop DIR` ends it"
                )
            self._recording, self._reads = question.path, FirstReads()
            self._reader.note_first_reads(self._reads)
        elif self._reads is None:
            raise ControlError("no profile is being recorded here", hint="`fusepkg profile record DIR` begins one")
        facts = self._recorded(self._reads)
        if question.what != "profile_record":
            self._reader.note_first_reads(None)
            self._reads.end()
            if question.what == "profile_stop":
                put = partial(put_profile, self._store, self._name, self._recording, self._reads.document(top_hash))
                await trio.to_thread.run_sync(put)
            self._reads = None
        return facts

    def _recorded(self, reads: FirstReads) -> dict[str, Any]:
        return {"name": self._recording, "reads": len(reads), "most_reads": MAX_READS, "is_cut": reads.is_cut}

    def facts(self) -> dict[str, Any]:
        """What is recorded, and what was replayed; None for each that is not."""
        replay: dict[str, Any] | None = None
        if self._refusal is not None:
            replay = {"name": self._replayed, "error": {"code": self._refusal.code, "message": self._refusal.message}}
        elif self._progress is not None:
            replay = {"name": self._replayed, **self._progress.as_dict()}
        return {"recording": None if self._reads is None else self._recorded(self._reads), "replay": replay}
