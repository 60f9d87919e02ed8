"""The page of a daemon that runs for real, in Chromium: what it shows and what its buttons do there."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from testbed.process import free_ports
from tests.acceptance.test_page import VIOLATIONS, browser
from tests.place import Place, equal

__all__ = ["browser"]

pytestmark = pytest.mark.real

EVIL = "<img src=x onerror=window.pwned=1>"
KIB = 1 << 10


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.end()


async def visit(browser: Browser, port: int, fragment: str = "") -> Page:
    page = await browser.new_page()
    page.set_default_timeout(20_000)
    await page.add_init_script(VIOLATIONS)
    await page.goto(f"http://127.0.0.1:{port}/{fragment}")
    await expect(page.locator("#link-text")).to_have_text("live", timeout=20_000)
    return page


async def until(place: Place, what: Any, mirror: str = "m") -> dict[str, Any]:
    return await asyncio.to_thread(place.service.until, what, 30, mirror)


async def test_a_mirror_is_watched_and_steered(place: Place, browser: Browser) -> None:
    [port] = free_ports(1)
    place.fill(150, 64 * KIB)
    place.fill(1, 4096 * KIB, name=EVIL)
    place.start(place.mirror(bandwidth="500KiB/s", concurrency=2), daemon=f'listen = "127.0.0.1:{port}"')
    page = await visit(browser, port, "#m")
    mirror = page.get_by_label("Mirror m")
    await expect(mirror.locator(".state")).to_have_text("copying")
    await expect(mirror.locator(".flying tbody tr").first).to_be_visible()
    await expect(mirror.locator(".flying")).to_contain_text("<img src=x")
    await expect(mirror.locator(".figures")).to_contain_text(re.compile(r"\d KiB/s"))
    await expect(mirror.locator(".chart svg")).to_have_attribute("aria-label", re.compile("peak"), timeout=30_000)

    await page.get_by_role("button", name="Pause m").click()
    await expect(mirror.locator(".state")).to_have_text("paused")
    assert (await until(place, lambda status: status["state"] == "paused"))["files"]["pending"] > 0
    await page.get_by_role("button", name="Resume m").click()
    await expect(mirror.locator(".state")).to_have_text("copying")
    assert (await until(place, lambda status: status["state"] == "copying"))["bandwidth"] == 500 * KIB
    place.ask("limit", "m", "--bandwidth", "none")
    await until(place, lambda status: equal(status) and status["files"]["done"] == 151)
    await expect(mirror.locator(".share")).to_have_text("100 %")
    await expect(mirror.locator(".slowest")).to_contain_text(EVIL)
    await expect(mirror.locator(".scans")).to_contain_text("first")
    await expect(mirror.locator(".scans")).to_contain_text("interrupted")
    assert place.is_equal()
    assert await page.evaluate("[window.pwned, window.violations.length]") == [None, 0]


async def test_failed_files_are_tried_again_by_the_button(place: Place, browser: Browser) -> None:
    [port] = free_ports(1)
    place.fill(2, 1000)
    place.fill(1, 1000, name=EVIL)
    in_the_way = place.destination / f"{EVIL}000"
    (in_the_way / "x").mkdir(parents=True)
    table = place.mirror(interval="1h", full_scan_interval="6h")
    place.start(table, daemon=f'listen = "127.0.0.1:{port}"')
    page = await visit(browser, port, "#m")
    mirror = page.get_by_label("Mirror m")
    await expect(mirror.locator(".errors")).to_contain_text(EVIL)
    await until(place, lambda status: status["failed"] == 1 and status["state"] == "watching")
    (in_the_way / "x").rmdir()
    in_the_way.rmdir()
    await page.get_by_role("button", name="Retry m").click()
    await until(place, lambda status: equal(status) and status["files"]["done"] == 3)
    await expect(page.get_by_role("button", name="Retry m")).to_be_hidden()
    place.fill(1, 1000, name="later")
    await page.get_by_role("button", name="Scan m").click()
    await until(place, lambda status: equal(status) and status["files"]["done"] == 4)
    assert place.is_equal()
    assert await page.evaluate("[window.pwned, window.violations.length]") == [None, 0]
