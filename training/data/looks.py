"""How rendered images may differ from plain ones, so that what learns from them expects it."""

from dataclasses import dataclass, replace

from spyropose_ros.scenes.sampler import SceneSettings


@dataclass(frozen=True)
class Looks:
    """Surfaces, light and calibration of renderings.

    Attributes:
        painted: share of the objects with a random surface.
        harsh: share of the objects in harsh light.
        miscalibration: of crops, standard deviation of the errors of
            `training.data.crops.miscalibrated`.
    """

    painted: float = 0.0
    harsh: float = 0.0
    miscalibration: float = 0.0

    def of(self, scenes: SceneSettings) -> SceneSettings:
        """Return scenes with such surfaces and light."""
        appearance = scenes.appearance
        surface = replace(appearance.surface, share=self.painted)
        return replace(scenes, appearance=replace(appearance, surface=surface, harsh=self.harsh))
