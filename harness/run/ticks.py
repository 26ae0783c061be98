"""How far long work is, said at a rate that a log bears, on a terminal or not."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from harness.run.job import Say

EVERY = 10.0
"""Seconds between two lines about one thing, while it is young."""
SHARE = 0.1
"""Later lines are as far apart as this share of the time that it has taken."""
SILENCE = 30.0
"""Seconds without a word after which a verb says that it is still at work."""


class Ticks:
    """Says how much of one thing is done, and how long the rest will take.

    Args:
        say: Told a line.
        thing: What is being done.
        units: What is counted.
    """

    def __init__(self, say: Say, thing: str, units: str) -> None:
        self._say, self._thing, self._units = say, thing, units
        self._began = self._last = time.monotonic()

    def __call__(self, done: int, of: int) -> None:
        """Say how much is done, unless that was said just now, or all is done."""
        now = time.monotonic()
        if not done:
            self._say(f"{self._thing}: {of} {self._units}")
            return
        spent = now - self._began
        if done >= of or now - self._last < max(EVERY, SHARE * spent):
            return
        self._last = now
        left = told(spent / done * (of - done))
        self._say(f"{self._thing}: {done} of {of} {self._units}, about {left} left")


def told(seconds: float) -> str:
    """A length of time in words, in seconds below two minutes."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


@contextmanager
def pulse(say: Say, silence: float | None = None) -> Iterator[Say]:
    """Say what is being done, and after a long silence that it still is.

    Args:
        say: Told a line; from a second thread too.
        silence: Seconds; None for `SILENCE`.

    Yields:
        What is to be told in place of `say`.
    """
    heart = _Heart(say, SILENCE if silence is None else silence)
    thread = threading.Thread(target=heart.beat, daemon=True)
    thread.start()
    try:
        yield heart.tell
    finally:
        heart.stop()
        thread.join()


class _Heart:
    """The last words, and the thread that repeats them."""

    def __init__(self, say: Say, silence: float) -> None:
        self._say, self._silence = say, silence
        self._news = threading.Event()
        self._last, self._since, self._over = "", time.monotonic(), False

    def tell(self, text: str) -> None:
        self._last, self._since = text, time.monotonic()
        self._news.set()
        self._say(text)

    def stop(self) -> None:
        self._over = True
        self._news.set()

    def beat(self) -> None:
        while not self._over:
            if self._news.wait(self._silence):
                self._news.clear()
            elif self._last:
                self._say(f"still {self._last}, for {told(time.monotonic() - self._since)}")
