"""What the daemon says of itself, in Prometheus' text format.

The client library is imported with the first scrape: it costs 40 ms, and not every daemon is scraped. A registry of
its own keeps the library's process metrics out. No label has values that a source could multiply: no path, no message.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, get_args

from asynccopy import metrics
from asynccopy.control.messages import DaemonStatus, ErrorClass, MirrorStatus, State
from asynccopy.metrics import Family, Timing

if TYPE_CHECKING:
    from prometheus_client import Metric

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Samples = Iterable[tuple[tuple[str, ...], float]]
"""Label values in the family's order, and the value"""


def render(status: DaemonStatus, errors: Mapping[str, Sequence[ErrorClass]] | None = None) -> bytes:
    """All families of ``metrics.FAMILIES``. ``errors``: the failed files of each mirror, by its name."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(status, errors or {}))
    return generate_latest(registry)


class _Collector:
    """What the library asks for metrics."""

    def __init__(self, status: DaemonStatus, errors: Mapping[str, Sequence[ErrorClass]]) -> None:
        self._status = status
        self._errors = errors

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        numbers = dict(_of_daemon(self._status)) | dict(_of_mirrors(self._status.mirrors, self._errors))
        timings = dict(_timings(self._status.mirrors))
        for family in metrics.FAMILIES:
            if family.kind == "histogram":
                yield _histogram(family, timings[family])
            else:
                yield _plain(family, numbers[family])


def _of_daemon(status: DaemonStatus) -> Iterator[tuple[Family, Samples]]:
    yield metrics.BUILD_INFO, [((status.version,), 1)]
    yield metrics.START_TIME, [((), status.started / 1000)]
    yield metrics.DRAINING, [((), status.state == "draining")]
    yield metrics.LOOP_LAG, [((), status.loop_lag)]
    yield metrics.RSS, [((), status.rss)]


def _of_mirrors(
    mirrors: Sequence[MirrorStatus], errors: Mapping[str, Sequence[ErrorClass]]
) -> Iterator[tuple[Family, Samples]]:
    yield metrics.STATE, [((each.name, state), each.state == state) for each in mirrors for state in get_args(State)]
    yield metrics.FILES, [((each.name, state), getattr(each.files, state)) for each in mirrors for state in _BY_STATE]
    yield metrics.BYTES, [((each.name, state), getattr(each.bytes, state)) for each in mirrors for state in _BY_STATE]
    yield (
        metrics.FAILED_FILES,
        [((each.name, failed.error), failed.count) for each in mirrors for failed in errors.get(each.name, ())],
    )
    yield metrics.OPEN_FILES, [((each.name,), each.open_files) for each in mirrors]
    yield metrics.COPIED_FILES, [((each.name,), each.copied_files) for each in mirrors]
    yield metrics.COPIED_BYTES, [((each.name,), each.copied_bytes) for each in mirrors]
    yield metrics.RETRIES, [((each.name,), each.retries) for each in mirrors]
    yield metrics.DELETED_FILES, [((each.name,), each.deleted_files) for each in mirrors]
    yield metrics.DELETIONS, [((each.name,), each.deletions.count) for each in mirrors]
    yield metrics.DELETIONS_HELD, [((each.name,), each.deletions.held != "") for each in mirrors]
    yield metrics.IN_FLIGHT, [((each.name,), each.in_flight) for each in mirrors]
    yield metrics.CONCURRENCY, [((each.name,), each.concurrency) for each in mirrors]
    yield metrics.BANDWIDTH, [((each.name,), each.bandwidth) for each in mirrors if each.bandwidth is not None]
    yield metrics.LAG, [((each.name,), each.lag_seconds) for each in mirrors]
    yield metrics.LISTING, [((each.name,), each.listing) for each in mirrors]
    watched = [each for each in mirrors if each.watch != "off"]  # where nothing is looked for, no look is overdue
    yield metrics.LAST_SCAN, [((each.name,), each.last_scan / 1000) for each in watched if each.last_scan]
    full = [each for each in watched if each.last_full_scan]
    yield metrics.LAST_FULL_SCAN, [((each.name,), each.last_full_scan / 1000) for each in full]


_BY_STATE: Final = ("done", "pending", "failed")


def _timings(mirrors: Sequence[MirrorStatus]) -> Iterator[tuple[Family, list[tuple[tuple[str, ...], Timing]]]]:
    yield metrics.NAMENODE_SECONDS, [((), metrics.NAMENODE)]
    yield metrics.STORE_SECONDS, [((), metrics.STORE)]
    yield metrics.COMMIT_SECONDS, [((), metrics.COMMIT)]
    names = {each.name for each in mirrors}  # a mirror that was taken out of the configuration says no more
    yield metrics.SCAN_SECONDS, [(labels, timing) for labels, timing in metrics.SCAN if labels[0] in names]


def _plain(family: Family, samples: Samples) -> Metric:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    shape = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = shape(family.name, family.help, labels=family.labels)
    for labels, value in samples:
        metric.add_metric(labels, value)
    return metric


def _histogram(family: Family, samples: Sequence[tuple[tuple[str, ...], Timing]]) -> Metric:
    from prometheus_client.core import HistogramMetricFamily
    from prometheus_client.utils import floatToGoString

    metric = HistogramMetricFamily(family.name, family.help, labels=family.labels)
    for labels, timing in samples:
        bounds = [*map(floatToGoString, timing.bounds), "+Inf"]
        metric.add_metric(labels, list(zip(bounds, timing.cumulative(), strict=True)), timing.seconds)
    return metric
