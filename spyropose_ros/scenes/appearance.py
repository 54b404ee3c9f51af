"""How composed crops look: every range that is drawn from, by name."""

from dataclasses import dataclass

Range = tuple[float, float]


@dataclass(frozen=True)
class Appearance:
    """Ranges of what `SceneSettings` and `CameraEffects` do not state.

    Attributes:
        lights: Largest number of lights.
        light_bias: Added to normal directions [3] in the camera frame: from above, from the camera.
        light_strength: All lights together.
        light_tint: Colour of a light, per channel.
        ambient: Light from everywhere.
        ambient_tint: Its colour, per channel.
        gloss_share: Share of glossy objects.
        gloss: Strength of highlights.
        shininess: Blinn-Phong exponent, drawn logarithmically.
        object_gain: Brightness of the object's own colours, per channel.
        part_share: Share of recoloured objects whose part has a colour of its own.
        backdrop_zoom: Share of a backdrop's height that stands behind a window.
        plain_backdrops: Number of plain backdrops.
        clutter: Largest number of things put between the backdrop and the object.
        clutter_nearness: Size of things behind the object, relative to things beside it.
        clutter_margin: Things may have their middle so far outside, in crop sides.
        occluder_nearness: Size of things before the object, relative to things beside it.
        occluder_spread: Standard deviation of their middles about a visible pixel, in units of
            the root of the number of visible pixels.
        occluders: Largest number of things before the object.
        occluder_tries: Places that are tried to put them.
        sprite_gain: Brightness of things.
        shadow_share: Share of crops with a shadow behind the object.
        shadow_shift: Standard deviation of its place, in units of the object's size.
        shadow_softness: Standard deviation of its blur, in the same units.
        shadow_strength: How much light it takes.
        field_cells: Bumps of uneven light along a window.
        field_strength: Logarithmic height of the bumps.
        edge_share: Share of uneven light with a shadow that has an edge.
        edge_strength: How much light that shadow takes.
        edge_softness: Width of the edge in units of the shadow field's height.
        blur_share: Share of blurred crops.
        blur_least: Smallest standard deviation of the blur, camera pixels.
        motion_share: Share of crops with motion blur.
        motion_least: Smallest length of the motion blur, camera pixels.
        downscale: Remaining resolution where it is lost.
        sharpen: Strength of sharpening.
        jpeg_quality: As libjpeg counts it.
    """

    lights: int = 3
    light_bias: tuple[float, float, float] = (0.0, -0.7, -0.7)
    light_strength: Range = (0.4, 1.3)
    light_tint: Range = (0.85, 1.0)
    ambient: Range = (0.25, 0.7)
    ambient_tint: Range = (0.9, 1.0)
    gloss_share: float = 0.6
    gloss: Range = (0.0, 0.8)
    shininess: Range = (5.0, 100.0)
    object_gain: Range = (0.85, 1.15)
    part_share: float = 0.25
    backdrop_zoom: Range = (0.5, 1.0)
    plain_backdrops: int = 200
    clutter: int = 2
    clutter_nearness: Range = (0.5, 1.1)
    clutter_margin: float = 0.15
    occluder_nearness: Range = (0.9, 1.5)
    occluder_spread: float = 0.15
    occluders: int = 2
    occluder_tries: int = 6
    sprite_gain: Range = (0.5, 1.1)
    shadow_share: float = 0.5
    shadow_shift: float = 0.15
    shadow_softness: Range = (0.03, 0.15)
    shadow_strength: Range = (0.2, 0.7)
    field_cells: Range = (2.0, 5.0)
    field_strength: Range = (0.05, 0.3)
    edge_share: float = 0.5
    edge_strength: Range = (0.2, 0.6)
    edge_softness: Range = (0.05, 0.3)
    blur_share: float = 0.6
    blur_least: float = 0.3
    motion_share: float = 0.15
    motion_least: float = 3.0
    downscale: Range = (0.45, 0.9)
    sharpen: Range = (0.3, 1.2)
    jpeg_quality: Range = (35.0, 95.0)
