"""The page in a real browser: nothing runs off a phone's edge, and dark is dark."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from html import escape
from pathlib import Path

import pytest
from PIL import Image

from shoal_lab.report import Report, write_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH")

# Chromium's own window is never narrower than 500 pixels; a frame may be as narrow as a phone.
MEASURE = """<!doctype html><title>waiting</title>
<iframe id="frame" style="border: 0; width: {width}px; height: 900px" srcdoc="{page}"></iframe>
<script>
const frame = document.getElementById("frame");
frame.onload = () => {{
  const root = frame.contentDocument.documentElement;
  const over = [...root.querySelectorAll("main *")].filter(element =>
    element.getBoundingClientRect().right > root.clientWidth + 1 && !element.closest(".scroll, pre, svg"));
  document.title = `room ${{root.clientWidth}}, needs ${{root.scrollWidth}}, ${{over.length}} over the edge`;
}};
</script>"""


def chromium(*arguments: str, profile: Path) -> str:
    """Run Chromium without a window and return what it printed."""
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
        f"--user-data-dir={profile}", *arguments,
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            output, _ = process.communicate(timeout=60)
        finally:
            # Its children may outlive it, above all when it hangs.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0
    return output.decode()


@pytest.mark.parametrize("steps", [("deep", "shallow", "guarded"), ("deep", "cached", "stateless-auth", "split")])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_runs_off_the_edge(
    made_report: Callable[..., Report], tmp_path: Path, steps: tuple[str, ...], width: int
) -> None:
    page, measure = tmp_path / "page.html", tmp_path / "measure.html"
    write_page(made_report(*steps), page)
    framed = MEASURE.format(width=width, page=escape(page.read_text(encoding="utf-8")))
    measure.write_text(framed, encoding="utf-8")

    dom = chromium("--dump-dom", "--window-size=1400,1000", measure.as_uri(), profile=tmp_path / "profile")

    (title, *_) = re.findall(r"<title>(.*?)</title>", dom, flags=re.DOTALL)
    assert title == f"room {width}, needs {width}, 0 over the edge"


@pytest.mark.parametrize(
    ("scheme", "background"), [("light", (246, 247, 249)), ("dark", (18, 22, 28))], ids=["light", "dark"]
)
def test_the_page_follows_the_readers_light(
    made_report: Callable[..., Report], tmp_path: Path, scheme: str, background: tuple[int, int, int]
) -> None:
    page, shot = tmp_path / "page.html", tmp_path / "shot.png"
    write_page(made_report("deep", "shallow", "guarded"), page)
    preferred = f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}"

    chromium(preferred, "--window-size=1280,1600", f"--screenshot={shot}", page.as_uri(), profile=tmp_path / "profile")

    with Image.open(shot) as image:
        pixels = image.convert("RGB")
        assert pixels.size == (1280, 1600)
        assert pixels.getpixel((4, 4)) == background
        # The chart is there: its red covers a part of the picture that no text could.
        missing = (229, 140, 128) if scheme == "light" else (163, 71, 61)
        colours = {colour: count for count, colour in pixels.getcolors(maxcolors=1 << 20) or []}
        assert colours.get(missing, 0) > 20_000
