"""The page in a real Chromium: what a person sees and presses, and that no name can do anything.

``ASYNCCOPY_SCREENSHOT=1`` writes docs/images/page.png anew.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from playwright.async_api import Browser, Page, async_playwright, expect

from asynccopy.control.server import ControlServer
from asynccopy.errors import UsageError
from tests.steered import EVIL, MIB, SteeredDaemon, copying, failing, watching

pytestmark = pytest.mark.real

IMAGES = Path(__file__).parents[2] / "docs" / "images"
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
VIOLATIONS = (
    "window.violations = []; addEventListener('securitypolicyviolation', (e) => violations.push(e.violatedDirective));"
)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, headless=True, args=OPTIONS)
        yield browser
        await browser.close()


class Site:
    """A daemon with its page, and everything that the browser did or complained about."""

    def __init__(self, daemon: SteeredDaemon, folder: Path, browser: Browser, token: str | None = None) -> None:
        self.daemon = daemon
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._browser = browser
        self._folder = folder
        self._token = token
        self._port = 0
        self._server: ControlServer | None = None

    async def start(self) -> None:
        listen = f"127.0.0.1:{self._port}"
        self._server = ControlServer(self.daemon, path=self._folder / "s", listen=listen, token=self._token)
        await self._server.__aenter__()
        assert self._server.port is not None
        self._port = self._server.port

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.__aexit__(None, None, None)
            self._server = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/"

    async def visit(self, fragment: str = "", *, live: bool = True, **options: Any) -> Page:
        context = await self._browser.new_context(**{"viewport": {"width": 1400, "height": 1000}} | options)
        context.set_default_timeout(15_000)
        await context.add_init_script(VIOLATIONS)
        page = await context.new_page()
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on(
            "console", lambda line: self.complaints.append(line.text) if line.type in ("error", "warning") else None
        )
        await page.goto(self.url + fragment)
        if live:
            await expect(page.locator("#link-text")).to_have_text("live", timeout=15_000)
        return page

    async def is_clean(self, page: Page, *, failed_requests: bool = False) -> None:
        """Nothing ran, nothing was loaded from elsewhere, nothing was complained about."""
        assert await page.evaluate("window.pwned") is None
        assert await page.evaluate("window.violations") == []
        assert await page.locator("script:not([src='/app.js'])").count() == 0
        assert await page.locator("img:not([src='/icon.svg'])").count() == 0
        assert [url for url in self.requests if not url.startswith(self.url)] == []
        # Chromium itself reports an answer of 401 or 409, or no answer, as an error of the page
        assert [text for text in self.complaints if not (failed_requests and "Failed to load" in text)] == []


@pytest.fixture
async def site(tmp_path: Path, browser: Browser) -> AsyncIterator[Site]:
    site = Site(SteeredDaemon(copying("sales"), watching("orders"), failing("logs")), tmp_path, browser)
    await site.start()
    yield site
    await site.stop()


async def test_every_mirror_is_shown_with_its_state_progress_and_figures(site: Site) -> None:
    page = await site.visit()
    cards = page.locator(".mirror")
    await expect(cards).to_have_count(3)
    sales, orders, logs = (page.get_by_label(f"Mirror {name}") for name in ("sales", "orders", "logs"))
    await expect(sales.locator(".state")).to_have_text("copying")
    await expect(sales.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "62")
    await expect(sales.locator(".figures")).to_contain_text("912 MiB/s")
    await expect(sales.locator(".figures")).to_contain_text("1 h 30 min")
    await expect(sales.locator(".figures")).to_contain_text("1 d 1 h")
    await expect(orders.locator(".share")).to_have_text("100 %")
    await expect(logs.locator(".reason")).to_contain_text("no valid ticket")
    await expect(logs.locator(".share")).to_have_text("99.6 %")
    await expect(page.locator("#summary")).to_contain_text("912 MiB/s")
    assert await page.title() == "(1) asynccopy"
    await site.is_clean(page)


async def test_an_opened_mirror_shows_everything_and_only_it_is_asked_for(site: Site) -> None:
    page = await site.visit("#sales")
    sales = page.get_by_label("Mirror sales")
    await expect(sales.locator(".flying tbody tr")).to_have_count(9)
    await expect(sales.locator(".slowest")).to_contain_text("clickstream-full.orc")
    await expect(sales.locator(".scans tbody tr")).to_have_count(4)
    await expect(sales.locator(".chart svg")).to_have_attribute("aria-label", re.compile("peak"))
    await page.get_by_role("button", name="orders", exact=True).click()
    orders = page.get_by_label("Mirror orders")
    await expect(orders.locator(".facts")).to_contain_text("08:00-20:00 = 200MiB/s")
    await expect(sales.locator(".detail")).to_have_count(0)
    site.requests.clear()
    await asyncio.sleep(4.5)
    asked = {url.removeprefix(site.url) for url in site.requests}
    assert asked == {"v1/status", "v1/mirrors/orders"}
    assert 3 <= len(site.requests) <= 8
    await site.is_clean(page)


async def test_names_and_messages_with_markup_are_text(site: Site) -> None:
    site.daemon.mirrors["logs"] = replace(site.daemon.mirrors["logs"], reason=EVIL, source=f"webhdfs://{EVIL}")
    page = await site.visit("#logs")
    logs = page.get_by_label("Mirror logs")
    await expect(logs.locator(".reason")).to_have_text(EVIL)
    await expect(logs.locator(".errors .path").first).to_contain_text(f"dir/{EVIL}")
    await expect(logs.locator(".errors")).to_contain_text(f"read <b>{EVIL}</b>")
    await expect(logs.locator(".errors")).to_contain_text("grant the user access to the path")
    await expect(logs.locator(".slowest")).to_contain_text(EVIL)
    await expect(logs.locator(".scans")).to_contain_text(f"{EVIL}: nn1 is in safe mode")
    assert await page.locator(".mirror img, .mirror b").count() == 0
    await site.is_clean(page)


async def test_the_buttons_steer_the_daemon_and_say_so(site: Site) -> None:
    page = await site.visit()
    sales = page.get_by_label("Mirror sales")
    await page.get_by_role("button", name="Pause sales").click()
    await expect(sales.locator(".state")).to_have_text("paused")
    await expect(page.locator("#toasts")).to_contain_text("sales paused.")
    assert [mirror.state for mirror in site.daemon.mirrors.values()] == ["paused", "watching", "failed"]
    await expect(page.get_by_role("button", name="Resume sales")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(sales.locator(".state")).to_have_text("copying")
    await page.get_by_role("button", name="Retry logs").click()
    await expect(page.get_by_role("button", name="Retry logs")).to_be_hidden()
    assert site.daemon.failed["logs"] == []
    before = site.daemon.mirrors["orders"].next_scan
    await page.get_by_role("button", name="Scan orders").click()
    await expect(page.locator("#toasts")).to_contain_text("orders is scanned now.")
    assert site.daemon.mirrors["orders"].next_scan != before
    await site.is_clean(page)


async def test_a_refused_button_says_why(site: Site) -> None:
    site.daemon.refusal = UsageError(f"not now {EVIL}", hint="wait for <b>it</b>")
    page = await site.visit()
    await page.get_by_role("button", name="Pause sales").click()
    await expect(page.locator(".toast")).to_have_text(f"sales: not now {EVIL} (wait for <b>it</b>)")
    await expect(page.get_by_role("button", name="Pause sales")).to_be_enabled()
    await site.is_clean(page, failed_requests=True)


async def test_the_keyboard_reaches_everything(site: Site) -> None:
    page = await site.visit()
    title = page.get_by_role("button", name="orders", exact=True)
    await title.focus()
    await page.keyboard.press("Enter")
    await expect(title).to_have_attribute("aria-expanded", "true")
    assert page.url.endswith("#orders")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("button", name="Pause orders")).to_be_focused()
    await asyncio.sleep(2.5)  # a poll must not take the focus away
    await expect(page.get_by_role("button", name="Pause orders")).to_be_focused()
    named = "(e) => e.ariaLabel || e.textContent || e.labels?.length"
    assert await page.evaluate(f"[...document.querySelectorAll('button, input')].every({named})")
    await site.is_clean(page)


async def test_a_daemon_that_goes_away_is_said_so_and_found_again(site: Site) -> None:
    page = await site.visit()
    await site.stop()
    await expect(page.locator("#away")).to_contain_text("The daemon does not answer.", timeout=15_000)
    await expect(page.locator("#link-text")).to_have_text("no answer")
    await expect(page.locator(".mirror")).to_have_count(3)
    site.daemon.mirrors["sales"] = watching("sales")
    await site.start()
    await page.get_by_role("button", name="Try now").click()
    await expect(page.locator("#away")).to_be_hidden()
    await expect(page.get_by_label("Mirror sales").locator(".state")).to_have_text("watching")
    await site.is_clean(page, failed_requests=True)


async def test_a_journal_that_cannot_be_read_takes_nothing_away(site: Site) -> None:
    page = await site.visit("#logs")
    logs = page.get_by_label("Mirror logs")
    await expect(logs.locator(".errors")).to_be_visible()
    site.daemon.broken = True
    await expect(logs.locator(".detail")).to_contain_text("No details now: the disk under the journal is full")
    await expect(logs.locator(".errors")).to_be_visible()
    await expect(page.locator("#link-text")).to_have_text("live")
    site.daemon.broken = False
    await expect(logs.locator(".detail")).not_to_contain_text("No details now", use_inner_text=True)
    await site.is_clean(page, failed_requests=True)


async def test_the_page_asks_for_the_token_and_keeps_it_for_the_tab(tmp_path: Path, browser: Browser) -> None:
    site = Site(SteeredDaemon(), tmp_path, browser, token="open sesame")
    await site.start()
    try:
        page = await site.visit(live=False)
        await page.get_by_label("Token", exact=True).press("Escape")
        await page.get_by_label("Token", exact=True).fill("wrong")
        await page.keyboard.press("Enter")
        await expect(page.locator("#token-error")).to_have_text("The daemon did not accept this token.")
        await page.get_by_label("Token", exact=True).fill("open sesame")
        await page.get_by_role("button", name="Continue").click()
        await expect(page.locator(".mirror")).to_have_count(2)
        await page.get_by_role("button", name="Pause sales").click()
        await expect(page.get_by_label("Mirror sales").locator(".state")).to_have_text("paused")
        await page.reload()
        await expect(page.locator(".mirror")).to_have_count(2)
        assert await page.evaluate("localStorage.length") == 0
        assert all("sesame" not in url for url in site.requests)
        await site.is_clean(page, failed_requests=True)
    finally:
        await site.stop()


async def test_mirrors_come_and_go_with_a_reload(site: Site) -> None:
    page = await site.visit("#logs")
    del site.daemon.mirrors["logs"]
    site.daemon.mirrors["new"] = watching("new")
    await expect(page.get_by_label("Mirror new")).to_be_visible()
    await expect(page.get_by_label("Mirror logs")).to_have_count(0)
    await site.is_clean(page)


async def test_thirty_mirrors_are_found_by_name_and_by_state(tmp_path: Path, browser: Browser) -> None:
    kinds = (watching, copying, failing)
    site = Site(SteeredDaemon(*(kinds[at % 3](f"table{at:02d}") for at in range(30))), tmp_path, browser)
    await site.start()
    try:
        page = await site.visit()
        await expect(page.locator(".mirror:visible")).to_have_count(30)
        await page.get_by_placeholder("Find a mirror").fill("TABLE1")
        await expect(page.locator(".mirror:visible")).to_have_count(10)
        await page.get_by_role("button", name="10 failed").click()
        await expect(page.locator(".mirror:visible")).to_have_count(3)
        await page.get_by_placeholder("Find a mirror").fill("nothing")
        await expect(page.locator("#empty")).to_have_text("No mirror fits this choice.")
        await site.is_clean(page)
    finally:
        await site.stop()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_phone_shows_it_without_scrolling_sideways(site: Site, scheme: str) -> None:
    page = await site.visit(
        "#logs", viewport={"width": 360, "height": 740}, color_scheme=scheme, has_touch=True, is_mobile=True
    )
    await expect(page.get_by_label("Mirror logs").locator(".errors")).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(244, 246, 248)" if scheme == "light" else "rgb(13, 17, 23)")
    await site.is_clean(page)


async def test_one_mirror_is_opened_at_once_and_none_is_said_so(tmp_path: Path, browser: Browser) -> None:
    site = Site(SteeredDaemon(copying("sales")), tmp_path, browser)
    await site.start()
    try:
        page = await site.visit()
        await expect(page.locator(".flying tbody tr")).to_have_count(9)
        site.daemon.mirrors.clear()
        await expect(page.locator("#empty")).to_have_text("No mirror is configured.")
        await site.is_clean(page)
    finally:
        await site.stop()


async def test_the_pictures_for_the_documents(site: Site, tmp_path: Path) -> None:
    wanted = os.environ.get("ASYNCCOPY_SCREENSHOT") == "1"
    folder = IMAGES if wanted else tmp_path
    page = await site.visit("#sales")
    await expect(page.locator(".chart svg")).to_be_visible()
    for step in (0, 40, 70, 30, -60, -20, 40, 90, 50, 20) if wanted else ():
        site.daemon.mirrors["sales"] = replace(site.daemon.mirrors["sales"], bytes_per_second=(870.0 + step) * MIB)
        await asyncio.sleep(2)
    await page.screenshot(path=folder / "page.png", full_page=True)
    await page.get_by_role("button", name="logs", exact=True).click()
    failed = page.get_by_label("Mirror logs")
    await expect(failed.locator(".errors")).to_be_visible()
    await failed.screenshot(path=folder / "page-failed.png")
    for picture in ("page.png", "page-failed.png"):
        assert (folder / picture).stat().st_size > 20_000
    await site.is_clean(page)
