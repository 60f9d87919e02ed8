"""Events: structlog set up once, secrets redacted, no control character printed.

Modules tell events to ``log``, with what they know as fields (``path=``). structlog is imported with the first event
that is to be seen: it brings rich with it, 70 ms of CPU, and most commands have nothing to tell. Before ``configure``
is called nothing is set up: importing this module has no effect on the process.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TextIO

HIDDEN: Final = "[redacted]"

# lower case; each hyphen may as well be an underscore, or be missing
_SECRET_KEYS: Final = frozenset(
    {
        "access-key-secret",
        "access-token",
        "alibaba-cloud-access-key-secret",
        "alibaba-cloud-security-token",
        "authorization",
        "aws-secret-access-key",
        "aws-session-token",
        "cookie",
        "delegation",
        "oss-access-key-id",
        "oss-access-key-secret",
        "oss-session-token",
        "password",
        "proxy-authorization",
        "secret-access-key",
        "secret-key",
        "security-token",
        "session-token",
        "set-cookie",
        "sign",
        "signature",
        "sts-token",
        "token",
        "x-amz-credential",
        "x-amz-security-token",
        "x-amz-signature",
        "x-oss-credential",
        "x-oss-security-token",
        "x-oss-signature",
    }
)
_WORDS: Final = "|".join(key.replace("-", "[-_]?") for key in sorted(_SECRET_KEYS))
_KEY: Final = re.compile(_WORDS, re.IGNORECASE)
# `key=value` of a query or a message, `"key": "value"` of JSON or a dict, also where that stands escaped in a string,
# and `key%3Dvalue` of a query within a query. `.../token: no such file` tells of a path.
_PAIR: Final = re.compile(
    rf"""
    (?: (?P<path>(?<=/)) | (?<![\w/-]) | (?<=[%5](?:26|3f)) )
    (?: (?P<key>(?:{_WORDS}) \\*["']? [ \t]* (?(path)=|[:=]) [ \t]*)
        (?: (?P<quote>\\*["']) .*? (?=(?<!\\)(?P=quote)|$) | (?P<bare>[^&\s'"<>]+) )
      | (?P<encoded>(?:{_WORDS})%(?:25)*3d) (?:(?!%(?:25)*26)[^&\s'"<>])+
    )""",
    re.IGNORECASE | re.VERBOSE | re.MULTILINE,
)
_AFTER: Final = ",;)}]\\"
"""What may follow a value that has no quotes, and is none of it"""
# up to the end of the line, or of the string
_HEADER: Final = re.compile(
    r"""(?i)(?<![\w-])((?:proxy-)?authorization|(?:set-)?cookie)(["']?:\s*)(?:(["']).*?(?=(?<!\\)\3|$)|.+)""",
    re.MULTILINE,
)
_BEARER: Final = re.compile(r"(?i)\b(bearer\s+)(?!token\b)[\w.~+/-]+=*")
# user:password@ before a host
_USERINFO: Final = re.compile(r"(://)[^/@\s]*:[^/@\s]*@")
_SHORTEST: Final = 8
_hidden: list[str] = []


def hide(secret: str) -> None:
    """Never print this text from now on, whatever surrounds it: a webhook's URL, a token.

    Below 8 characters it would take innocent words along, and is not looked for.
    """
    if len(secret) >= _SHORTEST and secret not in _hidden:
        _hidden.append(secret)
        _hidden.sort(key=len, reverse=True)  # a URL goes whole before its path is looked for


def redact(text: str) -> str:
    """The text without what ``hide`` was told, and the values of secret query parameters, headers and URL passwords."""
    for secret in _hidden:
        text = text.replace(secret, HIDDEN)
    text = _USERINFO.sub(rf"\1{HIDDEN}@", text)
    text = _HEADER.sub(rf"\1\2\g<3>{HIDDEN}", text)
    text = _BEARER.sub(rf"\1{HIDDEN}", text)
    return _PAIR.sub(_without_value, text)


def _without_value(pair: re.Match[str]) -> str:
    key, bare = pair["key"] or pair["encoded"], pair["bare"]
    if bare is None:
        return f"{key}{pair['quote'] or ''}{HIDDEN}"
    bare = bare.replace(HIDDEN, "")  # its bracket is no end
    return f"{key}{HIDDEN}{bare[len(bare.rstrip(_AFTER)) :]}"


def printable(text: str) -> str:
    """The text with every character a terminal could obey (controls, bidi marks, lone surrogates) as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class Logger:
    """Passes events on to structlog, once there is one that the level lets through."""

    def __init__(self) -> None:
        self._level = logging.NOTSET
        self._set_up: Callable[[], None] | None = None  # what structlog still needs before it is used

    def info(self, event: str, **fields: object) -> None:
        self.tell(logging.INFO, event, **fields)

    def warning(self, event: str, **fields: object) -> None:
        self.tell(logging.WARNING, event, **fields)

    def error(self, event: str, **fields: object) -> None:
        self.tell(logging.ERROR, event, **fields)

    def tell(self, level: int, event: str, **fields: object) -> None:
        """Tell an event of one of ``logging``'s levels."""
        if level >= self._level:
            import structlog

            self._finish()
            # A full disk or a reader that went away must not end the work that the event tells of.
            with suppress(OSError):
                structlog.get_logger().log(level, event, **fields)

    def configure(self, level: int, file: TextIO | None) -> None:
        """Let through ``level`` and above: as JSON lines to the file, else as short lines to stderr."""
        self._level = level
        self._set_up = partial(_set_up, level, file)
        if "structlog" in sys.modules:  # who asks structlog itself must find it set up
            self._finish()

    def _finish(self) -> None:
        if self._set_up is not None:
            self._set_up()
            self._set_up = None


log: Final = Logger()


def configure(*, verbose: bool = False, json: bool = False, file: Path | None = None) -> None:
    """Set up events for the process: short lines on stderr; JSON lines there with ``json``, or appended to ``file``.

    WARNING and above, INFO too when ``verbose``. What libraries say through ``logging`` goes the same way.
    Raises OSError when the file cannot be opened.
    """
    if file is not None:
        lines: TextIO | None = file.open("a", encoding="utf-8")
    else:
        lines = sys.stderr if json else None
    log.configure(logging.INFO if verbose else logging.WARNING, lines)
    root = logging.getLogger()
    root.handlers = [_ToLog()]
    root.setLevel(logging.WARNING)


def _set_up(level: int, file: TextIO | None) -> None:
    import structlog

    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redact_event,
    ]
    factory: Any
    if file is None:
        processors.append(_short_line)
        factory = _StderrLogger
    else:
        processors.append(structlog.processors.JSONRenderer(default=str))
        factory = structlog.WriteLoggerFactory(file)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )


class _StderrLogger:
    """Looks stderr up at every line: a live display puts its own in place while it draws."""

    def __init__(self, *_: object) -> None:
        pass

    def msg(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - this is the logger

    debug = info = warning = warn = error = critical = exception = msg


class _ToLog(logging.Handler):
    """Passes what libraries log on to ``log``, so that it is redacted and lands in the same place."""

    def emit(self, record: logging.LogRecord) -> None:
        log.tell(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)


def _redact_event(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        event[key] = _redact_value(key, value)
    return event


def _redact_value(key: object, value: object) -> object:
    if isinstance(key, str) and _KEY.fullmatch(key):
        return HIDDEN
    match value:
        case str():
            return redact(value)
        case bytes():
            return redact(value.decode("utf-8", "backslashreplace"))
        case Mapping():
            return {inner: _redact_value(inner, item) for inner, item in value.items()}
        case (first, second) if isinstance(first, str) and isinstance(second, str):
            return (first, _redact_value(first, second))  # a header as a pair
        case list() | tuple():
            return [_redact_value(None, item) for item in value]
        case None | bool() | int() | float():
            return value
        case _:
            return redact(str(value))


def _short_line(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    """``12:00:01 warning: event  key=value ...``, one physical line unless an exception follows."""
    moment = str(event.pop("timestamp", ""))[11:19]
    level = event.pop("level", "")
    exception = event.pop("exception", None)
    words = [printable(str(event.pop("event", "")))]
    words += [f"{key}={printable(str(value))}" for key, value in event.items() if value is not None]
    line = f"{moment} {level}: {'  '.join(words)}"
    return line if exception is None else f"{line}\n{exception}"
