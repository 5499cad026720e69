"""The AWS profiles of this user."""

from __future__ import annotations

import botocore.session


def profile_names() -> list[str]:
    """Return the names of the profiles in AWS's own files, sorted."""
    return sorted(botocore.session.Session().available_profiles)
