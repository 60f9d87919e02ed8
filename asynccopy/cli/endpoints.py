"""What SOURCE and DESTINATION stand for: a URL, or a path on an endpoint of the configuration file."""

from __future__ import annotations

import re

import msgspec

from asynccopy.config import Config, S3Endpoint
from asynccopy.errors import UsageError
from asynccopy.storage.registry import Settings

_NAMED = re.compile(r"([A-Za-z][A-Za-z0-9_-]*):(?!//)(/.*|)\Z", re.DOTALL)


def resolve(argument: str, config: Config | None, settings: Settings) -> tuple[str, Settings]:
    """The URL that the argument means, and the settings of its endpoint. Raises UsageError."""
    if not argument:
        raise UsageError("an empty SOURCE or DESTINATION", hint="give a URL or a path; the current directory is .")
    named = _NAMED.match(argument)
    if named is None or named[1] == "file":
        return argument, settings
    name, path = named[1], named[2]
    if config is None:
        raise UsageError(
            f"{argument}: `{name}` is an endpoint's name, but there is no --config",
            hint=f"give --config FILE with [endpoints.{name}]; a local path is written ./{argument}",
        )
    endpoint = config.endpoint(name)
    if isinstance(endpoint, S3Endpoint):
        changes = {
            "s3_endpoint": endpoint.endpoint,
            "s3_region": endpoint.region,
            "s3_addressing": endpoint.addressing,
        }
    else:
        changes = {"user": endpoint.user}
    given = {key: value for key, value in changes.items() if value is not None}
    return endpoint.location(path), msgspec.structs.replace(settings, **given)
