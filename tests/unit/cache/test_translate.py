from __future__ import annotations

import errno

import pytest
from fusepkg_cache import CacheFull, CacheReadOnly, CacheUnusable
from fusepkg_cache._translate import translated


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, CacheFull),
        (errno.EDQUOT, CacheFull),
        (errno.EROFS, CacheReadOnly),
        (errno.EACCES, CacheReadOnly),
        (errno.EIO, CacheUnusable),
    ],
)
def test_what_the_disk_raises(number: int, kind: type[CacheUnusable]) -> None:
    with pytest.raises(CacheUnusable, match="cannot keep it") as caught, translated("cannot keep it"):
        raise OSError(number, "some text")
    assert type(caught.value) is kind
    assert caught.value.hint, "it says what to do next"
    assert isinstance(caught.value.__cause__, OSError)
