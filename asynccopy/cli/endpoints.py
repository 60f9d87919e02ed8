"""What SOURCE and DESTINATION stand for: a URL, or a path on an endpoint of the configuration file."""

from __future__ import annotations

import msgspec

from asynccopy.config import Config, split_place
from asynccopy.config.pywhdfs import aliases
from asynccopy.errors import UsageError
from asynccopy.storage.settings import Settings


def resolve(argument: str, config: Config | None, settings: Settings) -> tuple[str, Settings]:
    """The URL that the argument means, and the settings of its endpoint. Raises UsageError."""
    if not argument:
        raise UsageError("an empty SOURCE or DESTINATION", hint="give a URL or a path; the current directory is .")
    name, _ = split_place(argument)
    if config is None and name is not None and name not in aliases():
        raise UsageError(
            f"{argument}: `{name}` is an endpoint's name, but there is no --config",
            hint=f"give --config FILE with [endpoints.{name}]; a local path is written ./{argument}",
        )
    url, given = (config or Config()).place(argument)
    return url, msgspec.structs.replace(settings, **given)
