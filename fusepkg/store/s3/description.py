"""Where credentials for S3 come from, without what is secret in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import botocore.exceptions
import botocore.session

from fusepkg.errors import CredentialsMissing

if TYPE_CHECKING:
    from fusepkg.store.s3.settings import S3Settings

_KEY_DIGITS_SHOWN = 4


def describe_credentials(settings: S3Settings) -> dict[str, str]:
    """Return the source, profile and region. Asks the instance's metadata service last, as every request does.

    Raises CredentialsMissing where the profile does not exist or its credentials cannot be had.
    """
    if not settings.sign:
        return {"source": "none: requests are not signed"}
    try:
        session = botocore.session.Session(profile=settings.profile)
        found = session.get_credentials()
        region = settings.region or session.get_config_variable("region") or "not set"
    except botocore.exceptions.BotoCoreError as exc:
        raise CredentialsMissing(str(exc), hint="Check AWS_PROFILE and the files of AWS") from exc
    if found is None:
        return {"source": "none found", "region": region}
    return {
        "source": found.method,
        "profile": session.profile or "default",
        "access key": f"ends with {found.access_key[-_KEY_DIGITS_SHOWN:]}",
        "session token": "yes" if found.token else "no",
        "region": region,
    }
