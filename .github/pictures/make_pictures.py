"""Make the README's pictures anew from a real run of the demo: `python .github/pictures/make_pictures.py`.

The terminal picture is rich's own export; the page is photographed by the Chromium on this machine.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from alphapanda.commands.cli import demo_report
from alphapanda.commands.demo import demo

SECONDS = 50.0  # of the live demo
HERE = Path(__file__).parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--force-device-scale-factor=1", "--window-size=1180,1500"),
)
NORMAL = [
    (0, 0, 0),
    (232, 105, 105),
    (98, 195, 128),
    (220, 180, 90),
    (97, 160, 235),
    (190, 140, 220),
    (90, 190, 200),
]
BRIGHT = [(142, 148, 158), *NORMAL[1:]]
THEME = TerminalTheme((22, 25, 30), (224, 227, 232), [*NORMAL, (224, 227, 232)], [*BRIGHT, (255, 255, 255)])


def svg_of(console: Console, title: str) -> str:
    """What a recording console printed, as a picture that needs no font from the network."""
    svg = console.export_svg(title=title, theme=THEME)
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code", "DejaVu Sans Mono, Menlo, Consolas")


def main() -> int:
    console = Console(record=True, width=112, file=io.StringIO(), force_terminal=False)
    with tempfile.TemporaryDirectory() as folder:
        demo(console, Path(folder) / "demo", SECONDS, 60.0)
    (HERE / "demo-terminal.svg").write_text(svg_of(console, "make demo"), "utf-8")
    report = demo_report()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.stderr.write("no Chromium here: report.png stays as it was\n")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        page = report.to_html(Path(folder) / "demo.html")
        own = (f"--user-data-dir={folder}/profile", f"--screenshot={HERE / 'report.png'}", page.as_uri())
        subprocess.run([browser, *FLAGS, *own], check=True, capture_output=True, timeout=120)  # noqa: S603 - our own page
    return 0


if __name__ == "__main__":
    sys.exit(main())
