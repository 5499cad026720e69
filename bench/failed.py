"""What makes a row fail, said by a subject."""

from __future__ import annotations


class SubjectFailed(Exception):
    """A subject did not give what is measured; the message ends with what its program said."""
