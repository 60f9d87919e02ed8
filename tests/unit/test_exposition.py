from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from asynccopy import metrics
from asynccopy.control.exposition import CONTENT_TYPE, render
from asynccopy.control.messages import Counts, DaemonStatus, Deletions, ErrorClass, MirrorStatus
from asynccopy.metrics import FAMILIES, Family, Timing, Timings

DOCS = Path(__file__).parents[2] / "docs"
BY_NAME = {family.name: family for family in FAMILIES}


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests have timed in this process does not count."""
    for name in ("NAMENODE", "STORE", "COMMIT"):
        monkeypatch.setattr(metrics, name, Timing(getattr(metrics, name).bounds))
    monkeypatch.setattr(metrics, "SCAN", Timings((1.0, 60.0)))


def mirror(name: str = "sales", **fields: Any) -> MirrorStatus:
    return MirrorStatus(**({"name": name, "source": "a", "destination": "b", "state": "copying"} | fields))


def daemon(*mirrors: MirrorStatus, **fields: Any) -> DaemonStatus:
    known: dict[str, Any] = {"version": "1.2", "pid": 1, "started": 1_700_000_000_500, "config": "c"}
    known |= {"state": "running", "loop_lag": 0.25, "rss": 5 << 20, "mirrors": mirrors}
    return DaemonStatus(**(known | fields))


def parsed(text: bytes) -> dict[str, Metric]:
    """The families by the name that they are declared with: the parser takes ``_total`` off a counter's."""
    found = list(text_string_to_metric_families(text.decode()))
    return {f"{metric.name}_total" if metric.type == "counter" else metric.name: metric for metric in found}


def value(found: dict[str, Metric], name: str, **labels: str) -> float:
    """Of the one sample with this name and these labels."""
    base = re.sub("_(bucket|count|sum)$", "", name)
    (sample,) = [each for each in found[base].samples if each.name == name and each.labels == labels]
    return sample.value


def test_exactly_the_declared_families() -> None:
    metrics.SCAN.of("sales", "full").observe(3)
    found = parsed(
        render(
            daemon(mirror(bandwidth=5.0, last_scan=5, last_full_scan=5)),
            {"sales": [ErrorClass("NotFound", 1, "", "", "")]},
        )
    )
    assert {(name, metric.type, metric.documentation) for name, metric in found.items()} == {
        (family.name, family.kind, family.help) for family in FAMILIES
    }
    for name, metric in found.items():
        assert metric.samples, name
        for sample in metric.samples:
            assert set(sample.labels) - {"le"} == set(BY_NAME[name].labels), name


def test_the_families_are_there_without_any_mirror() -> None:
    assert set(parsed(render(daemon()))) == set(BY_NAME)


def test_the_numbers_of_the_daemon() -> None:
    found = parsed(render(daemon(state="draining")))
    assert value(found, "asynccopy_build_info", version="1.2") == 1
    assert value(found, "asynccopy_start_time_seconds") == 1_700_000_000.5
    assert value(found, "asynccopy_draining") == 1
    assert value(found, "asynccopy_event_loop_lag_seconds") == 0.25
    assert value(found, "asynccopy_resident_memory_bytes") == 5 << 20
    assert value(parsed(render(daemon())), "asynccopy_draining") == 0


def test_the_numbers_of_a_mirror() -> None:
    status = mirror(
        state="waiting",
        files=Counts(total=100, done=70, pending=20, failed=10),
        bytes=Counts(total=1000, done=700, pending=200, failed=100),
        open_files=3,
        lag_seconds=12.5,
        last_scan=1_700_000_000_250,
        last_full_scan=1_600_000_000_500,
        listing=True,
        bandwidth=1e6,
        concurrency=64,
        in_flight=31,
        copied_files=11,
        copied_bytes=12,
        retries=13,
        deleted_files=14,
        deletions=Deletions(count=15, share=0.9, held="more than 5%"),
    )
    found = parsed(render(daemon(status, mirror("other")), {"sales": [ErrorClass("NotFound", 10, "", "/a", "b")]}))

    def of(name: str, **labels: str) -> float:
        return value(found, f"asynccopy_{name}", mirror="sales", **labels)

    states = {
        state: of("mirror_state", state=state) for state in ("copying", "watching", "paused", "waiting", "failed")
    }
    assert states == {"copying": 0, "watching": 0, "paused": 0, "waiting": 1, "failed": 0}
    assert [of("files", state=state) for state in ("done", "pending", "failed")] == [70, 20, 10]
    assert [of("bytes", state=state) for state in ("done", "pending", "failed")] == [700, 200, 100]
    assert of("failed_files", error="NotFound") == 10
    assert of("open_files") == 3
    assert of("lag_seconds") == 12.5
    assert of("last_scan_timestamp_seconds") == 1_700_000_000.25
    assert of("last_full_scan_timestamp_seconds") == 1_600_000_000.5
    assert of("listing") == 1
    assert of("bandwidth_limit_bytes_per_second") == 1e6
    assert [of("concurrency_limit_ranges"), of("in_flight_ranges")] == [64, 31]
    assert [of("copied_files_total"), of("copied_bytes_total"), of("retries_total")] == [11, 12, 13]
    assert [of("deleted_files_total"), of("deletions_pending"), of("deletions_held")] == [14, 15, 1]
    others = [
        sample for metric in found.values() for sample in metric.samples if sample.labels.get("mirror") == "other"
    ]
    named = {sample.name for sample in others}
    assert named.isdisjoint({"asynccopy_bandwidth_limit_bytes_per_second", "asynccopy_last_scan_timestamp_seconds"})
    assert value(found, "asynccopy_deletions_held", mirror="other") == 0


def test_no_look_is_overdue_where_nothing_is_watched() -> None:
    scanned = {"last_scan": 5, "last_full_scan": 5}
    found = parsed(render(daemon(mirror("on", **scanned), mirror("off", watch="off", **scanned))))
    for name in ("last_scan", "last_full_scan"):
        samples = found[f"asynccopy_{name}_timestamp_seconds"].samples
        assert [sample.labels["mirror"] for sample in samples] == ["on"], name


def test_timings() -> None:
    metrics.STORE.observe(0.001)
    metrics.STORE.observe(0.02)
    metrics.STORE.observe(1000)
    metrics.SCAN.of("sales", "quick").observe(3)
    metrics.SCAN.of("removed", "full").observe(3)
    found = parsed(render(daemon(mirror())))
    name = "asynccopy_store_request_seconds"
    assert value(found, f"{name}_bucket", le="0.001") == 1
    assert value(found, f"{name}_bucket", le="0.025") == 2
    assert value(found, f"{name}_bucket", le="120.0") == 2
    assert value(found, f"{name}_bucket", le="+Inf") == value(found, f"{name}_count") == 3
    assert value(found, f"{name}_sum") == 1000.021
    assert value(found, "asynccopy_scan_duration_seconds_bucket", mirror="sales", kind="quick", le="1.0") == 0
    assert value(found, "asynccopy_scan_duration_seconds_count", mirror="sales", kind="quick") == 1
    assert "removed" not in render(daemon(mirror())).decode()


def test_labels_are_escaped_and_no_text_of_a_file_comes_out() -> None:
    name = 'a"b\\c\nd{}'
    status = mirror(name, reason="hunter2", deletions=Deletions(held="hunter2"))
    text = render(daemon(status), {name: [ErrorClass("NotFound", 2, "hunter2", "hunter2", "hunter2")]})
    assert value(parsed(text), "asynccopy_failed_files", mirror=name, error="NotFound") == 2
    assert b"hunter2" not in text


def test_the_content_type_is_the_librarys() -> None:
    from prometheus_client.exposition import CONTENT_TYPE_LATEST

    kind, version, charset = CONTENT_TYPE_LATEST.split("; ")
    assert CONTENT_TYPE.split("; ") == [kind, "version=0.0.4", charset] or version == "version=0.0.4"


# --- what the dashboard and the alerts name -----------------------------------------------------------------------


def _dashboard() -> Any:
    return json.loads((DOCS / "grafana" / "asynccopy.json").read_text(encoding="utf-8"))


def _panels() -> Iterator[Any]:
    for panel in _dashboard()["panels"]:
        yield panel
        yield from panel.get("panels", ())


def _alerts() -> dict[str, str]:
    """Each alert's lines by its name. YAML is read here only as this file writes it, with `|` for what is long."""
    text = (DOCS / "alerts.yml").read_text(encoding="utf-8")
    blocks = re.split(r"^ +- alert: (\w+)\n", text, flags=re.MULTILINE)
    return dict(zip(blocks[1::2], blocks[2::2], strict=True))


def _expression(alert: str) -> str:
    found = re.search(r"^( +)expr: (?:\|\n((?:\1 .*\n)+)|(.+)\n)", alert, re.MULTILINE)
    assert found is not None
    return found[2] or found[3]


def _expressions() -> Iterator[tuple[str, str]]:
    for panel in _panels():
        for target in panel.get("targets", ()):
            yield f"panel {panel['title']}", target["expr"]
    for variable in _dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            yield f"variable {variable['name']}", variable["query"]["query"]
    for name, alert in _alerts().items():
        yield f"alert {name}", _expression(alert)


def _family(name: str) -> Family:
    """The family of a series. Raises KeyError."""
    base = re.sub("_(bucket|count|sum)$", "", name)
    return BY_NAME[base] if base in BY_NAME and BY_NAME[base].kind == "histogram" else BY_NAME[name]


EXPRESSIONS = list(_expressions())
ADDED = {"job", "instance"}
"""What Prometheus itself adds to each series"""


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=[where for where, _ in EXPRESSIONS])
def test_every_metric_that_is_named_exists_with_its_labels(where: str, expression: str) -> None:
    named = re.findall(r"\b(asynccopy_\w+)(?:\{([^}]*)\})?", expression)
    assert named or expression.startswith("up{"), "it names no metric of ours"
    carried = set(ADDED)
    for name, matchers in named:
        family = _family(name)
        bucket = {"le"} if name.endswith("_bucket") else set()
        carried |= set(family.labels) | bucket
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) <= set(family.labels) | bucket | ADDED
        if family.kind == "counter" or bucket or name.endswith(("_sum", "_count")):
            assert re.search(rf"\b(rate|increase)\({name}\b", expression), f"{name} only grows: rate() it"
    for labels in re.findall(r"\b(?:by|on|ignoring)\s*\(([^)]*)\)", expression):
        assert {label.strip() for label in labels.split(",")} <= carried


def test_the_dashboard_shows_every_family() -> None:
    shown = {_family(name) for _, text in EXPRESSIONS for name in re.findall(r"\basynccopy_\w+", text)}
    assert {family.name for family in FAMILIES} - {family.name for family in shown} == set()


def test_the_dashboard_can_be_imported_anywhere() -> None:
    board = _dashboard()
    assert board["id"] is None
    assert [each["name"] for each in board["templating"]["list"] if each["type"] == "datasource"] == ["datasource"]
    ids = [panel["id"] for panel in _panels()]
    assert len(ids) == len(set(ids))
    for panel in _panels():
        sources = [panel.get("datasource")] if panel["type"] != "row" else []
        sources += [target.get("datasource") for target in panel.get("targets", ())]
        for source in sources:
            assert source == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
        assert panel["type"] == "row" or panel["description"], panel["title"]


def test_panels_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in _dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


@pytest.mark.parametrize(("name", "alert"), _alerts().items(), ids=_alerts())
def test_every_alert_says_what_is_wrong_and_what_to_do(name: str, alert: str) -> None:
    assert re.search(r"^ +severity: (critical|warning)$", alert, re.MULTILINE)
    for word in ("summary", "description", "todo"):
        assert re.search(rf"^ +{word}: \S", alert, re.MULTILINE), word
    used = set(re.findall(r"\$labels\.(\w+)", alert))
    named = [_family(each) for each in re.findall(r"\basynccopy_\w+", _expression(alert))]
    assert used <= ADDED | {label for family in named for label in family.labels}
    page = (DOCS / "operations.md").read_text(encoding="utf-8")
    assert f"\n| {name} |" in page, "operations.md tells what to do when it fires"


@pytest.mark.parametrize("alert", _alerts().values(), ids=_alerts())
def test_no_alert_fires_for_a_single_scrape(alert: str) -> None:
    """A look back over longer than ``for`` stays true for so long after one sample."""
    lasting = re.search(r"^ +for: (\d+)m$", alert, re.MULTILINE)
    for window in re.findall(r"_over_time\([^)]*\[(\d+)m\]\)", _expression(alert)):
        assert lasting is not None
        assert int(window) < int(lasting[1])
