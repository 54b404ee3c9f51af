"""The viewer: a server on this machine that draws moments for the browsers that are connected."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import numpy as np

from spyropose_ros.core.errors import InputError
from spyropose_ros.core.plots.scene import (
    CameraNodes,
    ObjectNodes,
    image_depth,
    import_viser,
    look,
    quiet,
    up,
)
from spyropose_ros.viewer.moment import Moment, Moments, ObjectState
from spyropose_ros.viewer.panel import Panel

HOST, PORT = "127.0.0.1", 8080
_PERIOD = 0.05  # seconds between two pictures at least


class Viewer:
    """Shows the newest moment, or an earlier one, to all browsers that are connected.

    Without any, moments are kept and nothing is drawn.

    Args:
        host: address to listen on; 0.0.0.0 shows the images to the whole network.
        port: the next free one is taken where it is in use.
        say: logs a line.

    Attributes:
        url: for the browser.
        drawn: number of pictures so far.

    Raises:
        SpyroposeError: viser is not installed.
        InputError: the address is not one of this machine.
    """

    url: str
    drawn: int

    def __init__(
        self, host: str = HOST, port: int = PORT, say: Callable[[str], object] = print
    ) -> None:
        import_viser()
        import viser

        class Server(viser.ViserServer):
            def request_share_url(self, verbose: bool = True) -> None:
                """Refuse: a browser could open a tunnel to a server on the internet by it."""

        _check_address(host)
        self._say = say
        with quiet():
            self._server = Server(host, port, "Pose distributions", verbose=False)
        self.url = f"http://{'localhost' if host == '0.0.0.0' else host}:{self._server.get_port()}"
        self.drawn = 0
        self.history = Moments()
        self._wake = threading.Event()
        self._closed = False
        self._panel = Panel(self._server.gui, self.history, self._wake.set)
        self._objects: dict[str, ObjectNodes] = {}
        self._cameras: dict[str, CameraNodes] = {}
        self._aimed_by: int | None = None  # number of cameras
        self._server.on_client_connect(lambda _: self._wake.set())
        self._thread = threading.Thread(target=self._run, name="viewer", daemon=True)
        self._thread.start()

    @property
    def watched(self) -> bool:
        """Whether a browser is connected."""
        return bool(self._server.get_clients())

    def show(self, moment: Moment) -> None:
        """Show a moment from now on; it may be skipped if the next comes soon."""
        self.history.add(moment)
        self._wake.set()

    def close(self) -> None:
        """Disconnect the browsers and free the port."""
        self._closed = True
        self._wake.set()
        self._thread.join(5.0)
        with quiet():
            self._server.stop()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._closed:
                return
            start = time.monotonic()
            moment = self._panel.moment() if self.watched else None
            if moment is not None:
                try:
                    self._draw(moment)
                except Exception as error:  # whatever one moment has, the next is drawn
                    self._say(f"not drawn: {type(error).__name__}: {error}")
            time.sleep(max(0.0, start + _PERIOD - time.monotonic()))

    def _draw(self, moment: Moment) -> None:
        objects = self._panel.chosen(moment)
        clouds = [each.cloud for each in moment.objects]
        pose = next((view.pose for view in moment.cameras.values()), np.eye(4))
        with self._server.atomic():
            for name in self._objects.keys() - {each.name for each in objects}:
                self._objects[name].root.visible = False
            for each in objects:
                self._nodes(each).draw(each.cloud, self._panel.mass, up(pose))
            for name in self._cameras.keys() - moment.cameras.keys():
                self._cameras[name].root.visible = False
            for name, view in moment.cameras.items():
                if name not in self._cameras:
                    path = f"/cameras/{name or 'camera'}"
                    self._cameras[name] = CameraNodes(self._server.scene, path, view)
                self._cameras[name].draw(view, image_depth(view, clouds))
            if clouds and (self._aimed_by is None or len(moment.cameras) > self._aimed_by == 0):
                look(self._server, pose, clouds)
                self._aimed_by = len(moment.cameras)
        self._panel.describe(moment, objects)
        self.drawn += 1

    def _nodes(self, state: ObjectState) -> ObjectNodes:
        """Return the nodes of an object, which are made anew where more has become known."""
        nodes, cloud = self._objects.get(state.name), state.cloud
        same = nodes and nodes.mesh is cloud.mesh and nodes.features == cloud.features
        if nodes is None or not same:
            index = list(self._objects).index(state.name) if nodes else len(self._objects)
            path = f"/objects/{state.name.replace('/', '_')}"
            nodes = ObjectNodes(self._server.scene, path, index, state.cloud, state.name)
            self._objects[state.name] = nodes
        return nodes


def _check_address(host: str) -> None:
    try:
        with socket.socket() as probe:
            probe.bind((host, 0))
    except OSError as error:
        raise InputError(
            f"the viewer cannot listen on host {host!r} ({error}): give 127.0.0.1 for this machine "
            "alone, or 0.0.0.0 for all of its networks"
        ) from error
