"""The panel beside the scene: what is chosen, and what is said in figures and curves."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from spyropose_ros.core.one_line import printable
from spyropose_ros.core.plots import rotation_plot
from spyropose_ros.viewer.moment import Moment, Moments, ObjectState

if TYPE_CHECKING:
    import viser

ALL = "all"
_PLOT = (480, 320)
_MASS = 0.9
_HEIGHT = 140  # of a curve, pixels


class Panel:
    """Controls and figures. All that look at one viewer share them.

    Args:
        gui: gets them.
        history: what can be stepped through.
        changed: called after every change by a user.
    """

    def __init__(self, gui: viser.GuiApi, history: Moments, changed: Callable[[], None]) -> None:
        self._gui, self._history, self._changed = gui, history, changed
        gui.configure_theme(show_share_button=False, control_width="large")
        self._object: Any = gui.add_dropdown("Object", (ALL,), initial_value=ALL)
        self._mass: Any = gui.add_slider(
            "Mass shown", 0.05, 1.0, 0.05, _MASS, hint="The most probable poses that hold so much"
        )
        self._pause: Any = gui.add_checkbox("Pause", initial_value=False)
        self._number: Any = gui.add_slider("Moment", 0, 1, 1, 0, hint="Moving it pauses")
        self._step = gui.add_button_group("Step", ("back", "forward"))
        self._status = gui.add_markdown("waiting for distributions")
        white = np.full((*_PLOT[::-1], 3), 255, np.uint8)
        self._rotations = gui.add_image(white, label="Rotations")
        self._entropy = self._curves("entropy in nats, over seconds", ("entropy",))
        self._times = self._curves(
            "latency (blue), inference (orange) in ms", ("latency", "inference")
        )
        self._object.on_update(lambda _: changed())
        self._mass.on_update(lambda _: changed())
        self._pause.on_update(lambda _: changed())
        self._number.on_update(self._on_number)
        self._step.on_click(lambda event: self.step(-1 if event.target.value == "back" else 1))

    @property
    def mass(self) -> float:
        """Probability that the poses that are shown hold."""
        return float(self._mass.value)

    def step(self, count: int) -> None:
        """Pause, and go on or back by so many moments."""
        first, last = self._history.span()
        self._pause.value = True
        self._number.value = min(max(int(self._number.value) + count, first), last)
        self._changed()

    def moment(self) -> Moment | None:
        """Return what is to be shown: the newest, or where the user has stepped to."""
        first, last = self._history.span()
        if last < 0:
            return None
        self._number.min, self._number.max = first, max(last, first + 1)
        if not self._pause.value:
            self._number.value = last
        return self._history.get(int(self._number.value))

    def chosen(self, moment: Moment) -> list[ObjectState]:
        """Return the objects that are to be shown."""
        names = (ALL, *(each.name for each in moment.objects))
        known = self._object.options
        if new := tuple(name for name in names if name not in known):
            self._object.options = (*known, *new)
        choice = self._object.value
        return [each for each in moment.objects if choice in (ALL, each.name)]

    def describe(self, moment: Moment, objects: list[ObjectState]) -> None:
        """Show the figures of some objects; plot and entropy are those of the first.

        Args:
            moment: that is shown.
            objects: chosen among those of the moment.
        """
        self._status.content = _text(moment, objects, self.mass)
        moments = self._history.all()
        since = [each.time - moments[-1].time for each in moments]
        self._rotations.visible = bool(objects)
        values = [math.nan] * len(moments)
        if objects:
            first = objects[0]
            self._rotations.image = rotation_plot(cast(Any, first.cloud), _PLOT)
            self._rotations.label = f"Rotations of {first.name}"
            values = [
                next((o.entropy for o in each.objects if o.name == first.name), math.nan)
                for each in moments
            ]
        _show(self._entropy, since, values)
        _show(
            self._times,
            since,
            [1000 * each.latency for each in moments],
            [1000 * each.inference for each in moments],
        )

    def _curves(self, title: str, names: tuple[str, ...]) -> viser.GuiUplotHandle:
        from viser.uplot import Legend, Scale, Series

        colours = ("#1c7ed6", "#f08c00")
        nothing = np.zeros(0)
        return self._gui.add_uplot(
            (nothing, *(nothing for _ in names)),
            (
                Series(label="s"),
                *(
                    Series(label=name, stroke=colour, width=2)
                    for name, colour in zip(names, colours, strict=False)
                ),
            ),
            title=title,
            scales={"x": Scale(time=False)},
            legend=Legend(show=False),
            height=_HEIGHT,
            visible=False,
        )

    def _on_number(self, event: viser.GuiEvent) -> None:
        if event.client is not None:  # else it follows the newest
            self._pause.value = True
            self._changed()


def _show(plot: viser.GuiUplotHandle, *rows: list[float]) -> None:
    """Draw curves where all values are known; nothing where none is."""
    table = np.array(rows, dtype=float)
    table = table[:, np.isfinite(table).all(0)]
    if table.shape[1] > 1:
        plot.data = tuple(table)  # first: what becomes visible is drawn with what it has
    plot.visible = table.shape[1] > 1


def _text(moment: Moment, objects: list[ObjectState], mass: float) -> str:
    lines = ["| object | modes | there | entropy |", "|---|---|---|---|"]
    for each in objects:
        masses = ", ".join(f"{mode[2]:.0%}" for mode in each.cloud.clusters[:4]) or "none"
        there = "?" if math.isnan(each.presence) else f"{each.presence:.0%}"
        name = printable(each.name).replace("|", "/")
        lines.append(f"| {name} | {masses} | {there} | {each.entropy:.1f} |")
    if not objects:
        lines = ["no object"]
    for each in objects:
        part = each.cloud.holding(mass)
        lines += ["", f"{len(part)} poses of {part.weights.sum():.0%} of the probability"]
    times = (("latency", moment.latency), ("inference", moment.inference))
    known = [f"{name} {1000 * value:.0f} ms" for name, value in times if math.isfinite(value)]
    return "\n".join([*lines, "", ", ".join(known)])
