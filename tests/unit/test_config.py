from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import pytest
import tomli
from hypothesis import given, settings
from hypothesis import strategies as st

from asynccopy.config import (
    LIVE,
    Changes,
    Config,
    Daemon,
    MirrorConfig,
    OssEndpoint,
    S3Endpoint,
    Secret,
    WebHdfsEndpoint,
    WebhookConfig,
    changed,
    load,
    parse,
    read_secret,
    state_directory,
)
from asynccopy.config.cluster import Cluster
from asynccopy.config.objects import ObjectOptions
from asynccopy.errors import UsageError
from asynccopy.timetable import Timetable
from asynccopy.units import parse_cap, parse_limit

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"
PROMISED = """
[daemon]
state = "/var/lib/asynccopy"                  # journal and ledger; default $STATE_DIRECTORY
socket = "/run/asynccopy/control.sock"        # default $RUNTIME_DIRECTORY/control.sock
listen = "127.0.0.1:8787"                     # page, API and /metrics over TCP; absent = socket only
[endpoints.dc1]                               # optional: URLs work without it
type = "webhdfs"
urls = ["http://nn1:9870", "http://nn2:9870"]
[mirrors.sales]
source = "dc1:/warehouse/sales"               # or webhdfs://nn1:9870/warehouse/sales
destination = "s3://lake/sales"
watch = "auto"                                # snapshots | scan | auto | off
interval = "30s"
full_scan_interval = "6h"
deletions = "keep"                            # delete | trash
max_delete = "5%"
verify = "checksum"
bandwidth = "200MiB/s"                        # or a timetable
exclude = ["**/_temporary/**"]
"""
"""What users were told to write: these names are stable."""


def read(text: str, **environment: str) -> Config:
    return parse(tomli.loads(text), "config.toml", environment)


def refused(text: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        read(text)
    return caught.value


def mirror(lines: str = "", name: str = "sales") -> str:
    return f'[mirrors.{name}]\nsource = "webhdfs://nn:9870/{name}"\ndestination = "s3://lake/{name}"\n{lines}\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_what_was_promised_loads() -> None:
    config = read(PROMISED)
    assert config.daemon == Daemon(
        state="/var/lib/asynccopy", socket="/run/asynccopy/control.sock", listen="127.0.0.1:8787"
    )
    assert config.daemon.address == ("127.0.0.1", 8787)
    sales = config.mirrors["sales"]
    assert sales == MirrorConfig(
        source="dc1:/warehouse/sales",
        destination="s3://lake/sales",
        bandwidth=Timetable(["200MiB/s"], parse_limit),
        exclude=("**/_temporary/**",),
    )
    assert (sales.interval, sales.full_scan_interval, sales.settle) == (30, 21600, 10)
    assert sales.max_delete.most(1000) == 50
    assert config.place(sales.source) == (
        "webhdfs://nn1:9870/warehouse/sales",
        {"cluster": Cluster(servers=("webhdfs://nn1:9870", "webhdfs://nn2:9870"))},
    )
    assert config.place(sales.destination) == ("s3://lake/sales", {})


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("storage_class = 'Cold'", "storage_class"),
        ("encryption = 'none'", "encryption"),
        ("kms_key = 'k'", "`kms_key` needs"),
        ("kms_key = 'k'\nencryption = 'AES256'", "`kms_key` needs"),
        ("custom_domain = true", "`custom_domain` needs"),
        ("endpoint = 'https://u:canary@h'", "must look like"),
        ("endpoint = 'https://h/path'", "must look like"),
        ("metadata = { 'a b' = 'x' }", "`metadata`"),
        ("metadata = { a = 1 }", "metadata"),
        ("tags = { " + ", ".join(f"t{n} = 'x'" for n in range(11)) + " }", "10 at most"),
    ],
)
def test_an_oss_endpoint_that_cannot_be(more: str, told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        parse(tomli.loads(OSS + more), "f")
    assert "[endpoints.archive]" in str(caught.value)
    assert "canary" not in str(caught.value)


def test_the_example_is_legal() -> None:
    config = load(EXAMPLE)
    assert {type(endpoint) for endpoint in config.endpoints.values()} == {WebHdfsEndpoint, S3Endpoint, OssEndpoint}
    sales = config.mirrors["sales"]
    assert sales.bandwidth is not None
    assert len(sales.bandwidth.windows) == 3
    assert (sales.part_size, sales.min_size, sales.max_size, sales.lag_alert) == (128 << 20, 1, 5 << 40, 900)
    assert sales.newer_than == datetime(2020, 1, 1, tzinfo=UTC).timestamp() * 1000
    assert config.webhooks["audit"].url == Secret("https://audit.example/asynccopy")


def test_places() -> None:
    config = load(EXAMPLE)
    assert config.place("dc1:/warehouse") == (
        "webhdfs://nn1.example:9870/warehouse",
        {"cluster": Cluster(servers=("webhdfs://nn1.example:9870", "webhdfs://nn2.example:9870"), user="hdfs")},
    )
    assert config.place("dc2:") == (
        "webhdfs://namenode.example:9870/",
        {"cluster": Cluster(servers=("webhdfs://namenode.example:9870",))},
    )
    assert config.place("lake:/a/b") == (
        "s3://data-lake/a/b",
        {
            "s3_endpoint": "https://s3.example:9000",
            "s3_region": "eu-central-1",
            "s3_addressing": "path",
            "objects": ObjectOptions(tags=(("origin", "dc1"),)),
        },
    )
    assert config.place("archive:/a/b") == (
        "oss://data-archive/a/b",
        {
            "oss_endpoint": "https://oss-cn-hangzhou-internal.aliyuncs.com",
            "oss_region": "cn-hangzhou",
            "objects": ObjectOptions(
                storage_class="IA", encryption="KMS", kms_key="key-hzz0000000000", tags=(("origin", "dc1"),)
            ),
        },
    )
    for text in ("s3://bucket/a:/b", "file:/a", "/a/b:/c", "relative"):
        assert config.place(text) == (text, {})


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://nn:9870", "webhdfs://nn:9870"),
        ("https://nn:9871/", "swebhdfs://nn:9871"),
        ("webhdfs://nn:9870", "webhdfs://nn:9870"),
        ("swebhdfs://[::1]:9871", "swebhdfs://[::1]:9871"),
        ("http://nn", "webhdfs://nn"),
    ],
)
def test_an_address_may_be_what_the_browser_shows(url: str, address: str) -> None:
    for key in (f'url = "{url}"', f'urls = ["{url}", "http://other"]'):
        endpoint = read(HDFS + key).endpoint("dc1")
        assert isinstance(endpoint, WebHdfsEndpoint)
        assert endpoint.addresses[0] == address
        assert endpoint.location("/a") == f"{address}/a"


@pytest.mark.parametrize(
    "entry", ["dn1", "DN1.example.", "*.dn.example:9864", "10.1.2.3", "10.0.0.0/8", "2001:db8::/32", "[2001:db8::5]:80"]
)
def test_where_redirects_may_lead(entry: str) -> None:
    settings = read(f'{HDFS}url = "http://nn"\nredirects = ["{entry}"]').endpoint("dc1").settings
    assert settings == {"cluster": Cluster(servers=("webhdfs://nn",), redirects=(entry,))}


@pytest.mark.parametrize(
    "entry",
    [
        *("", "*", "*.", "http://dn1", "user@dn1", "dn1:0", "dn1:65536", "dn1:x", "10.1.2.3/8", "10.1.2", "[::1"),
        *("2852039166", "a b", "dn*.example", "10.0.0.0/33"),
    ],
)
def test_where_no_redirect_can_lead(entry: str) -> None:
    with pytest.raises(UsageError, match=r"\[endpoints.dc1\].*redirects"):
        read(f'{HDFS}url = "http://nn"\nredirects = ["{entry}"]')


def test_an_unknown_endpoint_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"no \[endpoints.dc9\]") as caught:
        load(EXAMPLE).endpoint("dc9")
    assert caught.value.hint.endswith("dc1, dc2, lake, secure")


HDFS = '[endpoints.dc1]\ntype = "webhdfs"\n'
S3 = '[endpoints.lake]\ntype = "s3"\n'
OSS = '[endpoints.archive]\ntype = "oss"\nbucket = "b"\n'
HOOK = '[webhooks.ops]\nurl = "https://hooks/T0/s3cr3t"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("journal = 1", "unknown key or table `journal`"),
        ("endpoints = 3", "`endpoints` must be a table"),
        ("mirrors = []", "`mirrors` must be a table"),
        ("daemon = 1", "[daemon]: Expected `table`, got `int`"),
        ("[endpoints]\ndc1 = 3", "[endpoints.dc1]"),
        ('[endpoints."a b"]\ntype = "s3"\nbucket = "b"', "a name is a letter"),
        (f'[endpoints.{"n" * 64}]\ntype = "s3"\nbucket = "b"', "63 at most"),
        ('[endpoints.s3]\ntype = "s3"\nbucket = "b"', "this name is a URL scheme"),
        (f'{HDFS}url = "webhdfs://nn:1"\nulr = "x"', "unknown key `ulr`"),
        (f"{HDFS}url = 5", "`url`: Expected `text`, got `int`"),
        (HDFS, "exactly one of `url` and `urls` is needed"),
        (f'{HDFS}url = "webhdfs://nn:1"\nurls = ["webhdfs://nn:2"]', "exactly one of `url` and `urls` is needed"),
        (f'{HDFS}url = "nn:9870"', "must look like webhdfs://host:port"),
        (f'{HDFS}urls = ["http://nn:9870/webhdfs/v1"]', "must look like webhdfs://host:port"),
        (f'{HDFS}urls = ["http://nn:9870", "http://nn2:99870"]', "port 99870 does not exist"),
        (f'{HDFS}url = "http://nn"\nbandwidth = 5', "`bandwidth`: 5 has no unit"),
        (f'{HDFS}url = "http://nn"\nconcurrency = "auto"', "`concurrency`: Expected `int`, got `text`"),
        (f'{S3}endpoint = "https://s3"', "missing key `bucket`"),
        (f'{S3}bucket = "a/b"', "`bucket` is a bucket's name alone"),
        (f'{S3}bucket = "b"\naddressing = "host"', "`addressing`: Invalid enum value 'host'"),
        (f'{S3}bucket = "b"\nendpoint = "s3://x"', "must look like http://host:port"),
        ('[endpoints.x]\ntype = "ftp"', "`type`: Invalid value 'ftp'"),
        ('[endpoints.x]\nurl = "webhdfs://nn:1"', "missing key `type`"),
        ('[daemon]\nstate = "var"', "`state` must be an absolute path"),
        ('[daemon]\nlisten = "8787"', '`listen` must be "host:port"'),
        ('[daemon]\nlisten = "localhost:65536"', '`listen` must be "host:port"'),
        ('[daemon]\nlisten = "0.0.0.0:8787"', "needs a `token_file`"),
        ('[daemon]\nlisten = "node7:8787"', "needs a `token_file`"),
        ('[daemon]\nlog = "xml"', "`log`: Invalid enum value 'xml'"),
        ("[mirrors.a]", "missing key `source`"),
        (mirror("intervall = '3s'"), "unknown key `intervall`"),
        (mirror("interval = 30"), "`interval`: 30 has no unit"),
        (mirror("interval = '30'"), "`interval`: '30' is not a duration"),
        (mirror("interval = '500ms'"), "`interval` must be at least 1s"),
        (mirror("interval = '7h'"), "`full_scan_interval` must not be below `interval`"),
        (mirror("settle = [1]"), "`settle`: write for example"),
        (mirror("lag_alert = '0s'"), "`lag_alert` must be above 0s"),
        (mirror("max_delete = '101%'"), "`max_delete`: '101%' is no limit"),
        (mirror("max_delete = true"), '`max_delete`: write for example "5%" or 1000'),
        (mirror("max_delete = -1"), "`max_delete`: '-1' is no limit"),
        (mirror("bandwidth = 200"), "`bandwidth`: 200 has no unit"),
        (mirror("bandwidth = '200'"), "`bandwidth`: '200' has no unit"),
        (mirror("bandwidth = ['08:00-09:00 = pause', 3]"), "`bandwidth`: write for example"),
        (mirror("bandwidth = ['08:00-09:00 = pause', '08:30-10:00 = pause']"), "overlap at mon 08:30"),
        (mirror("concurrency = 0"), "`concurrency`: Expected `int` >= 1"),
        (mirror("priority = 11"), "`priority`: Expected `int` <= 10"),
        (mirror("preserve = ['acl']"), "`preserve[0]`: Invalid enum value 'acl'"),
        (mirror("preserve = 'owner'"), "`preserve`"),
        (mirror("part_size = '64MB'"), "`part_size` must be whole MiB"),
        (mirror("part_size = 67108864"), "`part_size`: 67108864 has no unit"),
        (mirror("min_size = '5MiB'\nmax_size = '4MiB'"), "`min_size` is above `max_size`"),
        (mirror("min_size = '4096'"), "`min_size`: '4096' has no unit"),
        (mirror("newer_than = '7d'"), "`newer_than`: '7d' is not a time"),
        (mirror("newer_than = 12:00:00"), "`newer_than`: write for example 2026-01-31"),
        (mirror("newer_than = 2026-01-02\nolder_than = 2026-01-01"), "`newer_than` is not before `older_than`"),
        (mirror("include_regex = ['(']"), "`include_regex`: '(': missing )"),
        (mirror("exclude = 'x'"), "`exclude`: Expected `list`, got `text`"),
        (mirror("trash = '/x'"), "`trash` must be a prefix"),
        (mirror("trash = 'a/../b/'"), "`trash` must be a prefix"),
        (mirror("trash = ''"), "`trash` must be a prefix"),
        ("[webhooks.ops]", "exactly one of `url_file` and `url` is needed"),
        (f"{HOOK}url_file = 'x'", "exactly one of `url_file` and `url` is needed"),
        (f"{HOOK}on = []", "`on` is empty"),
        (f"{HOOK}on = ['always']", "`on[0]`: Invalid enum value 'always'"),
        ("[webhooks.ops]\nurl = 'ftp://x'", "`url` must be an https:// or http:// address"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_key(text: str, says: str) -> None:
    error = refused(text)
    assert error.message.startswith("config.toml: ")
    assert says in error.message
    assert "\n" not in error.message
    assert "s3cr3t" not in error.message


def test_hints_say_what_would_be_right() -> None:
    assert refused(mirror("intervall = '3s'")).hint == "is `interval` meant?"
    assert refused("[daemon]\nxyz = 1").hint.startswith("the keys here are: state, socket")
    orders = '"auto", "listing", "spread", "oldest", "newest", "smallest", "largest"'
    assert refused(mirror("order = 'x'")).hint == f"write one of {orders}"
    assert refused(mirror("concurrency = 'x'")).hint == 'write "auto" or a number'


def test_not_toml(tmp_path: Path) -> None:
    for text in ("[endpoints", "a = " + "[" * 20_000):
        with pytest.raises(UsageError, match="is not TOML"):
            load(written(tmp_path, text))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="Is a directory"):
        load(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"# \xe9\n")
    with pytest.raises(UsageError, match="not UTF-8"):
        load(tmp_path / "latin.toml")


def test_where_state_and_socket_lie_without_a_word(tmp_path: Path) -> None:
    config = load(written(tmp_path, ""), {"STATE_DIRECTORY": "/s/a:/s/b", "RUNTIME_DIRECTORY": "/r/a:/r/b"})
    assert (config.daemon.state, config.daemon.socket) == ("/s/a", "/r/a/control.sock")
    assert config == Config({}, str(tmp_path / "config.toml"), config.daemon)
    assert read("", XDG_STATE_HOME="/x").daemon.socket == "/x/asynccopy/control.sock"
    assert state_directory({"XDG_STATE_HOME": "relative"}) == Path.home() / ".local/state/asynccopy"
    given = read("[daemon]\nstate = '/a'", STATE_DIRECTORY="/s").daemon
    assert (given.state, given.socket) == ("/a", "/a/control.sock")


def test_who_has_no_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in containers that run under some number."""

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("pathlib.Path.home", homeless)
    with pytest.raises(UsageError, match="no home directory") as raised:
        state_directory({})
    assert raised.value.hint == "set XDG_STATE_HOME"
    assert state_directory({"XDG_STATE_HOME": "/x"}) == Path("/x/asynccopy")


def test_others_are_let_in_with_a_token() -> None:
    for listen, address in (("0.0.0.0:80", ("0.0.0.0", 80)), ("[2001:db8::7]:80", ("2001:db8::7", 80))):
        assert read(f"[daemon]\nlisten = '{listen}'\ntoken_file = 'token'").daemon.address == address
    for listen in ("localhost:1", "127.9.9.9:1", "[::1]:1"):
        assert read(f"[daemon]\nlisten = '{listen}'").daemon.address is not None


def test_secrets_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "hook").write_text(" https://hooks/1 \n")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "bytes").write_bytes(b"hunter2\xff")
    assert read_secret(str(tmp_path / "hook"), {}) == "https://hooks/1"
    assert read_secret("hook", {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == "https://hooks/1"
    with pytest.raises(UsageError, match="no \\$CREDENTIALS_DIRECTORY"):
        read_secret("hook", {})
    for name, says in (("none", "No such file"), ("empty", "is empty"), ("bytes", "is not UTF-8")):
        with pytest.raises(UsageError, match=says) as caught:
            read_secret(name, {"CREDENTIALS_DIRECTORY": str(tmp_path)})
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        HDFS + 'url = "webhdfs://me:hunter2@nn:9870"',
        HDFS + 'url = "webhdfs://me:hun/ter2@nn:9870"',
        HDFS + 'urls = ["http://nn:9870?delegation=hunter2"]',
        mirror("order = 'http://me:hunter2@x'"),
        mirror("interval = 'http://x/?token=hunter2'"),
        '[mirrors.a]\nsource = "webhdfs://me:hunter2@nn/a"\ndestination = "s3://b/a"',
        '[mirrors.a]\nsource = "webhdfs://nn/a"\ndestination = "s3://me:hunter2@b/a"',
        '[webhooks.a]\nurl = "hooks/hunter2"',
        '[webhooks.a]\nurl = "https://hooks"\nshape = "https://hooks/hunter2"',
        '[webhooks.a]\nurl = "https://hooks/hunter2"\non = ["https://hooks/hunter2"]',
    ],
)
def test_secrets_are_not_repeated(text: str) -> None:
    error = refused(text)
    shown = "".join((error.message, error.hint, repr(error.__cause__)))
    assert "hunter2" not in shown
    assert "ter2" not in shown
    assert error.__suppress_context__  # no traceback shows what it was made of


def test_a_webhooks_url_is_not_shown() -> None:
    config = read(HOOK)
    assert "s3cr3t" not in repr(config)
    url = config.webhooks["ops"].url
    assert url is not None
    assert url.reveal() == "https://hooks/T0/s3cr3t"


# --- mirrors beside each other ------------------------------------------------------------------------------------

STORES = """
[endpoints.a]
type = "s3"
bucket = "lake"
endpoint = "https://s3.example"
[endpoints.b]
type = "s3"
bucket = "lake"
endpoint = "https://S3.example:443/"
[endpoints.c]
type = "s3"
bucket = "lake"
endpoint = "https://elsewhere.example"
[endpoints.nn]
type = "webhdfs"
urls = ["http://nn1:9870", "http://nn2:9870"]
"""


def pair(first: tuple[str, str], second: tuple[str, str]) -> str:
    tables = (
        f'[mirrors.{name}]\nsource = "{source}"\ndestination = "{destination}"\n'
        for name, (source, destination) in (("one", first), ("two", second))
    )
    return STORES + "".join(tables)


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        (("nn:/a", "s3://x/a"), ("nn:/b", "s3://x/a/"), "is that of [mirrors.one] too"),
        (("nn:/a", "s3://x/a"), ("nn:/b", "s3://x/a/b"), "lie in each other"),
        (("nn:/a", "s3://x/a/b"), ("nn:/b", "s3://x"), "lie in each other"),
        (("nn:/a", "a:/x"), ("nn:/b", "b:/x/y"), "lie in each other"),
        (("nn:/a", "a:/x"), ("nn:/b", "s3://lake/x"), "lie in each other"),
        (("nn:/a", "file:///data/x%20y"), ("nn:/b", "/data/z/../x y"), "is that of [mirrors.one] too"),
        (("/data", "a:/data"), ("nn:/b", "/data/b"), "lies in the `source` of [mirrors.one]"),
        (("nn:/a", "/data/b"), ("/data", "a:/data"), "lies in the `source` of [mirrors.two]"),
        (("nn:/a", "webhdfs://nn2:9870/b/c"), ("nn:/b", "s3://x/b"), "lies in the `source` of [mirrors.two]"),
        (("nn:/a", "s3://x"), ("/data", "/data/copy"), "overlaps its `source`"),
        (("nn:/a", "s3://x"), ("/data/copy", "/data"), "overlaps its `source`"),
        (("nn:/a", "s3://x/other"), ("s3://x/a", "s3://x/a/../b"), "overlaps its `source`"),  # dots are parts of keys
    ],
)
def test_mirrors_in_each_others_way(first: tuple[str, str], second: tuple[str, str], says: str) -> None:
    error = refused(pair(first, second))
    assert says in error.message
    assert re.search(r"\[mirrors\.(one|two)\]: `destination` ", error.message)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("nn:/a", "s3://x/a"), ("nn:/a/b", "s3://x/ab")),
        (("nn:/a", "s3://x/a"), ("nn:/a", "s3://y/a")),
        (("nn:/a", "a:/x"), ("nn:/a", "c:/x")),
        (("nn:/a", "/data/a"), ("nn:/b", "/data/b")),
        (("webhdfs://nn1:9870/a", "webhdfs://nn3:9870/a"), ("/a", "a:/a")),
    ],
)
def test_mirrors_that_leave_each_other_alone(first: tuple[str, str], second: tuple[str, str]) -> None:
    assert set(read(pair(first, second)).mirrors) == {"one", "two"}


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("data/sales", "must be a URL, an endpoint's NAME:/path, or an absolute path"),
        ("", "must be a URL"),
        ("dc9:/a", "there is no [endpoints.dc9]"),
        ("webhdfs://user@nn/a", "without user or password"),
        ("webhdfs://nn:x/a", "without user or password"),
    ],
)
def test_what_is_no_side(source: str, says: str) -> None:
    error = refused(f'[mirrors.a]\nsource = "{source}"\ndestination = "s3://b/a"')
    assert "config.toml: [mirrors.a]: `source`: " in error.message
    assert says in error.message


# --- changes ------------------------------------------------------------------------------------------------------

OTHER = {
    "source": "'webhdfs://nn:9870/x'",
    "destination": "'s3://lake/x'",
    "watch": "'scan'",
    "interval": "'31s'",
    "full_scan_interval": "'7h'",
    "settle": "'11s'",
    "deletions": "'delete'",
    "trash": "'gone/'",
    "max_delete": "7",
    "verify": "'size'",
    "bandwidth": "'1MiB/s'",
    "concurrency": "3",
    "part_size": "'32MiB'",
    "order": "'oldest'",
    "priority": "6",
    "lag_alert": "'1h'",
    "include": "['x']",
    "exclude": "['x']",
    "include_regex": "['x']",
    "exclude_regex": "['x']",
    "min_size": "'1B'",
    "max_size": "'1GB'",
    "newer_than": "2026-01-01",
    "older_than": "2026-01-01",
    "empty_directories": "false",
    "preserve": "['owner']",
}


def with_key(key: str, value: str) -> str:
    lines = [line for line in mirror().splitlines() if not line.startswith(f"{key} ")]
    return "\n".join([*lines, f"{key} = {value}"])


@pytest.mark.parametrize("key", MirrorConfig.__struct_fields__)
def test_a_change_of_a_mirror(key: str) -> None:
    found = changed(read(mirror()), read(with_key(key, OTHER[key])))
    if key in LIVE:
        assert found == Changes(live={"sales": (key,)})
    else:
        assert found == Changes(rebuilt={"sales": (key,)})


def test_what_is_live_is_told() -> None:
    told = "bandwidth concurrency priority interval full_scan_interval max_delete deletions settle order lag_alert"
    assert set(told.split()) == LIVE


def test_nothing_changes_where_the_same_is_written_otherwise() -> None:
    same = "interval = '0.5m'\nmax_delete = '5.0%'\nbandwidth = ['pause', '08:00-10:00=1MiB/s']"
    assert changed(read(mirror("bandwidth = '08:00 - 10:00 = 1024KiB; 0B/s'")), read(mirror(same))) == Changes()


def test_mirrors_come_and_go() -> None:
    old = read(mirror(name="a") + mirror(name="b") + mirror(name="c"))
    new = read(mirror("priority = 9\nverify = 'none'", name="b") + mirror(name="d") + mirror(name="c"))
    assert changed(old, new) == Changes(added=("d",), removed=("a",), rebuilt={"b": ("priority", "verify")})


def test_an_endpoint_that_changes_changes_its_mirrors() -> None:
    mirrors = '[mirrors.m]\nsource = "dc1:/a"\ndestination = "lake:/a"\n' + mirror()

    def config(hdfs: str = "user = 'etl'", s3: str = "") -> Config:
        return read(f"{HDFS}urls = ['http://nn1', 'http://nn2']\n{hdfs}\n{S3}bucket = 'b'\n{s3}\n{mirrors}")

    assert changed(config(), config(hdfs="user = 'hdfs'")) == Changes(rebuilt={"m": ("source",)})
    assert changed(config(), config(s3="region = 'x'")) == Changes(rebuilt={"m": ("destination",)})
    capped = config(hdfs="user = 'etl'\nconcurrency = 8", s3="bandwidth = '1GB/s'")
    assert changed(config(), capped) == Changes(endpoints=("dc1", "lake"))


def test_the_daemon_and_webhooks() -> None:
    keys = "listen = '[::1]:1'\nlog = 'json'\nbandwidth = '1GB/s'\nfile_events = true\nsocket = '/s'\ntoken_file = 'x'"
    assert changed(read(""), read(f"[daemon]\n{keys}\n{HOOK}")) == Changes(
        daemon=("bandwidth", "file_events"), restart=("listen", "log", "socket", "token_file"), webhooks=True
    )


# --- whatever is written ------------------------------------------------------------------------------------------

URL = "https://hooks.example/T0/s3cr3t-path?access_token=hunter2"
TEXTS = st.sampled_from(
    [
        "",
        "30s",
        "5%",
        "64MiB",
        "1GB/s",
        "auto",
        "dc1:/a",
        "s3://b/c",
        "webhdfs://me:hunter2@nn/x",
        URL,
        "a:/b",
        "/x",
        "[",
    ]
)
VALUES = st.recursive(
    TEXTS
    | st.text(max_size=20)
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.booleans()
    | st.datetimes()
    | st.datetimes(timezones=st.just(UTC))
    | st.dates()
    | st.times(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = {
    "daemon": Daemon.__struct_fields__,
    "endpoints": (
        "type",
        *WebHdfsEndpoint.__struct_fields__,
        *S3Endpoint.__struct_fields__,
        *OssEndpoint.__struct_fields__,
    ),
    "mirrors": MirrorConfig.__struct_fields__,
    "webhooks": WebhookConfig.__struct_fields__,
}


def legal() -> dict[str, Any]:
    text = (
        HDFS
        + "url = 'http://nn'\n"
        + S3
        + "bucket = 'b'\n"
        + OSS
        + mirror()
        + f"[webhooks.w]\nurl = '{URL}'\n[daemon]\n"
    )
    return tomli.loads(text)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_is_written_is_legal_or_a_usage_error(data: st.DataObject) -> None:
    document = legal()
    for _ in range(data.draw(st.integers(1, 3))):
        kind = data.draw(st.sampled_from(sorted(FIELDS)))
        table = document["daemon"] if kind == "daemon" else data.draw(st.sampled_from(list(document[kind].values())))
        table[data.draw(st.sampled_from(FIELDS[kind]))] = data.draw(VALUES)
    try:
        config = parse(document, "config.toml", {})
    except UsageError as error:
        shown = error.message + error.hint
        assert "s3cr3t" not in shown
        assert "hunter2" not in shown
        assert shown.isprintable()
    else:
        assert "s3cr3t" not in repr(config.webhooks)
        assert changed(config, config) == Changes()


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from([*FIELDS, "x"]) | st.text(max_size=5), VALUES, max_size=4))
def test_whatever_tables_there_are(document: dict[str, Any]) -> None:
    with suppress(UsageError):
        parse(document, "config.toml", {})


def test_values_of_toml_itself() -> None:
    for value in (date(2026, 1, 1), datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC)):  # noqa: DTZ001
        document = legal()
        document["mirrors"]["sales"]["newer_than"] = value
        assert parse(document, "f", {}).mirrors["sales"].newer_than == 1767225600000
    document["mirrors"]["sales"]["newer_than"] = time(1)
    with pytest.raises(UsageError, match="newer_than"):
        parse(document, "f", {})
    assert parse_cap("5%") == MirrorConfig(source="", destination="").max_delete
