"""README's pictures of our pages: redrawn when somebody asks for it, and true as long as the page says the same."""

from __future__ import annotations

import json
import os
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import Page


def check_picture(path: Path, page: Page, words: list[str]) -> None:
    """Fail unless the picture is of `page`, which shows `words`; with REDRAW in the environment draw it anew before.

    The picture has its words with it: fonts differ from machine to machine.
    """
    if os.environ.get("REDRAW"):
        page.screenshot(path=path)
        with Image.open(path) as picture:
            told = PngInfo()
            told.add_itxt("words", json.dumps(words))
            picture.save(path, pnginfo=told, optimize=True)
    size = page.viewport_size
    assert size is not None
    with Image.open(path) as picture:
        assert picture.size == (size["width"], size["height"])
        assert json.loads(picture.info["words"]) == words, "draw it anew: REDRAW=1 pytest tests/browser"
