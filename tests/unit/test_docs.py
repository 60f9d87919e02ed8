"""The documents agree with the code: options, keys, variables, error classes, exit codes, decisions, links."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest
import tomli
from msgspec import Struct

from asynccopy import config, errors
from asynccopy.cli.main import cli
from asynccopy.errors import AsyncCopyError

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(ROOT.glob("*.md")) + sorted(DOCS.rglob("*.md"))
CONFIGURATION = (DOCS / "configuration.md").read_text(encoding="utf-8")
CLASSES = {
    name: value
    for name, value in inspect.getmembers(errors, inspect.isclass)
    if issubclass(value, AsyncCopyError) and value is not AsyncCopyError
}


def _rows(text: str, first: str) -> Iterator[list[str]]:
    """The cells of every table row whose first cell matches."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and re.fullmatch(first, cells[0]):
            yield cells


def _section(verb: str) -> str:
    """The part of configuration.md about a verb, up to the next heading."""
    found = re.search(rf"^## asynccopy {verb}\b.*?(?=^## |\Z)", CONFIGURATION, re.MULTILINE | re.DOTALL)
    assert found is not None, f"configuration.md has no section about {verb}"
    return found[0]


def _verbs() -> dict[str, click.Command]:
    context = click.Context(cli)
    commands = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    return {name: command for name, command in commands.items() if command is not None}


def _parameters(command: click.Command) -> Iterator[click.Parameter]:
    yield from command.params
    if isinstance(command, click.Group):
        for child in command.commands.values():
            yield from _parameters(child)


VERBS = _verbs()


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_is_documented(verb: str) -> None:
    section = _section(verb)
    options = [name for parameter in _parameters(VERBS[verb]) for name in parameter.opts if name.startswith("-")]
    assert options
    assert [name for name in options if not re.search(rf"`{re.escape(name)}[ `]", section)] == []


@pytest.mark.parametrize("verb", VERBS)
def test_every_documented_option_is_there(verb: str) -> None:
    told = set(re.findall(r"`(--[a-z][a-z-]*)[ `]", _section(verb)))
    known = {name for parameter in _parameters(VERBS[verb]) for name in parameter.opts}
    assert told <= known


def test_every_verb_of_journal_is_documented() -> None:
    journal = VERBS["journal"]
    assert isinstance(journal, click.Group)
    assert {name for name in journal.commands if f"`journal {name}" not in CONFIGURATION} == set()


def test_defaults_of_numbers_and_choices_are_as_told() -> None:
    rows = {cells[0].split("`")[1].split()[0]: cells for cells in _rows(_section("copy"), r"`--.*")}
    for parameter in VERBS["copy"].params:
        if isinstance(parameter.type, click.IntRange | click.Choice):
            assert rows[parameter.opts[0]][1].strip("`") == str(parameter.default)


TABLES: dict[str, type[Struct]] = {
    "[daemon]": config.Daemon,
    '[endpoints.NAME]` with `type = "webhdfs"': config.WebHdfsEndpoint,
    '[endpoints.NAME]` with `type = "s3"': config.S3Endpoint,
    '[endpoints.NAME]` with `type = "oss"': config.OssEndpoint,
    "[mirrors.NAME]": config.MirrorConfig,
    "[webhooks.NAME]": config.WebhookConfig,
}
EXAMPLE = (ROOT / "config.example.toml").read_text(encoding="utf-8")


def _keys(table: str) -> dict[str, str]:
    """The keys that configuration.md has of a table, and the default it tells of each, "" for none."""
    found = re.search(rf"^### `{re.escape(table)}`\n(.*?)(?=^##|\Z)", CONFIGURATION, re.MULTILINE | re.DOTALL)
    assert found is not None, f"configuration.md has no section about {table}"
    return {cells[0].strip("`"): cells[1].strip("`") for cells in _rows(found[1], "`.*`")}


def _shown(kind: type[Struct]) -> dict[str, str]:
    """The keys that config.example.toml shows of a table, also those that are commented out, and their values."""
    found: dict[str, str] = {}
    for title, text in re.findall(r"^\[([\w.]+)\]\n(.*?)(?=^\[|\Z)", EXAMPLE, re.MULTILINE | re.DOTALL):
        tag = kind.__struct_config__.tag
        if title.partition(".")[0] not in TABLE_OF[kind] or (tag is not None and f'type = "{tag}"' not in text):
            continue
        for comment, key, value in re.findall(r"^(#[^\n]*)\n(?:# )?(\w+) = (.*)$", text, re.MULTILINE):
            assert len(comment) > 10, f"{title}: {key} lacks a comment above it"
            found[key] = value
    return found


TABLE_OF = {kind: re.findall(r"\w+", title)[0] for title, kind in TABLES.items()}


@pytest.mark.parametrize("table", TABLES)
def test_every_key_of_the_file_is_documented_and_shown(table: str) -> None:
    fields = set(TABLES[table].__struct_fields__)
    assert set(_keys(table)) == fields
    assert set(_shown(TABLES[table])) == fields


LEAST: dict[type[Struct], dict[str, object]] = {
    config.Daemon: {},
    config.WebHdfsEndpoint: {"type": "webhdfs", "url": "http://nn"},
    config.S3Endpoint: {"type": "s3", "bucket": "b"},
    config.OssEndpoint: {"type": "oss", "bucket": "b"},
    config.MirrorConfig: {"source": "/a", "destination": "/b"},
    config.WebhookConfig: {"url_file": "f"},
}


def _read(kind: type[Struct], keys: dict[str, object]) -> config.Config:
    """A configuration of one table, with what it must have and these keys."""
    table = {**LEAST[kind], **keys}
    return config.parse({TABLE_OF[kind]: table if kind is config.Daemon else {"x": table}}, "f", {})


@pytest.mark.parametrize("table", TABLES)
def test_defaults_of_keys_are_as_told_and_shown(table: str) -> None:
    kind, told, shown = TABLES[table], _keys(table), _shown(TABLES[table])
    commented_out = set(re.findall(r"^# (\w+) = ", EXAMPLE, re.MULTILINE))
    for field in msgspec.structs.fields(kind):
        if told[field.name]:
            assert _read(kind, tomli.loads(f"{field.name} = {told[field.name]}")) == _read(kind, {}), field.name
        else:
            assert field.required or field.default in (None, "", ()), field.name
        if field.name in commented_out and told[field.name]:
            assert shown[field.name] == told[field.name]


def test_the_keys_that_a_reload_applies_are_told() -> None:
    told = re.search(r"^A reload applies ([^;]*?) at once", CONFIGURATION, re.MULTILINE)
    assert told is not None
    assert set(re.findall(r"`(\w+)`", told[1])) == config.LIVE


def test_every_environment_variable_is_documented() -> None:
    used: set[str] = set()
    for path in (ROOT / "asynccopy").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        used |= set(
            re.findall(r"\"((?:AWS|OSS|ALIBABA_CLOUD|HADOOP|XDG|ASYNCCOPY)_[A-Z0-9_]+|[A-Z]+_DIRECTORY)\"", text)
        )
    assert len(used) > 8
    assert {name for name in used if f"`{name}`" not in CONFIGURATION} == set()


def test_every_error_class_has_its_row_in_operations() -> None:
    text = (DOCS / "operations.md").read_text(encoding="utf-8")
    rows = {cells[0].strip("`"): cells for cells in _rows(text, r"`[A-Z]\w+`")}
    assert set(rows) == set(CLASSES)
    for name, error in CLASSES.items():
        _, code, retried, meaning, remedy = rows[name]
        assert (int(code), retried) == (error.exit_code, "yes" if error.retryable else "no"), name
        assert meaning, name
        assert remedy, name


@pytest.mark.parametrize("page", ["README.md", "docs/operations.md"])
def test_the_table_of_exit_codes_is_complete(page: str) -> None:
    rows = {int(cells[0]) for cells in _rows((ROOT / page).read_text(encoding="utf-8"), r"\d")}
    assert rows == {0} | {error.exit_code for error in CLASSES.values()}


def test_the_readme_gives_every_class_its_exit_code() -> None:
    told: dict[str, int] = {}
    for cells in _rows((ROOT / "README.md").read_text(encoding="utf-8"), r"\d"):
        told |= dict.fromkeys(re.findall(r"`(\w+)`", cells[2]), int(cells[0]))
    for error in CLASSES.values():
        families = [parent.__name__ for parent in error.__mro__ if parent.__name__ in told]
        assert families, error.__name__
        assert told[families[0]] == error.exit_code


def test_every_decision_is_listed_and_has_its_headings() -> None:
    folder = DOCS / "decisions"
    index = (folder / "README.md").read_text(encoding="utf-8")
    decisions = sorted(path for path in folder.glob("*.md") if path.name != "README.md")
    numbers = [int(path.name[:4]) for path in decisions]
    assert len(set(numbers)) == len(numbers)  # branches take theirs ahead, so one may be missing for a while
    for path in decisions:
        text = path.read_text(encoding="utf-8")
        title = text.splitlines()[0].removeprefix(f"# {path.name[:4]} ")
        assert f"| [{path.name[:4]}]({path.name}) | {title} |" in index
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Rejected", "Consequence"]


def test_every_module_that_the_architecture_names_is_there() -> None:
    package = ROOT / "asynccopy"
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:\w+/)*\w+\.(?:py|sql))`", text))
    homes = [package, *(path for path in package.rglob("*") if path.is_dir())]
    assert named
    assert {name for name in named if not any((home / name).is_file() for home in homes)} == set()


def test_the_layers_are_those_that_are_enforced() -> None:
    project = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    enforced = [
        {name.strip("()") for name in layer.split(" | ")}
        for layer in project["tool"]["importlinter"]["contracts"][0]["layers"]
    ]
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    told = [set(re.findall(r"`(\w+)`", re.sub(r"\(.*?\)", "", cells[1]))) for cells in _rows(text, r"\d")]
    assert told == enforced


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+://", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    assert broken == []


def _anchors(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_target_of_make_that_is_named_exists(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"(?:^ {4}|`)make ([a-z]+(?:-[a-z]+)*)", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= targets


def test_every_folder_of_tests_is_explained() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/*.py")}
    assert {name for name in folders if f"| `tests/{name}/` |" not in text} == set()
