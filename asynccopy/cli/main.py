"""The command ``asynccopy``: finds the verb, and turns whatever ends it into one line on stderr and an exit code.

Verbs are imported when they are called: ``asynccopy --help`` loads neither HTTP nor terminal libraries.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from asynccopy import __version__
from asynccopy.errors import AsyncCopyError, Interrupted, UsageError
from asynccopy.logs import printable, redact

_VERBS = {
    "copy": "Copy SOURCE's contents to DESTINATION; the same command again resumes.",
    "check": "Compare SOURCE and DESTINATION without copying; list what differs.",
    "run": "Keep mirrors equal, for months: the daemon.",
    "status": "Show how a daemon's mirrors stand.",
    "pause": "Pause a daemon's mirror, or all.",
    "resume": "Let a paused mirror, or all, go on.",
    "retry": "Try failed files again now.",
    "scan": "Look at the source now.",
    "limit": "Limit a mirror's bandwidth or concurrency from now on.",
    "errors": "List a mirror's failed files.",
    "events": "Print what happened lately.",
    "deletions": "Look at planned deletions; confirm those above the cap.",
    "reload": "Let the daemon read its configuration again.",
    "drain": "Let the daemon finish what is in flight and exit.",
    "journal": "Look inside a journal; export the ledger of proven files.",
    "demo": "See it work: a tree copied, killed half-way, resumed, verified.",
}
_CONTROL = frozenset({"pause", "resume", "retry", "scan", "limit", "errors", "events", "deletions", "reload", "drain"})
"""The verbs that share the module ``control``; each other has its own, and is ``command`` there."""


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        module, name = ("control", cmd_name) if cmd_name in _CONTROL else (cmd_name, "command")
        command = getattr(importlib.import_module(f"asynccopy.cli.{module}"), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table above: click would import every verb to ask for its help."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="asynccopy")
def cli() -> None:
    """Move an HDFS tree into object storage, prove every byte, survive any interruption.

    URLs: webhdfs://host:port/path, s3://bucket/prefix, file:///path or a plain path, or NAME:/path of an endpoint in
    the file given by --config.

    Exit codes: 0 all done; 1 finished, but some files failed or differ; 2 wrong usage or configuration; 3 a side cannot
    be reached or refuses the credentials; 4 the journal is damaged, locked or on a full disk; 5 stopped before the end:
    run the same command again to go on.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code. Nothing but a bug, or ASYNCCOPY_DEBUG=1, shows a traceback."""
    _lenient_streams()
    try:
        code = cli.main(args=arguments, prog_name="asynccopy", standalone_mode=False)
    except AsyncCopyError as error:
        return _report(error, error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return UsageError.exit_code
    except click.ClickException as error:
        return _report(_from_click(error), UsageError.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return _report(Interrupted("stopped"), Interrupted.exit_code)
    except BrokenPipeError:
        # The reader of our stdout went away (`| head`): nothing more to say, and the flush at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return Interrupted.exit_code
    return code if isinstance(code, int) else 0


def _report(error: AsyncCopyError, code: int) -> int:
    if os.environ.get("ASYNCCOPY_DEBUG") == "1":
        raise error
    click.echo(f"asynccopy: {printable(redact(error.message))}", err=True)
    if error.hint:
        click.echo(f"hint: {printable(redact(error.hint))}", err=True)
    return code


def _from_click(error: click.ClickException) -> UsageError:
    context = getattr(error, "ctx", None)
    return UsageError(error.format_message(), hint=f"see {context.command_path} --help" if context is not None else "")


def _lenient_streams() -> None:
    """A name that the terminal's encoding cannot show must not end the run."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
