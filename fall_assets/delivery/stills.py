"""The picture beside an alert: enough to act on, no face to recognise.

Here: taking one frame and making people unrecognisable. Not here: where pictures are kept. The
only stage that opens a video again; it decodes from the last key frame on.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import Interpolation

from fall_assets.errors import PermanentFailureError
from fall_assets.footage.media import open_media, video_stream

Picture = npt.NDArray[np.uint8]
KeyPoints = npt.NDArray[np.floating[Any]]

# With heads found, the rest of the picture keeps this many cells along its long side; without, far
# fewer, because a face may be anywhere. A face needs about 7 cells across for people who know it
# (Sinha et al., Proceedings of the IEEE 94(11), 2006): a head of a tenth of the picture gets 6.
_CELLS_HEADS_KNOWN = 320
_CELLS_HEADS_UNKNOWN = 64
_HEAD_CELLS = 3
# COCO-17: nose, eyes, ears; shoulders; hips.
_FACE = slice(0, 5)
_SHOULDERS = slice(5, 7)
_HIPS = slice(11, 13)
# MoveNet gives lying people low scores; a wrong guess here only hides a bit more.
_SEEN = 0.05
# Of people who lie with their knees up, the network takes a knee for the head, at low scores.
_SURE = 0.3


class StillError(PermanentFailureError):
    """No picture can be had of this moment; the alert stands without one."""


def still(
    path: Path,
    at_s: float,
    *,
    keypoints: KeyPoints | None = None,
    crop: tuple[float, float, float, float] | None = None,
    long_side: int = 640,
) -> bytes:
    """JPEG of the frame at `at_s` seconds from the segment's start, with nobody to recognise.

    `keypoints` (people, 17, 3): x, y as shares of the cropped picture, score; COCO's order. The
    head of every person is reduced to 3 by 3 cells; the rest of the picture is kept moderately
    sharp where every person's face was found for sure, and made coarse where one was not, where
    nobody was found or where no key points are given. A time before the start or after the end
    gives the first or last frame. `crop` is x0, y0, x1, y1 as shares; `long_side` in pixels.

    Privacy by default, not a proof: someone close to the camera whom the pose network did not see
    keeps 320 cells across the picture.

    Raises StillError where the file cannot be decoded or the crop is empty.
    """
    picture = _crop(_frame_at(path, at_s), crop)
    people = np.zeros((0, 17, 3)) if keypoints is None else np.asarray(keypoints, np.float64)
    return jpeg(unrecognisable(picture, people, long_side))


def unrecognisable(picture: Picture, people: KeyPoints, long_side: int) -> Picture:
    """The picture with nobody to recognise, by the rules of `still`.

    `picture` (height, width, 3) RGB; `people` (people, 17, 3). Returns a picture of that long side,
    both sides even.
    """
    if people.ndim != 3 or people.shape[1:] != (17, 3):
        raise ValueError(f"key points must have shape (people, 17, 3), got {people.shape}")
    height, width = picture.shape[:2]
    heads = [head for person in people if (head := head_box(person, width / height)) is not None]
    cells = _CELLS_HEADS_KNOWN if faces_are_known(people) else _CELLS_HEADS_UNKNOWN
    coarse = _resize(picture, min(cells, max(width, height)))
    for head in heads:
        _hide(coarse, head)
    return _resize(coarse, long_side)


def faces_are_known(people: KeyPoints) -> bool:
    """Whether there are people and the face of each was seen for sure; else one may be anywhere."""
    return len(people) > 0 and bool((people[:, _FACE, 2].max(axis=1) >= _SURE).all())


def head_box(person: KeyPoints, aspect: float) -> tuple[float, float, float, float] | None:
    """Where a person's head is: x0, y0, x1, y1 as shares of the picture; None where unknown.

    `person` (17, 3), `aspect` the picture's width over its height. A square around the seen points
    of the face, or above the shoulders along the trunk; its side is that of a head with hair and
    chin, from the distances of ears, shoulders and trunk, generously.
    """
    points = np.array(person, np.float64)
    points[:, 0] *= aspect
    seen = points[:, 2] >= _SEEN
    face = points[_FACE, :2][seen[_FACE]]
    shoulders = points[_SHOULDERS, :2][seen[_SHOULDERS]]
    hips = points[_HIPS, :2][seen[_HIPS]]
    # Seen end-on, a head's points collapse to one: it is no smaller than a fifth of the whole.
    told = points[points[:, 2] > 0, :2]
    sizes = [0.04]
    if len(told):
        sizes.append(0.2 * float(np.hypot(*np.ptp(told, axis=0))))
    if len(face) > 1:
        sizes.append(2.0 * float(np.ptp(face, axis=0).max()))
    if len(shoulders) == 2:
        sizes.append(0.9 * float(np.linalg.norm(shoulders[0] - shoulders[1])))
    if len(shoulders) and len(hips):
        trunk = shoulders.mean(axis=0) - hips.mean(axis=0)
        sizes.append(0.6 * float(np.linalg.norm(trunk)))
    side = max(sizes)
    if len(face):
        centre = face.mean(axis=0)
    elif len(shoulders) and len(hips):
        centre = shoulders.mean(axis=0) + 0.45 * trunk
        side *= 1.5
    elif len(shoulders):
        centre = shoulders.mean(axis=0)
        side *= 2.5
    else:
        return None
    half = side / 2 * 1.2
    return (
        float((centre[0] - half) / aspect),
        float(centre[1] - half),
        float((centre[0] + half) / aspect),
        float(centre[1] + half),
    )


def _frame_at(path: Path, at_s: float) -> Picture:
    """The frame shown at that time, as RGB (height, width, 3)."""
    try:
        with open_media(path) as container:
            stream = video_stream(container)
            if stream is None:
                raise StillError(f"{path.name}: it holds no pictures")
            start = stream.start_time or 0
            if stream.time_base is None:
                raise StillError(f"{path.name}: its frames carry no times; take another picture")
            target = start + round(max(0.0, at_s) / stream.time_base)
            container.seek(target, stream=stream, backward=True)
            shown = None
            for frame in container.decode(stream):
                if shown is not None and frame.pts is not None and frame.pts > target:
                    break
                shown = frame
            if shown is None:
                raise StillError(f"{path.name}: no frame at {at_s:.1f} s; the file may be cut off")
            # Key points and crops are of the upright picture, as the features are.
            return np.rot90(_pixels(shown.reformat(format="rgb24")), shown.rotation // 90 % 4)
    except (av.FFmpegError, OSError) as error:
        raise StillError(f"{path.name}: cannot be decoded at {at_s:.1f} s ({error})") from error


def _crop(picture: Picture, crop: tuple[float, float, float, float] | None) -> Picture:
    if crop is None:
        return picture
    height, width = picture.shape[:2]
    x0, y0, x1, y1 = (min(1.0, max(0.0, share)) for share in crop)
    part = picture[round(y0 * height) : round(y1 * height), round(x0 * width) : round(x1 * width)]
    if not part.size:
        raise StillError(f"the crop {crop} leaves nothing: give x0 < x1 and y0 < y1 within 0-1")
    return part


def _resize(picture: Picture, long_side: int) -> Picture:
    """The picture with that long side; means over areas when shrinking, smooth when growing."""
    height, width = picture.shape[:2]
    scale = long_side / max(height, width)
    # H.264 and JPEG halve the colour planes: even sides.
    new_width, new_height = (max(2, round(side * scale / 2) * 2) for side in (width, height))
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    way = Interpolation.AREA if scale < 1 else Interpolation.BILINEAR
    return _pixels(frame.reformat(new_width, new_height, "rgb24", interpolation=way))


def _pixels(frame: av.VideoFrame) -> Picture:
    """An RGB frame as an array that can be written to."""
    return np.array(frame.to_ndarray(), np.uint8)


def _hide(picture: Picture, box: tuple[float, float, float, float]) -> None:
    """Reduce the box to a few cells of one colour each, in place."""
    height, width = picture.shape[:2]
    x0, x1 = (int(np.clip(share * width, 0, width)) for share in (box[0], box[2] + 1 / width))
    y0, y1 = (int(np.clip(share * height, 0, height)) for share in (box[1], box[3] + 1 / height))
    columns = np.linspace(x0, x1, _HEAD_CELLS + 1).astype(int)
    rows = np.linspace(y0, y1, _HEAD_CELLS + 1).astype(int)
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            cell = picture[top:bottom, left:right]
            if cell.size:
                cell[:] = cell.reshape(-1, 3).mean(axis=0).astype(np.uint8)


def jpeg(picture: Picture) -> bytes:
    """A picture (height, width, 3), RGB, as JPEG by FFmpeg's encoder: no metadata of any kind."""
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuvj420p")
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height = frame.width, frame.height
    encoder.pix_fmt = "yuvj420p"
    encoder.time_base = Fraction(1)
    encoder.options = {"qmin": "3", "qmax": "3"}
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
