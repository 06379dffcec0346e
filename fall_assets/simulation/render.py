"""Pictures: the room by ray casting (once per camera), people as shaded limbs, light and sensor.

What belongs here: from geometry to frames, uint8 BGR as OpenCV has it. What does not: who moves how
(`motions.py`), files (`hospital.py`). OpenCV is imported inside the functions that draw.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fall_assets.simulation.body import JOINT, Array, Body
from fall_assets.simulation.camera import NEAREST_M, Camera
from fall_assets.simulation.room import Box, Room

Picture = NDArray[np.uint8]
Colour = tuple[float, float, float]

_SUBPIXEL: Final = 4
_ARC: Final = np.linspace(0.0, 1.0, 7)
_DOOR_HALF_M: Final = 0.55
_DOOR_HIGH_M: Final = 2.1
_CORRIDOR_M: Final = 50.0
_OPAQUE: Final = (255.0,)

_MATERIALS: Final[Mapping[str, Colour]] = {
    "bed_frame": (196, 194, 190), "sheet": (236, 234, 226), "pillow": (250, 249, 246),
    "wood": (116, 150, 182), "seat": (128, 104, 66), "metal": (150, 150, 152),
    "window": (252, 248, 240), "curtain": (176, 196, 178),
}  # fmt: skip

_PAINTS: Final[tuple[Colour, ...]] = ((120, 190, 216), (190, 168, 128), (142, 186, 150))
"""Colours of repainted walls: ochre, blue, green."""


@dataclass(frozen=True)
class Clothes:
    """Colours (BGR, 0 to 255) of one person; `gown` covers the thighs and leaves shanks bare."""

    skin: Colour
    hair: Colour
    top: Colour
    bottom: Colour
    shoes: Colour
    gown: bool
    long_sleeves: bool

    @classmethod
    def draw(cls, rng: np.random.Generator, *, staff: bool = False) -> Clothes:
        """A patient's gown or pyjamas, or staff's scrubs."""
        skins: tuple[Colour, ...] = (
            (150, 182, 226), (128, 160, 208), (90, 122, 170), (58, 80, 120),
        )  # fmt: skip
        hairs: tuple[Colour, ...] = ((42, 46, 54), (40, 62, 92), (170, 170, 172), (206, 206, 206))
        skin = skins[rng.integers(len(skins))]
        hair = hairs[rng.integers(2 if staff else len(hairs))]
        if staff:
            scrubs: tuple[Colour, ...] = ((142, 116, 32), (128, 132, 40), (150, 90, 56))
            top = scrubs[rng.integers(len(scrubs))]
            return cls(skin, hair, top, top, (235, 235, 235), gown=False, long_sleeves=False)
        tops: tuple[Colour, ...] = (
            (188, 160, 118), (150, 110, 90), (92, 92, 168), (112, 140, 96), (70, 66, 62),
        )  # fmt: skip
        bottoms: tuple[Colour, ...] = ((96, 76, 62), (60, 58, 56), (142, 116, 92), (84, 96, 112))
        return cls(
            skin,
            hair,
            tops[rng.integers(len(tops))],
            bottoms[rng.integers(len(bottoms))],
            (66, 62, 72),
            gown=bool(rng.random() < 0.35),
            long_sleeves=bool(rng.random() < 0.6),
        )


_WHEEL_M: Final = 0.30
_TRACK_M: Final = 0.27
_RIM: Final = np.linspace(0.0, 2 * np.pi, 24, endpoint=False)


@dataclass(frozen=True)
class Sensor:
    """What the camera does to light.

    `exposure` scales luma (1 is as drawn), `noise` is the standard deviation of luma noise in
    levels of 255, `warmth` shifts colour towards yellow (positive) or blue, in levels. `contrast`
    is the distance of luma from the middle grey that is left, `grey` takes colour away, `blur` is
    the standard deviation of the lens's blur as a share of the picture's width.
    """

    exposure: float = 1.0
    noise: float = 2.5
    warmth: float = 0.0
    contrast: float = 1.0
    grey: bool = False
    blur: float = 0.0


@dataclass(frozen=True)
class Light:
    """How much light falls where; 1 is as drawn.

    Attributes:
        lamps: everywhere.
        window: what the window adds beside it; less with the distance.
        pane: the window's own brightness.
        patch: what the sun adds on a patch of the floor.
        patch_at: where the patch lies, from -1 (left) to 1.
        fall_off: what is missing in the picture's corners where the camera itself gives the light.
    """

    lamps: float = 1.0
    window: float = 0.0
    pane: float = 1.0
    patch: float = 0.0
    patch_at: float = 0.0
    fall_off: float = 0.0


class Scene:
    """An empty room seen by one camera: background picture, and depth (m) for hiding people."""

    def __init__(self, room: Room, camera: Camera, seed: int) -> None:
        self.room, self.camera = room, camera
        self.background, self.depth = _cast(room, camera, np.random.default_rng(seed))

    def frame(
        self,
        figures: Sequence[tuple[Body, Clothes, Array]],
        wheelchairs: Sequence[Array] = (),
    ) -> Picture:
        """The room with people in it; each has joints of one moment, shape (joints, 3), m.

        A wheelchair is the place of its seat's middle and where it faces: x, y (m), yaw (rad).
        """
        picture = self.background.copy()
        for _, _, joints in figures:
            _shadow(picture, self.camera, joints, self.depth)
        for chair in wheelchairs:
            _wheelchair(picture, self.depth, self.camera, chair, before=False)
        far_first = sorted(
            figures, key=lambda one: -float(self.camera.project(one[2])[1][JOINT["pelvis"]])
        )
        for body, clothes, joints in far_first:
            _draw(picture, self.depth, self.camera, body, clothes, joints)
        for chair in wheelchairs:
            _wheelchair(picture, self.depth, self.camera, chair, before=True)
        return picture

    def lit(self, light: Light) -> tuple[Scene, NDArray[np.uint8]]:
        """The scene with its window and floor under that light, and what it makes of all luma.

        The latter are factors in 128ths, (height, width), for `Exposure`. People do not carry the
        window's brightness or the patch of sun: those belong to the empty room.
        """
        room, camera = self.room, self.camera
        hit = np.asarray(camera.position) + camera.rays() * self.depth[..., None]
        window = np.array([room.width_m / 2, room.depth_m, 1.6])
        # As the window's light falls off in the drawn room.
        near = np.exp(np.sqrt(((hit - window) ** 2).sum(axis=-1)) / -2.6)
        gain = light.lamps + light.window * near
        own = np.ones(gain.shape)
        x, y, z = hit[..., 0], hit[..., 1], hit[..., 2]
        pane = (np.abs(y - room.depth_m) < 0.045) & (np.abs(x - window[0]) < 0.75)
        pane &= (z > 1.05) & (z < 2.15) & (not room.curtains_drawn)
        own[pane] = light.pane / gain[pane]
        if light.patch:
            aslant = x - window[0] - light.patch_at * (1.2 + 0.5 * (room.depth_m - 1.6 - y))
            sunny = (z < 0.7) & (np.abs(aslant) < 0.6) & (np.abs(y - room.depth_m + 1.9) < 0.9)
            own[sunny] += light.patch
        if light.fall_off:
            rows, columns = np.linspace(-1, 1, camera.height), np.linspace(-1, 1, camera.width)
            gain -= light.fall_off * (rows[:, None] ** 2 + columns**2) / 2
        scene = copy.copy(self)
        scene.background = np.clip(self.background * own[..., None], 0, 255).astype(np.uint8)
        return scene, np.clip(np.rint(128 * gain), 0, 255).astype(np.uint8)


class Exposure:
    """Turns drawn frames into what a sensor gives: light, colour, and noise that changes.

    The result is planar YUV 4:2:0 (I420), uint8 (height * 3 / 2, width), as encoders take it. A
    picture of another size is scaled to it, so that only the noise has the fine grain. `light` is
    what `Scene.lit` gives for such pictures.
    """

    def __init__(
        self,
        sensor: Sensor,
        width: int,
        height: int,
        rng: np.random.Generator,
        light: NDArray[np.uint8] | None = None,
    ) -> None:
        self._rng, self._width, self._height = rng, width, height
        self._light, self._grey, self._blur = light, sensor.grey, sensor.blur
        strength = 1.0 if light is None else min(1.0, float(light.mean()) / 128)
        away = strength * (np.arange(256) - 128)
        self._tint = np.rint(128 + away).astype(np.uint8)
        luma = 16 + (np.arange(256) - 16) * sensor.exposure
        luma = 126 + (luma - 126) * sensor.contrast
        self._luma = np.clip(luma, 16, 235).round().astype(np.uint8)
        spare = 2048
        # Rows of noise run on into each other, so any start in the reserve gives a new frame.
        flat = rng.standard_normal(width * height + spare, dtype=np.float32)
        self._grain = np.rint(sensor.noise * flat).astype(np.int16)
        colour = rng.standard_normal(width * height // 2 + spare, dtype=np.float32)
        colour *= 0.25 * sensor.noise
        half = width * height // 4
        colour[:half] -= sensor.warmth
        colour[half:] += sensor.warmth
        self._colour = np.rint(colour).astype(np.int16)
        self._spare = spare

    def __call__(self, picture: Picture) -> Picture:
        """One frame from uint8 BGR; draws the noise's place from the generator."""
        import cv2

        frame = self._received(picture)
        start = int(self._rng.integers(self._spare))
        luma, colour = frame[: self._height], frame[self._height :]
        grain = self._grain[start : start + luma.size].reshape(luma.shape)
        cv2.add(cv2.LUT(luma, self._luma), grain, dst=luma, dtype=cv2.CV_8U)
        if self._grey:
            colour[:] = 128
            return frame
        # The colour planes' shift must stay in place, so their noise only moves by whole rows.
        cv2.add(colour, self._colour[: colour.size].reshape(colour.shape), dst=colour,
                dtype=cv2.CV_8U)  # fmt: skip
        return frame

    def _received(self, picture: Picture) -> Picture:
        """The picture under its light and through its lens as I420, in the sensor's size."""
        import cv2

        frame = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420), dtype=np.uint8)
        height, width = picture.shape[:2]
        luma = frame[:height]
        if self._light is not None:
            cv2.multiply(luma, self._light, dst=luma, scale=1 / 128)
            frame[height:] = cv2.LUT(frame[height:], self._tint)
        planes = [luma, *frame[height:].reshape(2, height // 2, width // 2)]
        if self._blur:
            sigma = self._blur * width
            planes = [
                np.asarray(cv2.GaussianBlur(plane, (0, 0), max(size, 0.05)), np.uint8)
                for plane, size in zip(planes, (sigma, sigma / 2, sigma / 2), strict=True)
            ]
        elif (height, width) == (self._height, self._width):
            return frame
        wide, high = self._width, self._height
        planes = [
            np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR), np.uint8)
            for plane, size in zip(
                planes, ((wide, high), *[(wide // 2, high // 2)] * 2), strict=True
            )
        ]
        whole: Picture = np.concatenate([plane.ravel() for plane in planes]).reshape(-1, wide)
        return whole


# The room.


def _texture(rng: np.random.Generator, size: int = 256) -> NDArray[np.float32]:
    """Smooth noise around 0 that repeats without a seam, shape (size, size)."""
    import cv2

    total = np.zeros((size, size), np.float32)
    for cells, weight in ((8, 0.5), (32, 0.3), (128, 0.2)):
        tile = rng.standard_normal((cells, cells)).astype(np.float32)
        ninefold = np.tile(tile, (3, 3))
        wide = cv2.resize(ninefold, (3 * size, 3 * size), interpolation=cv2.INTER_CUBIC)
        total += weight * wide[size : 2 * size, size : 2 * size]
    return total


def _cast(
    room: Room, camera: Camera, rng: np.random.Generator
) -> tuple[Picture, NDArray[np.float32]]:
    """Cast rays (four per pixel in small pictures); returns the picture and depth per pixel."""
    import cv2

    finer = 2 if camera.width <= 800 else 1
    walls: Any = [(206, 214, 214), (198, 208, 196), (214, 208, 200), (190, 204, 214)]
    floors: Any = [(150, 160, 168), (128, 142, 150), (120, 148, 176), (160, 156, 146)]
    wall = np.asarray(walls[rng.integers(len(walls))], np.float32)
    if room.paint is not None:
        wall = np.asarray(_PAINTS[room.paint % len(_PAINTS)], np.float32)
    floor = np.asarray(floors[rng.integers(len(floors))], np.float32)
    texture = _texture(rng)
    rays = camera.rays(1 / finer).astype(np.float32)
    colour, depth = _cast_shell(room, camera, rays, texture, wall, floor)
    for box in room.furniture():
        _cast_box(box, camera, finer, rays, depth, colour, texture, room)
    picture = np.clip(colour, 0, 255).astype(np.uint8)
    size = (camera.width, camera.height)
    if finer == 1:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.6), np.uint8)
    small = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    return small, np.ascontiguousarray(depth[::finer, ::finer])


def _cast_shell(
    room: Room,
    camera: Camera,
    rays: NDArray[np.float32],
    texture: NDArray[np.float32],
    wall: NDArray[np.float32],
    floor: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Walls, floor, ceiling and doorway: colour and depth per ray."""
    eye = np.asarray(camera.position, np.float32)
    size = np.array([room.width_m, room.depth_m, room.height_m], np.float32)
    inverse = 1 / np.where(np.abs(rays) < 1e-6, np.float32(1e-6), rays)
    far = np.where(inverse > 0, (size - eye) * inverse, -eye * inverse)
    axis = far.argmin(axis=-1).astype(np.uint8)
    depth = far.min(axis=-1)
    hit = eye + rays * depth[..., None]
    x, y, z = hit[..., 0], hit[..., 1], hit[..., 2]
    on_floor, ceiling = (axis == 2) & (z < 1.0), (axis == 2) & (z > 1.0)
    on_wall = axis != 2

    paint = np.ones(axis.shape, np.float32)
    low = on_wall & (z < 0.95)
    paint[low] = 0.89
    paint[on_wall & (np.abs(z - 0.98) < 0.035)] = 0.72
    paint[on_wall & (z < 0.10)] = 0.55
    paint[on_floor & ((x % 0.6 < 0.012) | (y % 0.6 < 0.012))] = 0.86
    paint *= 1 + np.where(on_floor, np.float32(0.05), np.float32(0.018)) * _sample(
        texture, hit, axis
    )
    # Corners are darker, light falls from the window, and each wall catches it differently.
    edge = np.sort(np.minimum(hit, size - hit), axis=-1)[..., 1]
    paint *= 1 - np.float32(0.30) * np.exp(np.minimum(edge, 2) / np.float32(-0.25))
    window = np.array([room.width_m / 2, room.depth_m, 1.6], np.float32)
    away = np.sqrt(((hit - window) ** 2).sum(axis=-1))
    paint *= np.float32(0.80) + np.float32(0.28) * np.exp(away / np.float32(-2.6))
    paint *= np.array([0.92, 0.97, 1.0], np.float32)[axis]
    for box in room.furniture():
        if box.low[2] < 0.6 and box.material != "metal":
            paint[on_floor] *= _under(box, x[on_floor], y[on_floor])

    colour = np.empty(hit.shape, np.float32)
    colour[:] = wall
    colour[on_floor] = floor
    colour[ceiling] = (232, 234, 234)
    colour *= paint[..., None]

    door_x, door_y = room.door
    door_wall = (axis == 0) & (np.abs(x - door_x) < 0.02)
    beside = np.abs(y - door_y)
    opening = door_wall & (beside < _DOOR_HALF_M) & (z < _DOOR_HIGH_M)
    frame = door_wall & (beside < _DOOR_HALF_M + 0.07) & (z < _DOOR_HIGH_M + 0.07)
    colour[frame] = (92, 116, 140)
    colour[opening] = np.array([96, 104, 108]) * (0.75 + 0.2 * z[opening][:, None] / 2)
    depth[opening] = _CORRIDOR_M
    return colour, depth


def _sample(
    texture: NDArray[np.float32], hit: NDArray[np.float32], axis: NDArray[Any]
) -> NDArray[np.float32]:
    u = np.where(axis == 0, hit[..., 1], hit[..., 0])
    v = np.where(axis == 2, hit[..., 1], hit[..., 2])
    size = texture.shape[0]
    columns = (u * 96).astype(np.int32) % size
    rows = (v * 96).astype(np.int32) % size
    found: NDArray[np.float32] = texture[rows, columns]
    return found


def _under(box: Box, x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    """Soft shadow of a box on the floor: share of light that is left."""
    aside = np.maximum(np.maximum(box.low[0] - x, x - box.high[0]), 0)
    along = np.maximum(np.maximum(box.low[1] - y, y - box.high[1]), 0)
    left = 1 - 0.28 * np.exp(-np.hypot(aside, along) / 0.18)
    return np.asarray(left, np.float32)


def _cast_box(
    box: Box,
    camera: Camera,
    finer: int,
    rays: NDArray[np.float32],
    depth: NDArray[np.float32],
    colour: NDArray[np.float32],
    texture: NDArray[np.float32],
    room: Room,
) -> None:
    """Draw one box over `colour` and `depth` where it is nearest, looking only where it can be."""
    corners = np.array(
        [[(box.low, box.high)[bit >> axis & 1][axis] for axis in range(3)] for bit in range(8)]
    )
    pixels, away = camera.project(corners)
    if away.max() < NEAREST_M:
        return
    rows, columns = slice(None), slice(None)
    if away.min() > NEAREST_M:
        x0, y0 = np.clip(np.floor(pixels.min(axis=0) * finer), 0, None).astype(int)
        x1, y1 = np.clip(np.ceil(pixels.max(axis=0) * finer), 0, None).astype(int)
        rows, columns = slice(y0, y1), slice(x0, x1)
    rays, depth, colour = rays[rows, columns], depth[rows, columns], colour[rows, columns]
    if not rays.size:
        return
    eye = np.asarray(camera.position, np.float32)
    inverse = 1 / np.where(np.abs(rays) < 1e-6, np.float32(1e-6), rays)
    low = (np.asarray(box.low, np.float32) - eye) * inverse
    high = (np.asarray(box.high, np.float32) - eye) * inverse
    near = np.minimum(low, high)
    enter, leave = near.max(axis=-1), np.maximum(low, high).min(axis=-1)
    seen = (enter < leave) & (enter > NEAREST_M) & (enter < depth)
    if not seen.any():
        return
    axis = near[seen].argmax(axis=-1)
    at = enter[seen]
    hit = eye + rays[seen] * at[:, None]
    shade = np.array([0.74, 0.82, 1.0], np.float32)[axis]
    shade *= 0.82 + 0.18 * np.clip(hit[:, 2] / max(box.high[2], 0.1), 0, 1)
    soft = {"sheet": 0.04, "pillow": 0.05, "seat": 0.05, "wood": 0.07}.get(box.material, 0.015)
    shade *= 1 + soft * _sample(texture, hit, axis)
    if box.material == "curtain":
        shade *= 1 + 0.12 * np.sin(hit[:, 0] * 60)
    if box.material == "window":
        shade[np.abs(hit[:, 0] - room.width_m / 2) < 0.025] *= 0.7
    colour[seen] = np.asarray(_MATERIALS[box.material], np.float32) * shade[:, None]
    depth[seen] = at


# People.

# Limbs as (from, to, what it wears); radii are the body's.
_LIMBS: Final = (
    *(
        (f"{side}_{one}", f"{side}_{two}", wears)
        for side in ("left", "right")
        for one, two, wears in (
            ("hip", "knee", "thigh"),
            ("knee", "ankle", "shank"),
            ("heel", "toe", "shoe"),
            ("shoulder", "elbow", "sleeve"),
            ("elbow", "wrist", "forearm"),
            ("wrist", "hand", "hand"),
        )
    ),
    ("neck", "head", "neck"),
)
_TORSO: Final = ("neck", "left_shoulder", "right_shoulder", "left_rib", "right_rib",
                 "waist", "left_hip", "right_hip")  # fmt: skip
_SHADES: Final = (
    (1.00, 0.72, 0.00), (0.86, 0.84, 0.03), (0.70, 0.94, 0.07), (0.48, 1.03, 0.12),
)  # fmt: skip
"""Share of a part's outline, brightness, and shift towards the light: dark rim, bright middle."""


def _outline(first: Array, second: Array, r1: Array, r2: Array) -> Array:
    """Outlines of limbs between circles, (limbs, points, 2) from centres (limbs, 2) and radii."""
    away = second - first
    distance = np.maximum(np.hypot(away[:, 0], away[:, 1]), 1e-6)
    angle = np.arctan2(away[:, 1], away[:, 0])
    # Where one circle lies inside the other the outline is the larger circle.
    inside = distance <= np.abs(r1 - r2) + 1e-6
    open_angle = np.arccos(np.clip((r1 - r2) / distance, -1.0, 1.0))
    open_angle = np.where(inside, np.where(r1 > r2, 1e-3, np.pi - 1e-3), open_angle)
    back = angle[:, None] + open_angle[:, None] + _ARC * (2 * np.pi - 2 * open_angle)[:, None]
    front = angle[:, None] - open_angle[:, None] + _ARC * (2 * open_angle)[:, None]
    around_first = first[:, None] + r1[:, None, None] * np.stack(
        [np.cos(back), np.sin(back)], axis=-1
    )
    around_second = second[:, None] + r2[:, None, None] * np.stack(
        [np.cos(front), np.sin(front)], axis=-1
    )
    return np.concatenate([around_first, around_second], axis=1)


def _draw(
    picture: Picture,
    depth: NDArray[np.float32],
    camera: Camera,
    body: Body,
    clothes: Clothes,
    joints: Array,
) -> None:
    """Draw one person into `picture`, far parts first, hidden by what is nearer in `depth`."""
    import cv2

    pixels, away = camera.project(joints)
    if away.min() < 0.3:
        return
    radius = np.array(list(body.radii().values())) * camera.focal_px / away
    x0, y0 = np.floor((pixels - radius[:, None]).min(axis=0)).astype(int) - 4
    x1, y1 = np.ceil((pixels + radius[:, None]).max(axis=0)).astype(int) + 5
    x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, camera.width), min(y1, camera.height)
    if x1 - x0 < 3 or y1 - y0 < 3:
        return
    pixels = pixels - np.array([x0, y0])
    view = picture[y0:y1, x0:x1]
    layer = view.copy()
    mask = np.zeros(view.shape[:2], np.uint8)
    near = np.full(view.shape[:2], 1e6, np.float32)

    parts = _parts(body, clothes, pixels, away, radius)
    parts.sort(key=lambda part: -part[0])
    scale = 1 << _SUBPIXEL
    for part_depth, outline, centre, colour in parts:
        fixed = np.rint(outline * scale).astype(np.int32)
        cv2.fillConvexPoly(mask, fixed, _OPAQUE, cv2.LINE_AA, _SUBPIXEL)
        cv2.fillConvexPoly(near, fixed, (float(part_depth),), cv2.LINE_8, _SUBPIXEL)
        for share, shade, lift in _SHADES:
            tint: Any = tuple(min(255.0, value * shade) for value in colour)
            if share < 1.0:
                inner = centre + (outline - centre) * share
                inner[:, 0] -= lift * 0.5 * (outline - centre)[:, 0].max()
                inner[:, 1] -= lift * (outline - centre)[:, 1].max()
                fixed = np.rint(inner * scale).astype(np.int32)
            cv2.fillConvexPoly(layer, fixed, tint, cv2.LINE_AA, _SUBPIXEL)
    _face(layer, joints, camera, pixels, radius, clothes)
    soft = max(0.6, 0.22 * float(np.median(radius)))
    layer = np.asarray(cv2.GaussianBlur(layer, (0, 0), min(soft, 3.0)), np.uint8)
    mask[near > depth[y0:y1, x0:x1] + 0.10] = 0
    mask = np.asarray(cv2.blur(mask, (2, 2)), np.uint8)
    weight = mask.astype(np.float32) / 255
    view[:] = cv2.blendLinear(layer, np.ascontiguousarray(view), weight, 1 - weight)


def _parts(
    body: Body, clothes: Clothes, pixels: Array, away: Array, radius: Array
) -> list[tuple[float, Array, Array, Colour]]:
    """Depth, outline, middle and colour of every part of one person."""
    import cv2

    first = np.array([JOINT[one] for one, _, _ in _LIMBS])
    second = np.array([JOINT[two] for _, two, _ in _LIMBS])
    wears: dict[str, Colour] = {
        "thigh": clothes.top if clothes.gown else clothes.bottom,
        "shank": clothes.skin if clothes.gown else clothes.bottom,
        "shoe": clothes.shoes, "sleeve": clothes.top, "hand": clothes.skin, "neck": clothes.skin,
        "forearm": clothes.top if clothes.long_sleeves else clothes.skin,
    }  # fmt: skip
    starts, ends = pixels[first].copy(), pixels[second].copy()
    r1, r2 = radius[first], radius[second].copy()
    # The trunk covers the thigh's upper end, and the head the neck's.
    for number, (_, _, what) in enumerate(_LIMBS):
        if what == "thigh":
            starts[number] += 0.22 * (ends[number] - starts[number])
        elif what == "neck":
            ends[number] = starts[number] + 0.5 * (ends[number] - starts[number])
            r2[number] = r1[number]
    outlines = _outline(starts, ends, r1, r2)
    middles = (starts + ends) / 2
    depths = (away[first] + away[second]) / 2
    parts = [
        (float(depths[n]), outlines[n], middles[n], wears[_LIMBS[n][2]]) for n in range(len(_LIMBS))
    ]

    def hull(
        names: Sequence[str], extra: Sequence[tuple[Array, float]] = ()
    ) -> tuple[Array, Array]:
        numbers = [JOINT[name] for name in names]
        centres = np.concatenate([pixels[numbers], *[point[None] for point, _ in extra]])
        radii = np.concatenate([radius[numbers], np.array([size for _, size in extra])])
        circle = _ARC[:-1] * 2 * np.pi
        rim = np.stack([np.cos(circle), np.sin(circle)], axis=-1)
        cloud = (centres[:, None] + radii[:, None, None] * rim).reshape(-1, 2)
        shape = cv2.convexHull(cloud.astype(np.float32))[:, 0].astype(np.float64)
        return shape, centres.mean(axis=0)

    torso, torso_middle = hull(_TORSO)
    trunk = float(away[[JOINT[name] for name in _TORSO]].mean())
    parts.append((trunk, torso, torso_middle, clothes.top))
    if clothes.gown:
        for side in ("left", "right"):
            hip, knee = JOINT[f"{side}_hip"], JOINT[f"{side}_knee"]
            hem = 0.35 * pixels[hip] + 0.65 * pixels[knee]
            skirt, middle = hull((f"{side}_hip", "pelvis"), [(hem, float(radius[hip]) * 0.95)])
            parts.append((float(0.6 * away[hip] + 0.4 * away[knee]), skirt, middle, clothes.top))
    else:
        for side in ("left", "right"):
            hip, knee = JOINT[f"{side}_hip"], JOINT[f"{side}_knee"]
            upper = pixels[hip] + 0.3 * (pixels[knee] - pixels[hip])
            seat, middle = hull((f"{side}_hip", "pelvis"), [(upper, float(radius[hip]) * 0.97)])
            parts.append((max(trunk + 0.01, float(away[hip])), seat, middle, clothes.bottom))

    head, crown = JOINT["head"], JOINT["crown"]
    face = pixels[head] + 0.30 * (pixels[JOINT["nose"]] - pixels[head])
    chin = pixels[head] + 0.55 * (pixels[head] - pixels[crown])
    shape = _outline(chin[None], face[None], radius[[head]] * 0.62, radius[[head]] * 0.86)[0]
    face_depth = float(away[head] + 0.5 * (away[JOINT["nose"]] - away[head]))
    parts.append((face_depth, shape, (chin + face) / 2, clothes.skin))
    back = pixels[head] - 0.10 * (pixels[JOINT["nose"]] - pixels[head])
    hair = _outline(back[None], pixels[[crown]], radius[[head]] * 0.98, radius[[crown]])[0]
    parts.append((float(away[head]), hair, back, clothes.hair))
    return parts


def _face(
    layer: Picture, joints: Array, camera: Camera, pixels: Array, radius: Array, clothes: Clothes
) -> None:
    """Eyes and mouth, where the face looks at the camera."""
    import cv2

    head = joints[JOINT["head"]]
    forward = joints[JOINT["nose"]] - head
    to_camera = np.asarray(camera.position) - head
    size = float(radius[JOINT["head"]])
    facing = float(forward @ to_camera) / float(np.linalg.norm(forward) * np.linalg.norm(to_camera))
    if facing < 0.1 or size < 4:
        return
    scale = 1 << _SUBPIXEL
    dark: Any = tuple(0.35 * value for value in clothes.skin)
    for name in ("left_eye", "right_eye"):
        out = joints[JOINT[name]] - head
        if float(out @ to_camera) > 0.1 * float(np.linalg.norm(out) * np.linalg.norm(to_camera)):
            x, y = np.rint(pixels[JOINT[name]] * scale).astype(int)
            cv2.circle(layer, (int(x), int(y)), int(size * 0.14 * scale), dark, -1, cv2.LINE_AA,
                       _SUBPIXEL)  # fmt: skip
    if facing < 0.45:
        return
    mouth = pixels[JOINT["nose"]] + 0.35 * (pixels[JOINT["head"]] - pixels[JOINT["crown"]])
    x, y = np.rint(mouth * scale).astype(int)
    cv2.circle(layer, (int(x), int(y)), int(size * 0.09 * scale), dark, -1, cv2.LINE_AA, _SUBPIXEL)


def _shadow(picture: Picture, camera: Camera, joints: Array, depth: NDArray[np.float32]) -> None:
    """Darken the floor under a person, softly; on a bed the shadow lies on the mattress."""
    import cv2

    ground = joints.copy()
    lowest = float(joints[:, 2].min())
    ground[:, 2] = lowest if lowest > 0.3 else 0.0
    # The higher a point, the less its shadow reaches; the lamp hangs in the middle.
    pixels, away = camera.project(ground)
    if away.min() < 0.3:
        return
    size = 0.10 * camera.focal_px / float(np.median(away))
    x0, y0 = np.floor(pixels.min(axis=0) - 3 * size).astype(int)
    x1, y1 = np.ceil(pixels.max(axis=0) + 3 * size).astype(int)
    x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, camera.width), min(y1, camera.height)
    if x1 - x0 < 3 or y1 - y0 < 3:
        return
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    shape = cv2.convexHull((pixels - np.array([x0, y0])).astype(np.float32)).astype(np.int32)
    cv2.fillConvexPoly(mask, shape, (70.0,))
    soft = cv2.blur(cv2.blur(mask, (2 * int(size) + 1,) * 2), (2 * int(size) + 1,) * 2)
    keep = np.asarray(cv2.bitwise_not(soft), np.uint8)
    keep[depth[y0:y1, x0:x1] < float(away.min()) - 0.25] = 255
    view = picture[y0:y1, x0:x1]
    cv2.multiply(view, cv2.merge([keep, keep, keep]), dst=view, scale=1 / 255)


def _wheelchair(
    picture: Picture, depth: NDArray[np.float32], camera: Camera, chair: Array, *, before: bool
) -> None:
    """Draw the parts of a wheelchair behind its rider, or the wheel and arm rest `before` them."""
    import cv2

    x, y, yaw = chair
    ahead = np.array([np.cos(yaw), np.sin(yaw), 0.0])
    left = np.array([-np.sin(yaw), np.cos(yaw), 0.0])
    up = np.array([0.0, 0.0, 1.0])
    base = np.array([x, y, 0.0])
    _, away = camera.project((base + 0.5 * up)[None])
    if away[0] < 0.5:
        return
    eye = np.asarray(camera.position) - base
    near_side = 1.0 if float(eye @ left) > 0 else -1.0
    wheel = np.stack(
        [base - 0.08 * ahead + _WHEEL_M * (np.cos(a) * ahead + np.sin(a) * up) + _WHEEL_M * up
         for a in _RIM]
    )  # fmt: skip
    back = base - 0.22 * ahead
    width = _TRACK_M * left
    shapes: list[tuple[Array, Colour, float]] = []
    if before:
        sides = [near_side]
        # Seen from behind the back rest hides the rider.
        if float(eye @ ahead) < -0.5 * float(np.linalg.norm(eye[:2])):
            shapes.append((np.stack([back - width + 0.45 * up, back + width + 0.45 * up,
                                     back + width + 0.95 * up, back - width + 0.95 * up]),
                           (70, 52, 40), 0.0))  # fmt: skip
    else:
        sides = [-near_side]
        shapes.append((np.stack([back - width + 0.45 * up, back + width + 0.45 * up,
                                 back + width + 0.95 * up, back - width + 0.95 * up]),
                       (70, 52, 40), 0.0))  # fmt: skip
        front = base + 0.25 * ahead
        shapes.append((np.stack([back - width + 0.44 * up, back + width + 0.44 * up,
                                 front + width + 0.44 * up, front - width + 0.44 * up]),
                       (58, 44, 36), 0.0))  # fmt: skip
    for side in sides:
        shapes.append((wheel + side * width, (48, 46, 46), 0.045))
        rest = [back + 0.65 * up, base + 0.18 * ahead + 0.65 * up]
        shapes.append((np.stack(rest) + side * width, (60, 58, 60), 0.04))
    layer = picture.copy()
    mask = np.zeros(picture.shape[:2], np.uint8)
    scale = 1 << _SUBPIXEL
    for points, colour, thick_m in shapes:
        pixels, deep = camera.project(points)
        if deep.min() < 0.3:
            continue
        fixed = np.rint(pixels * scale).astype(np.int32)
        thick = max(1, round(thick_m * camera.focal_px / float(away[0])))
        if thick_m == 0.0:
            cv2.fillConvexPoly(layer, fixed, colour, cv2.LINE_AA, _SUBPIXEL)
            cv2.fillConvexPoly(mask, fixed, _OPAQUE, cv2.LINE_AA, _SUBPIXEL)
        else:
            closed = len(points) > 2
            cv2.polylines(layer, [fixed], closed, colour, thick, cv2.LINE_AA, _SUBPIXEL)
            cv2.polylines(mask, [fixed], closed, _OPAQUE, thick, cv2.LINE_AA, _SUBPIXEL)
    mask[depth < float(away[0]) - 0.35] = 0
    weight = mask.astype(np.float32) / 255
    picture[:] = cv2.blendLinear(layer, picture, weight, 1 - weight)
