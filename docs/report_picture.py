"""The README's picture of the report: `python -m docs.report_picture demo/report.html` draws docs/pictures/report.png.

It is the page's top, as Chromium shows it 1,300 pixels wide in the light colours, up to the answers.
"""

import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from tests.browser import find

PICTURE = Path(__file__).parent / "pictures" / "report.png"
WIDTH, COLOURS = 1300, 64


def draw(report: Path) -> None:
    """Raises playwright's Error where no Chromium is found; `python -m tests.browser` installs one."""
    PICTURE.parent.mkdir(exist_ok=True)
    program = find()
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=program) as browser:
        page = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme="light")
        page.goto(report.resolve().as_uri())
        last = page.locator(".answers").last.bounding_box()
        top = {"x": 0, "y": 0, "width": WIDTH, "height": last["y"] + last["height"] + 20}
        page.screenshot(path=PICTURE, full_page=True, clip=top)
    Image.open(PICTURE).convert("RGB").quantize(COLOURS).save(PICTURE, optimize=True)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
