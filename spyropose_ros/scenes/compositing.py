"""Paint views: light, colour, background, clutter and camera, batched, on any device."""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spyropose_ros.scenes.appearance import HARSH, Appearance
from spyropose_ros.scenes.backdrops import HEIGHT, WIDTH, BackdropBank
from spyropose_ros.scenes.batch_effects import BatchEffects
from spyropose_ros.scenes.chance import Chance
from spyropose_ros.scenes.clutter import background
from spyropose_ros.scenes.colours import random_colours
from spyropose_ros.scenes.occlusion import Acceptable, SpriteTensors, Things, occlude, place
from spyropose_ros.scenes.sampler import ObjectModel, SceneSettings
from spyropose_ros.scenes.sprites import SpriteBank
from spyropose_ros.scenes.surface import object_points, vary_surface
from spyropose_ros.scenes.views import NORMAL_SCALE
from spyropose_ros.scenes.warp import filter_each, gaussian, power_, warp

_COARSE = 4  # crop pixels per pixel of what is soft anyway: shadows and uneven light
_BUMPS = 8  # side of the random fields of uneven light
_TOWARDS_CAMERA = (0.0, 0.0, -1.0)


class Painter(nn.Module):
    """Gives views an appearance, at the resolution of the crop.

    The same distributions as `SceneSampler`, in the order of the scene: backdrop, things, shadow,
    object, things in front, uneven light, camera.
    """

    _images: Tensor
    _pixel_sizes: Tensor
    _backdrops: Tensor

    def __init__(
        self, model: ObjectModel, settings: SceneSettings, resolution: int, padding: float
    ):
        """Make the images of other things (some seconds).

        Args:
            model: the object.
            settings: how scenes appearance.
            resolution: side of the crops, pixels.
            padding: side of the crops over the object's apparent diameter.
        """
        super().__init__()
        self.model = model
        self.settings = settings
        self.resolution = resolution
        self.padding = padding
        self.effects = BatchEffects(settings.effects, settings.appearance)
        sprites = SpriteBank(model.distractors, settings.sprites, np.random.default_rng(0))
        crowds = BackdropBank(sprites, settings.backdrops, 1.0, np.random.default_rng(1)).images
        rng = np.random.default_rng(2)
        plain = [_plain(sprites, settings, rng) for _ in range(settings.appearance.plain_backdrops)]
        images, sizes = SpriteTensors.of(sprites, resolution)
        self.register_buffer("_images", images, persistent=False)
        self.register_buffer("_pixel_sizes", sizes, persistent=False)
        backdrops = torch.from_numpy(np.stack(crowds + plain)).permute(0, 3, 1, 2).contiguous()
        self.register_buffer("_backdrops", backdrops, persistent=False)

    @property
    def sprites(self) -> SpriteTensors:
        """Images of other things."""
        return SpriteTensors(self._images, self._pixel_sizes)

    def occlude(
        self, view: dict[str, Tensor], acceptable: Acceptable, chance: Chance
    ) -> tuple[Things, Tensor]:
        """Put things in front of some objects; see `occlusion.occlude`.

        Args:
            view: batch of views, see `View`; "translation" is that of the centre.
            acceptable: which of the masks that are left of objects may be.
            chance: random numbers.

        Returns:
            The things, in pixels of the views' windows, and what stays visible, bool [B, S, S].
        """
        solid = view["depth"] > 0
        settings = self.settings
        return occlude(
            self.sprites,
            solid & view["inside"],
            settings.min_visible_fraction * solid.flatten(1).sum(1),
            view["K"][:, 0, 0] / view["translation"][:, 2],
            settings.occlusion_probability,
            settings.appearance,
            acceptable,
            chance,
        )

    def paint(
        self, view: dict[str, Tensor], occluders: Things, K_crop: Tensor, chance: Chance
    ) -> Tensor:
        """Compose crops.

        Args:
            view: batch of views.
            occluders: in pixels of the views' windows.
            K_crop: intrinsics of the crops, [B, 3, 3].
            chance: random numbers.

        Returns:
            [B, 3, R, R] RGB in [0, 1]; black outside the camera image.
        """
        settings = self.settings
        z = view["translation"][:, 2]
        focal = K_crop[:, :2, 0].norm(dim=1)  # crops may be turned
        to_window = (view["K"] @ torch.linalg.inv(K_crop))[:, :2]

        canvas = self._backdrop(chance)
        canvas = self._paste(canvas, self._clutter(focal / z, chance))
        painted = warp(self._paint_object(view, chance), to_window, self.resolution)
        colour, opacity = painted[:, :3], painted[:, 3:]
        behind = self._shadow(opacity, chance) * (1 - opacity)
        canvas = canvas.mul_(behind).add_(colour)
        homogeneous = F.pad(to_window, (0, 0, 0, 1))
        homogeneous[:, 2, 2] = 1
        matrix = occluders.matrix @ homogeneous.unsqueeze(1)
        canvas = self._paste(canvas, occluders._replace(matrix=matrix))
        if settings.uneven_light > 0:
            canvas.mul_(self._uneven_light(chance))
        apparent = self.model.diameter * settings.fx / z
        camera_focal = settings.fx * (settings.largest / apparent).clamp(max=1)
        canvas = self.effects(canvas, focal / camera_focal, chance)
        return self._blacken(canvas, K_crop)

    def _backdrop(self, chance: Chance) -> Tensor:
        """Return a part of an image behind every object, [B, 3, R, R]."""
        settings = self.settings
        share = self.padding / settings.window
        low, high = (zoom * share * HEIGHT for zoom in settings.appearance.backdrop_zoom)
        reach = min(math.ceil(high), HEIGHT)
        plain = settings.appearance.plain_backdrops
        crowded = chance.happens(settings.backdrop_share) & (settings.backdrops > 0)
        which = chance.uniform() * torch.where(crowded, settings.backdrops, plain)
        which = which.long() + torch.where(crowded, 0, settings.backdrops)
        corner = chance.uniform(shape=(2,)) * torch.tensor(
            (HEIGHT - reach + 1, WIDTH - reach + 1), device=which.device
        )
        corners = torch.cat((which.unsqueeze(1), corner.long()), 1).tolist()
        parts = torch.stack(
            [self._backdrops[i, :, y : y + reach, x : x + reach] for i, y, x in corners]
        )
        scale = chance.uniform(low, high) / self.resolution
        flips = torch.stack((chance.happens(0.5), chance.happens(0.25)), 1)
        linear = torch.diag_embed(scale.unsqueeze(1) * torch.where(flips, -1.0, 1.0))
        offset = (reach - 1) / 2 - linear.sum(2) * (self.resolution - 1) / 2
        matrix = torch.cat((linear, offset.unsqueeze(2)), 2)
        return warp(parts.float().div_(255), matrix, self.resolution, padding="border")

    def _clutter(self, focal_over_z: Tensor, chance: Chance) -> Things:
        """Place objects behind the object, in pixels of the crops."""
        appearance, most = self.settings.appearance, self.settings.appearance.clutter
        side = 1 + 2 * appearance.clutter_margin  # of where their middles lie, in crop sides
        centers = (chance.uniform(-0.5, 0.5, (most, 2)) * side + 0.5) * self.resolution
        density = focal_over_z.unsqueeze(1) * chance.uniform(*appearance.clutter_nearness, (most,))
        count = chance.integers(0, most)
        return place(self.sprites, centers, density, count, appearance.sprite_gain, chance)

    def _paste(self, canvas: Tensor, things: Things) -> Tensor:
        """Paste objects over the crops [B, 3, R, R], one after the other, in place."""
        for n in range(things.sprite.shape[1]):
            index = (things.counts > n).nonzero()[:, 0]
            if not len(index):
                break
            images = self._images.index_select(0, things.sprite[index, n])
            images = warp(images, things.matrix[index, n], self.resolution)
            colour, opacity = images[:, :3], images[:, 3:]
            gain = things.gain[index, n].view(-1, 1, 1, 1)
            behind = canvas.index_select(0, index).mul_(1 - opacity)
            canvas.index_copy_(0, index, behind.addcmul_(colour, gain))
        return canvas

    def _paint_object(self, view: dict[str, Tensor], chance: Chance) -> Tensor:
        """Paint the lit object's colour (times opacity) and opacity in its window, [B, 4, S, S]."""
        appearance = self.settings.appearance
        own, part = random_colours(chance), random_colours(chance)
        gain = chance.uniform(*appearance.object_gain, (3,))
        if self.model.recolour:
            differs = chance.happens(appearance.part_share).view(-1, 1, 1, 1)
            differs = differs & view["part"].unsqueeze(1)
            albedo = torch.where(differs, part[..., None, None], own[..., None, None])
        else:
            albedo = view["albedo"].float() * (gain / 255)[..., None, None]
        solid = (view["depth"] > 0).unsqueeze(1)
        if appearance.surface.share > 0:
            place = view["depth"], view["K"], view["rotation"], view["translation"]
            points = object_points(*place) / self.model.diameter
            albedo = vary_surface(albedo, points, solid, appearance.surface, chance)
        normals = view["normals"] / NORMAL_SCALE
        image = shade(albedo, normals, appearance, chance)
        if appearance.harsh > 0:
            harsh = chance.happens(appearance.harsh).view(-1, 1, 1, 1)
            image = torch.where(harsh, shade(albedo, normals, HARSH, chance), image)
        return torch.cat((image.clamp_(0, 1) * solid, solid.float()), 1)

    def _shadow(self, opacity: Tensor, chance: Chance) -> Tensor:
        """Return the light that objects [B, 1, R, R] leave on what is behind them, [B, 1, R, R]."""
        appearance = self.settings.appearance
        strength = chance.uniform(*appearance.shadow_strength)
        strength = strength * chance.happens(appearance.shadow_share)
        small = F.avg_pool2d(opacity, _COARSE, ceil_mode=True)
        size = small.flatten(1).sum(1).sqrt()  # of the object, coarse pixels
        spread = chance.uniform(*appearance.shadow_softness) * size + 0.3
        kernel = gaussian(spread.square().view(-1, 1, 1) * torch.eye(2, device=size.device), 6)
        small = filter_each(small, kernel, "constant")
        shift = chance.normal((2,)) * appearance.shadow_shift * size.unsqueeze(1)
        linear = torch.eye(2, device=size.device).expand(len(size), 2, 2) / _COARSE
        offset = 0.5 / _COARSE - 0.5 - shift
        matrix = torch.cat((linear, offset.unsqueeze(2)), 2)
        return 1 - strength.view(-1, 1, 1, 1) * warp(small, matrix, self.resolution)

    def _uneven_light(self, chance: Chance) -> Tensor:
        """Draw light and shadow on everything, a factor [B, 1, R, R]; 1 for some crops."""
        appearance = self.settings.appearance
        uneven = chance.happens(self.settings.uneven_light)
        strength = chance.uniform(*appearance.field_strength) * uneven
        light = torch.exp(self._field(chance) * strength.view(-1, 1, 1, 1))
        fields = torch.cat((light, self._field(chance)), 1)
        light, edge = F.interpolate(fields, (self.resolution,) * 2, mode="bilinear").split(1, 1)
        edged = chance.happens(appearance.edge_share) & uneven
        depth = chance.uniform(*appearance.edge_strength) * edged
        softness = chance.uniform(*appearance.edge_softness).view(-1, 1, 1, 1)
        shadow = ((edge - 0.5) / softness + 0.5).clamp_(0, 1)
        return light * (1 - depth.view(-1, 1, 1, 1) * shadow)

    def _field(self, chance: Chance) -> Tensor:
        """Draw smooth random bumps, about standard normal and coarse, [B, 1, r, r]."""
        size = self.resolution // _COARSE
        bumps = chance.normal((1, _BUMPS, _BUMPS))
        # A window has so many bumps; the crop shows a part of it.
        cells = chance.uniform(*self.settings.appearance.field_cells)
        scale = cells * self.padding / self.settings.window / size
        start = chance.uniform(0.5, _BUMPS / 2 - 0.5, (2,))
        linear = scale.view(-1, 1, 1) * torch.eye(2, device=scale.device)
        matrix = torch.cat((linear, start.unsqueeze(2)), 2)
        return warp(bumps, matrix, size, "bicubic", "border")

    def _blacken(self, canvas: Tensor, K_crop: Tensor) -> Tensor:
        """Blacken crops [B, 3, R, R] where they lie outside the camera image, in place."""
        settings, last = self.settings, self.resolution - 1
        K = torch.from_numpy(settings.K).to(K_crop)
        to_camera = (K @ torch.linalg.inv(K_crop))[:, :2]  # [B, 2, 3]
        size = torch.tensor((settings.width, settings.height), device=K_crop.device)
        corner = torch.tensor([[0, 0, 1], [last, 0, 1], [0, last, 1], [last, last, 1]])
        corner = to_camera @ corner.to(to_camera).T  # [B, 2, 4]
        outside = (corner < 0) | (corner > size.unsqueeze(1) - 1)
        index = outside.flatten(1).any(1).nonzero()[:, 0]
        pixel = torch.arange(self.resolution, device=K_crop.device, dtype=K_crop.dtype)
        along, down, start = to_camera[index].unflatten(2, (3, 1, 1)).unbind(2)  # [n, 2, 1, 1]
        position = along * pixel + down * pixel.unsqueeze(1) + start  # [n, 2, R, R]
        rest = torch.minimum(position + 1, size.view(2, 1, 1) - position)
        inside = rest.clamp_(0, 1).prod(1, keepdim=True)  # soft over one pixel of the camera
        return canvas.index_copy_(0, index, canvas[index] * inside)


def _plain(sprites: SpriteBank, settings: SceneSettings, rng: np.random.Generator) -> np.ndarray:
    """Return a plain backdrop with things, uint8 [HEIGHT, WIDTH, 3]."""
    image = background(rng, HEIGHT, WIDTH)
    focal_over_z = settings.fx / rng.uniform(*settings.distance)
    sprites.scatter(image, focal_over_z, int(rng.integers(0, 2 * settings.clutter + 1)), rng)
    return image


def shade(albedo: Tensor, normals: Tensor, appearance: Appearance, chance: Chance) -> Tensor:
    """Apply Lambert and Blinn-Phong shading in random light.

    Args:
        albedo: [B, 3, S, S] RGB in [0, 1].
        normals: [B, 3, S, S] unit normals in the camera frame, towards the camera.
        appearance: ranges.
        chance: random numbers.

    Returns:
        [B, 3, S, S] RGB, not clipped.
    """
    device = normals.device
    lights = (appearance.lights,)
    directions = chance.normal((*lights, 3)) + torch.tensor(appearance.light_bias, device=device)
    directions = F.normalize(directions, dim=2)
    most = appearance.lights
    on = torch.arange(most, device=device) < chance.integers(1, most).unsqueeze(1)
    weight = -torch.log(chance.uniform(1e-6, 1.0, lights)) * on  # normalised: evenly spread
    weight = weight / weight.sum(1, keepdim=True)
    strength = weight * chance.uniform(*appearance.light_strength, (1,))
    tint = chance.uniform(*appearance.light_tint, (*lights, 3))
    colours = strength.unsqueeze(2) * tint  # [B, L, 3]
    ambient = chance.uniform(*appearance.ambient, (1,))
    ambient = ambient * chance.uniform(*appearance.ambient_tint, (3,))
    gloss = chance.uniform(*appearance.gloss) * chance.happens(appearance.gloss_share)
    low, high = map(math.log, appearance.shininess)
    shininess = chance.uniform(low, high).exp()

    half = F.normalize(directions + torch.tensor(_TOWARDS_CAMERA, device=device), dim=2)
    cosines = (torch.cat((directions, half), 1) @ normals.flatten(2)).clamp_(min=0)  # [B, 2 L, N]
    lambert, mirror = cosines.split(appearance.lights, 1)
    light = torch.baddbmm(ambient.unsqueeze(2), colours.mT, lambert)
    shine = power_(mirror.contiguous(), shininess.view(-1, 1, 1))
    image = albedo.flatten(2) * light
    image = torch.baddbmm(image, colours.mT * gloss.view(-1, 1, 1), shine)
    return image.unflatten(2, normals.shape[2:])
