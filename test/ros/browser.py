"""A headless Chromium, steered by its DevTools protocol."""

import base64
import io
import json
import os
import shutil
import subprocess
import time
import urllib.request
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--no-first-run", "--hide-scrollbars"),
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--remote-debugging-port=0"),
)


def find() -> str | None:
    """Path of a browser; None where there is none."""
    return next(filter(None, map(shutil.which, (os.environ.get("BROWSER", ""), *NAMES))), None)


class Browser:
    """A page in a browser of its own, closed at the end of the with statement."""

    def __init__(self, program: str, url: str, folder: Path, size=(1280, 800), timeout=60.0):
        from websockets.sync.client import connect  # comes with viser

        self._process = subprocess.Popen(
            [
                *(program, *FLAGS, f"--window-size={size[0]},{size[1]}"),
                *(f"--user-data-dir={folder}", url),
            ],
            stdout=subprocess.DEVNULL,
            stderr=(folder / "browser.log").open("wb"),
        )
        self._ids = count(1)
        deadline = time.monotonic() + timeout
        port = folder / "DevToolsActivePort"
        while not port.is_file() or not port.read_text().strip():
            assert self._process.poll() is None, (folder / "browser.log").read_text()
            assert time.monotonic() < deadline, "the browser did not start"
            time.sleep(0.05)
        address = f"http://127.0.0.1:{port.read_text().splitlines()[0]}/json"
        pages = []
        while not pages:
            assert time.monotonic() < deadline, "the browser opened no page"
            with urllib.request.urlopen(address) as answer:
                pages = [page for page in json.load(answer) if page["type"] == "page"]
        self._socket = connect(pages[0]["webSocketDebuggerUrl"], max_size=None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()
        self._process.terminate()
        self._process.wait(20)

    def call(self, method: str, **params):
        """Send a command and return its result."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            answer = json.loads(self._socket.recv(timeout=240))
            if answer.get("id") == number:
                return answer["result"]

    def evaluate(self, expression: str):
        """Return the value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return result["result"].get("value")

    def screenshot(self) -> np.ndarray:
        """RGB uint8 [H, W, 3]."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        return np.array(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
