"""Appearance of composed crops: every range that is drawn from, by name."""

from dataclasses import dataclass, field

Range = tuple[float, float]


@dataclass(frozen=True)
class Surface:
    """Ranges of random surfaces; see `spyropose_ros.scenes.surface`.

    Attributes:
        share: of the objects that have one.
        contrast: of the object's own colours about their mean, drawn logarithmically.
        gain: brightness, drawn logarithmically.
        tint: spread of the gain between the channels, of its logarithm.
        saturation: distance from grey, relative.
        inversion: share of inverted colours.
        gamma: spread of the exponent's logarithm.
        patterns: largest number of patterns.
        pattern_share: share of those that are painted.
        spots: share of patterns about a point; the others are across a direction.
        aligned: share of directions along the object's axes.
        frequency: of patterns, per diameter, drawn logarithmically.
        bent: share of patterns that are not straight.
        bend: how far they are bent, diameters.
        level: of the wave, from where on it is painted.
        sharpness: of its edges, drawn logarithmically.
        opacity: of the paint.
        plain_paint: share of paint of one colour; the other makes what is there brighter or darker.
        drift: logarithmic height of smooth brightness.
        drift_frequency: of that, per diameter.
    """

    share: float = 0.0
    contrast: Range = (0.3, 4.0)
    gain: Range = (0.5, 3.0)
    tint: float = 0.2
    saturation: Range = (0.0, 1.8)
    inversion: float = 0.05
    gamma: float = 0.25
    patterns: int = 3
    pattern_share: float = 0.5
    spots: float = 0.5
    aligned: float = 0.5
    frequency: Range = (0.4, 8.0)
    bent: float = 0.5
    bend: Range = (0.0, 0.25)
    level: Range = (-0.4, 0.95)
    sharpness: Range = (3.0, 60.0)
    opacity: Range = (0.2, 1.0)
    plain_paint: float = 0.5
    drift: Range = (0.0, 0.3)
    drift_frequency: Range = (0.2, 1.5)


@dataclass(frozen=True)
class Appearance:
    """Ranges of what `SceneSettings` and `CameraEffects` do not state.

    Attributes:
        lights: largest number of lights.
        light_bias: added to normal directions [3] in the camera frame: from above, from the camera.
        light_strength: all lights together.
        light_tint: colour of a light, per channel.
        ambient: light from everywhere.
        ambient_tint: its colour, per channel.
        gloss_share: share of glossy objects.
        gloss: strength of highlights.
        shininess: Blinn-Phong exponent, drawn logarithmically.
        object_gain: brightness of the object's own colours, per channel.
        part_share: share of recoloured objects whose part has a colour of its own.
        backdrop_zoom: share of a backdrop's height that stands behind a window.
        plain_backdrops: number of plain backdrops.
        clutter: largest number of things put between the backdrop and the object.
        clutter_nearness: size of things behind the object, relative to things beside it.
        clutter_margin: things may have their middle so far outside, in crop sides.
        occluder_nearness: size of things before the object, relative to things beside it.
        occluder_spread: standard deviation of their middles about a visible pixel, in units of
            the root of the number of visible pixels.
        occluders: largest number of things before the object.
        occluder_tries: places that are tried to put them.
        sprite_gain: brightness of things.
        shadow_share: share of crops with a shadow behind the object.
        shadow_shift: standard deviation of its place, in units of the object's size.
        shadow_softness: standard deviation of its blur, in the same units.
        shadow_strength: how much light it takes.
        field_cells: bumps of uneven light along a window.
        field_strength: logarithmic height of the bumps.
        edge_share: share of uneven light with a shadow that has an edge.
        edge_strength: how much light that shadow takes.
        edge_softness: width of the edge in units of the shadow field's height.
        blur_share: share of blurred crops.
        blur_least: smallest standard deviation of the blur, camera pixels.
        motion_share: share of crops with motion blur.
        motion_least: smallest length of the motion blur, camera pixels.
        downscale: remaining resolution where it is lost.
        sharpen: strength of sharpening.
        jpeg_quality: as libjpeg counts it.
        surface: random surfaces.
        harsh: share of the objects in the light of `HARSH`.
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
    surface: Surface = field(default_factory=Surface)
    harsh: float = 0.0


HARSH = Appearance(
    lights=4,
    light_bias=(0.0, -0.3, -0.5),
    light_strength=(0.3, 3.0),
    light_tint=(0.4, 1.0),
    ambient=(0.05, 0.6),
    ambient_tint=(0.7, 1.0),
    gloss_share=0.8,
    gloss=(0.0, 1.5),
    shininess=(3.0, 400.0),
)
"""Several coloured lights on what is dull or shines like metal."""
