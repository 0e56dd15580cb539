"""A browser cannot send a key by itself, so a person shows it once, and a cookie stands for it afterwards."""

from __future__ import annotations

import html
import secrets
from http.cookies import CookieError, SimpleCookie
from threading import Lock
from time import monotonic

COOKIE = "infinite_talk_session"
LIFETIME = 7 * 86_400.0
"""Seconds that a session lasts."""
MOST = 1000
"""Sessions at the same time; the oldest one goes."""


class Sessions:
    """The sessions of this process, by unguessable tokens. They end with it."""

    def __init__(self) -> None:
        self._ends: dict[str, float] = {}
        self._lock = Lock()

    def begin(self) -> str:
        """A new session's token."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            now = monotonic()
            self._ends = {known: end for known, end in self._ends.items() if end > now}
            while len(self._ends) >= MOST:
                self._ends.pop(next(iter(self._ends)))
            self._ends[token] = now + LIFETIME
        return token

    def knows(self, cookies: str) -> bool:
        """Whether a Cookie header names a session. Tokens are random, so looking them up tells nothing."""
        try:
            token = SimpleCookie(cookies)[COOKIE].value
        except (CookieError, KeyError):
            return False
        with self._lock:
            return self._ends.get(token, 0.0) > monotonic()


def login_page(message: str = "") -> str:
    """A form for the key; needs nothing from elsewhere."""
    note = f"<p role='alert'>{html.escape(message)}</p>" if message else ""
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Infinite Talk</title>
<style>:root{{color-scheme:light dark;font-family:system-ui,sans-serif}}body{{display:grid;place-items:center;
min-height:90vh;margin:1rem}}form{{display:grid;gap:.75rem;width:min(22rem,100%)}}input,button{{font:inherit;
padding:.6rem}}</style>
<form method="post" action="/login"><h1>Infinite Talk</h1>{note}
<label for="key">API key · 密钥</label>
<input id="key" name="key" type="password" autocomplete="current-password" required autofocus>
<button>Open · 打开</button></form></html>
"""
