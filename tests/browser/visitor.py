"""One person in front of a real Chromium: a page that remembers what was asked of the network and what went wrong."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect

# Without a sandbox, since tests may run as root. The others keep Chromium itself from calling home, which would look
# as if the page did; without a proxy, what leaves the machine is refused and seen.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    # A microphone that beeps once a second, and nobody who has to allow it.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)
PATIENCE = 180_000
"""Milliseconds until something that should appear is given up; nothing waits that long when all is well."""
expect.set_options(timeout=PATIENCE)
DESKTOP, PHONE = (1280, 900), (390, 844)


def chromium_path() -> str | None:
    """Debian's or the system's own browser; nothing is downloaded."""
    names = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


def launch(playwright: Playwright, path: str) -> Browser:
    return playwright.chromium.launch(executable_path=path, args=list(FLAGS))


@dataclass
class Crowd:
    """Profiles of a browser, used again: with what they have fetched and compiled, a page opens much faster."""

    browser: Browser
    idle: dict[object, list[BrowserContext]] = field(default_factory=dict)

    def profile(self, language: str, size: tuple[int, int]) -> BrowserContext:
        """One that nobody uses now; nothing is remembered in it that a page could ask for."""
        if waiting := self.idle.get((language, size)):
            return waiting.pop()
        width, height = size
        context = self.browser.new_context(
            locale=language,
            viewport={"width": width, "height": height},
            has_touch=size == PHONE,
            is_mobile=size == PHONE,
            reduced_motion="reduce",
            accept_downloads=True,
            permissions=["microphone"],
        )
        context.set_default_timeout(PATIENCE)
        return context

    def back(self, context: BrowserContext, language: str, size: tuple[int, int]) -> None:
        context.clear_cookies()
        self.idle.setdefault((language, size), []).append(context)


@dataclass
class Visitor:
    """A page in a profile of its own (nothing is shared with other visitors)."""

    page: Page
    url: str
    pictures: Path
    give_back: Callable[[], None]
    asked: list[str] = field(default_factory=list)
    """Addresses of all requests, also those that failed."""
    faults: list[str] = field(default_factory=list)
    """Uncaught exceptions of scripts, and answers of the server that refuse what the page itself asks."""

    @classmethod
    def arrive(
        cls,
        crowd: Crowd,
        url: str,
        pictures: Path,
        *,
        language: str = "en-US",
        dark: bool = False,
        size: tuple[int, int] = DESKTOP,
    ) -> Visitor:
        context = crowd.profile(language, size)
        visitor = cls(context.new_page(), url, pictures, lambda: crowd.back(context, language, size))
        visitor.lights(dark)
        visitor.page.on("request", lambda request: visitor.asked.append(request.url))
        visitor.page.on("response", visitor._answered)
        visitor.page.on("pageerror", lambda error: visitor.faults.append(f"script: {error}"))
        visitor.page.goto(url)
        return visitor

    def lights(self, dark: bool) -> None:
        """What the system of this person says: dark or light."""
        self.page.emulate_media(color_scheme="dark" if dark else "light", reduced_motion="reduce")

    def _answered(self, response: object) -> None:
        status, url = response.status, response.url  # type: ignore[attr-defined]
        early = status in (404, 409) and "/v1/videos/" in url  # of a video that is not there yet
        empty = status == 416  # a player asks for the bytes of a file that has none
        if status >= 400 and not early and not empty:
            self.faults.append(f"{status} from {url}")

    @property
    def strangers(self) -> list[str]:
        """Requests that left the host of the page."""
        own = urlsplit(self.url).netloc
        foreign = (
            a for a in self.asked if urlsplit(a).scheme not in ("data", "blob", "about", "chrome-error")
        )
        return [address for address in foreign if urlsplit(address).netloc != own]

    def picture(self, name: str, *, whole: bool = True) -> Path:
        """Keep a screenshot; ``whole`` shows what lies below the edge of the window too."""
        path = self.pictures / f"{re.sub(r'[^a-z0-9]+', '-', name.lower())}.png"
        self.page.screenshot(path=path, full_page=whole, animations="disabled")
        return path

    def leave(self) -> None:
        self.page.evaluate("localStorage.clear()")
        self.page.close()
        self.give_back()
