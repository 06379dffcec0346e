"""`fall-assets frames`: frame sequences become videos.

What belongs here: arguments and printing. What does not: packing (`fall_assets.datasets.frames`).
"""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.group()
def frames() -> None:
    """Data sets that come as pictures."""


@frames.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--fps", type=float, help="Frames per second; without it the names tell the times.")
def pack(source: Path, target: Path, fps: float | None) -> None:
    """Make videos of the PNG or JPEG frames in SOURCE.

    A TARGET that ends in .mp4 takes the one sequence that SOURCE, a folder or a zip, holds. Any
    other TARGET is a folder and takes a video for every folder of frames and every zip below
    SOURCE. What was packed before and has not changed is left alone; what cannot be packed is named
    and the others go on, with exit status 1 at the end.
    """
    from fall_assets.datasets.frames import FramesError, Packed, pack_all
    from fall_assets.datasets.frames import pack as pack_one

    def show(packed: Packed) -> None:
        left_out = f", {packed.repeated} left out (same time)" if packed.repeated else ""
        click.echo(
            f"{packed.target}: {packed.frames} frames, {packed.duration_s:.1f} s{left_out}"
            if packed.is_new
            else f"{packed.target}: unchanged"
        )

    if target.suffix.lower() == ".mp4":
        show(pack_one(source, target, fps))
        return
    if source.is_file():
        show(pack_one(source, target / f"{source.stem}.mp4", fps))
        return
    made = failed = 0
    for result in pack_all(source, target, fps):
        if isinstance(result, FramesError):
            failed += 1
            click.echo(str(result), err=True)
        else:
            made += 1
            show(result)
    if not made and not failed:
        raise click.ClickException(f"no folder of frames and no zip lies below {source}")
    sys.exit(1 if failed else 0)
