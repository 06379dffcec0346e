"""Frame sequences become videos: with their times, whole or not at all, and the same ones again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from fall_assets.commands.frames import frames as command
from fall_assets.datasets import frames
from fall_assets.datasets.frames import FramesError, pack, pack_all
from fall_assets.footage.probe import probe
from fall_assets_tests.datasets.pictures import decoded, encoded, picture


def sequence(folder: Path, *numbers: int, name: str = "fall-01-cam0-rgb-{:03}.png") -> Path:
    for number in numbers:
        picture(folder / name.format(number), number)
    return folder


def archive(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    return path


def test_numbered_frames_stand_at_their_numbers_times(tmp_path: Path) -> None:
    sequence(tmp_path / "s", 1, 2, 3, 5, 11, 10)
    packed = pack(tmp_path / "s", tmp_path / "v.mp4", 30)
    assert (packed.frames, packed.is_new, packed.repeated) == (6, True, 0)
    shown = decoded(tmp_path / "v.mp4")
    assert [seed for _at, seed in shown] == [1, 2, 3, 5, 10, 11]
    # Number 4 and 6 to 9 are missing: their time stays empty, as labels by number need it.
    assert [at for at, _seed in shown] == pytest.approx([n / 30 for n in (0, 1, 2, 4, 9, 10)])
    found = probe(tmp_path / "v.mp4", settle_s=0)
    assert (found.width, found.height, found.frames, found.codec) == (32, 24, 6, "h264")


def test_every_tenth_frame_is_a_sequence(tmp_path: Path) -> None:
    sequence(tmp_path / "s", 10, 20, 30, name="{}.png")
    pack(tmp_path / "s", tmp_path / "v.mp4", 5)
    assert [at for at, _seed in decoded(tmp_path / "v.mp4")] == pytest.approx([0, 0.2, 0.4])


def test_up_falls_names_tell_their_times(tmp_path: Path) -> None:
    zipped = archive(
        tmp_path / "Subject1Activity1Trial1Camera1.zip",
        {
            f"2018-07-04T12_04_{second}.png": encoded(".png", seed)
            for seed, second in enumerate(("59.738369", "59.790509", "59.9", "17.000001"))
        },
    )
    pack(zipped, tmp_path / "v.mp4")
    shown = decoded(tmp_path / "v.mp4")
    assert [seed for _at, seed in shown] == [3, 0, 1, 2]
    expected = [0, 42.738368, 42.790508, 42.899999]
    assert [at for at, _seed in shown] == pytest.approx(expected, abs=2e-5)


def test_pictures_of_one_time_are_shown_once(tmp_path: Path) -> None:
    for name in ("2018-07-04T12_04_17.1.png", "2018-07-04T12_04_17.100.png"):
        picture(tmp_path / "s" / name)
    packed = pack(tmp_path / "s", tmp_path / "v.mp4")
    assert (packed.frames, packed.repeated) == (1, 1)


def test_jpeg_frames_and_odd_sizes(tmp_path: Path) -> None:
    for number in (0, 1, 2):
        picture(tmp_path / "s" / f"{number}.jpg", number, width=33, height=25)
    pack(tmp_path / "s", tmp_path / "v.mp4", 10)
    assert [seed for _at, seed in decoded(tmp_path / "v.mp4")] == [0, 1, 2]
    found = probe(tmp_path / "v.mp4", settle_s=0)
    assert (found.width, found.height) == (33, 25)


def test_the_same_frames_give_the_same_file_and_are_packed_once(tmp_path: Path) -> None:
    sequence(tmp_path / "s", 1, 2, 3)
    target = tmp_path / "v.mp4"
    assert pack(tmp_path / "s", target, 30).is_new
    first, status = target.read_bytes(), target.stat()
    again = pack(tmp_path / "s", target, 30)
    assert not again.is_new
    assert again.frames == 3
    assert target.stat().st_mtime_ns == status.st_mtime_ns
    target.unlink()
    pack(tmp_path / "s", target, 30)
    assert target.read_bytes() == first
    # A change of the frames or of the rate makes it anew.
    assert pack(tmp_path / "s", target, 15).is_new
    picture(tmp_path / "s" / "fall-01-cam0-rgb-004.png", 4)
    assert pack(tmp_path / "s", target, 15).frames == 4
    assert len(decoded(target)) == 4


def test_a_file_that_is_no_video_of_ours_is_replaced(tmp_path: Path) -> None:
    sequence(tmp_path / "s", 1, 2)
    (tmp_path / "v.mp4").write_text("half a video")
    assert pack(tmp_path / "s", tmp_path / "v.mp4", 30).is_new
    assert len(decoded(tmp_path / "v.mp4")) == 2


def bad(tmp_path: Path, what: str) -> tuple[Path, float | None]:
    """A source that cannot be packed."""
    source, fps = tmp_path / "s", 30.0
    if what == "empty":
        source.mkdir()
    elif what == "absent":
        pass
    elif what == "no zip":
        source = tmp_path / "s.zip"
        source.write_bytes(b"PK\x03\x04 cut")
    elif what == "cut zip":
        source = archive(tmp_path / "s.zip", {f"{n}.png": encoded(".png", n) for n in range(9)})
        source.write_bytes(source.read_bytes()[:-200])
    elif what == "damaged member":
        source = archive(tmp_path / "s.zip", {"1.png": encoded(".png"), "2.png": b"x" * 500})
    elif what == "wrong sum":
        source = tmp_path / "s.zip"
        with zipfile.ZipFile(source, "w") as zipped:
            zipped.writestr("1.png", encoded(".png"))
        source.write_bytes(source.read_bytes().replace(b"IDAT", b"IDAX", 1))
    elif what == "two sequences":
        source = archive(tmp_path / "s.zip", {"a/1.png": b"", "b/1.png": b""})
    elif what == "sizes":
        sequence(source, 1, 2)
        picture(source / "fall-01-cam0-rgb-003.png", 3, width=48)
    elif what == "same number":
        sequence(source, 1, 2)
        picture(source / "fall-02-cam0-rgb-002.png")
    elif what == "jump":
        sequence(source, 1, 2, 3, 400)
    elif what == "no number":
        picture(source / "picture.png")
    elif what == "no times":
        sequence(source, 1, 2)
        return source, None
    elif what == "no day":
        picture(source / "2018-02-30T12_04_17.1.png")
        return source, None
    elif what == "text":
        sequence(source, 1)
        (source / "fall-01-cam0-rgb-002.png").write_text("not a picture")
    elif what == "cut picture":
        sequence(source, 1)
        (source / "fall-01-cam0-rgb-001.png").write_bytes(encoded(".png")[:40])
    elif what == "large picture":
        picture(source / "1.png", width=5000, height=3000)
    elif what == "claims to be large":
        content = bytearray(encoded(".png"))
        content[16:24] = (100_000).to_bytes(4, "big") * 2
        source.mkdir()
        (source / "1.png").write_bytes(bytes(content))
    elif what == "link out":
        (tmp_path / "secret.png").write_bytes(encoded(".png"))
        source.mkdir()
        (source / "1.png").symlink_to(tmp_path / "secret.png")
    elif what == "named pipe":
        sequence(source, 1)
        os.mkfifo(source / "2.png")
    elif what == "zip bomb":
        source = archive(tmp_path / "s.zip", {"1.png": bytes(frames.MAX_FRAME_BYTES + 5)})
    elif what == "rate":
        sequence(source, 1, 2)
        fps = 0.0
    return source, fps


@pytest.mark.parametrize(
    ("what", "part"),
    [
        ("empty", "holds no PNG or JPEG frames"),
        ("absent", "there is no folder or zip"),
        ("no zip", "cannot be opened as a zip"),
        ("cut zip", "cannot be opened as a zip"),
        ("damaged member", "2.png in"),
        ("wrong sum", "fetch the zip again"),
        ("two sequences", "several sequences (a, b, ...)"),
        ("sizes", "48x24 in size, the first frame 32x24"),
        ("same number", "have the same number"),
        ("jump", "jump from fall-01-cam0-rgb-003.png to fall-01-cam0-rgb-400.png"),
        ("no number", "has no number"),
        ("no times", "give the frames per second"),
        ("no day", "tell no times"),
        ("text", "fall-01-cam0-rgb-002.png"),
        ("cut picture", "fall-01-cam0-rgb-001.png"),
        ("large picture", "more than 9437184 pixels"),
        ("claims to be large", "more than 9437184 pixels"),
        ("link out", "is not a plain file"),
        ("named pipe", "is not a plain file"),
        ("zip bomb", "larger than 64 MiB"),
        ("rate", "0 frames per second cannot be"),
    ],
)
def test_what_cannot_be_packed_says_why_and_leaves_nothing(
    what: str, part: str, tmp_path: Path
) -> None:
    source, fps = bad(tmp_path, what)
    out = tmp_path / "out"
    with pytest.raises(FramesError) as told:
        pack(source, out / "v.mp4", fps)
    assert part in str(told.value)
    assert str(source) in str(told.value) or what == "rate"
    assert not out.exists() or list(out.iterdir()) == []


def test_a_failure_keeps_the_video_that_was_there(tmp_path: Path) -> None:
    source = sequence(tmp_path / "s", 1, 2)
    target = tmp_path / "v.mp4"
    pack(source, target, 30)
    before = target.read_bytes()
    (source / "fall-01-cam0-rgb-003.png").write_text("not a picture")
    with pytest.raises(FramesError):
        pack(source, target, 30)
    assert target.read_bytes() == before


def test_names_in_a_zip_lead_nowhere(tmp_path: Path) -> None:
    zipped = archive(
        tmp_path / "in" / "s.zip",
        {
            "../../evil-001.png": encoded(".png", 1),
            "../../evil-002.png": encoded(".png", 2),
            "__MACOSX/._evil-001.png": b"",
        },
    )
    pack(zipped, tmp_path / "out" / "v.mp4", 30)
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*"))
    assert files == ["in/s.zip", "out/v.mp4"]


def test_a_tree_of_folders_and_zips_becomes_a_tree_of_videos(tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    sequence(source / "fall" / "fall-01-cam0-rgb", 1, 2)
    sequence(source / "fall" / "fall-02-cam0-rgb", 1, 2)
    (source / "fall" / "fall-02-cam0-rgb" / "fall-02-cam0-rgb-003.png").write_text("damaged")
    members = {f"adl-01-cam0-rgb/adl-01-cam0-rgb-{n:03}.png": encoded(".png", n) for n in (1, 2)}
    archive(source / "adl" / "adl-01-cam0-rgb.zip", members)
    done = CliRunner().invoke(command, ["pack", str(source), str(target), "--fps", "30"])
    assert done.exit_code == 1
    assert "fall-02-cam0-rgb-003.png" in done.stderr
    made = sorted(path.relative_to(target).as_posix() for path in target.rglob("*.mp4"))
    assert made == ["adl/adl-01-cam0-rgb.mp4", "fall/fall-01-cam0-rgb.mp4"]
    assert done.stdout.count("2 frames, 0.0 s") == 2
    # The damaged one is repaired: only it is packed.
    picture(source / "fall" / "fall-02-cam0-rgb" / "fall-02-cam0-rgb-003.png", 3)
    results = list(pack_all(source, target, 30))
    assert [result.is_new for result in results if not isinstance(result, FramesError)] == [
        False,
        False,
        True,
    ]


def test_the_command_packs_one_sequence(tmp_path: Path) -> None:
    sequence(tmp_path / "s", 1, 2)
    target = str(tmp_path / "v.mp4")
    arguments = ["pack", str(tmp_path / "s"), target, "--fps", "25"]
    assert "2 frames" in CliRunner().invoke(command, arguments).stdout
    assert "unchanged" in CliRunner().invoke(command, arguments).stdout
    nothing = CliRunner().invoke(command, ["pack", str(tmp_path), str(tmp_path / "o")])
    assert nothing.exit_code == 1
    assert "give the frames per second" in nothing.stderr


_SLOWLY = """
import sys, time
from pathlib import Path
from fall_assets.datasets import frames
whole = frames._decode
def slowly(*arguments):
    print("frame", flush=True)
    time.sleep(0.05)
    return whole(*arguments)
frames._decode = slowly
frames.pack(Path(sys.argv[1]), Path(sys.argv[2]), 30)
"""


def test_a_killed_run_leaves_no_video_and_a_later_one_cleans_up(tmp_path: Path) -> None:
    sequence(tmp_path / "s", *range(1, 100))
    out = tmp_path / "out"
    command = [sys.executable, "-c", _SLOWLY, str(tmp_path / "s"), str(out / "v.mp4")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline() == "frame\n"
        process.send_signal(signal.SIGKILL)
    (left,) = out.iterdir()
    assert left.name.startswith(".")
    old = time.time() - 7200
    os.utime(left, (old, old))
    pack(tmp_path / "s", out / "v.mp4", 30)
    assert [path.name for path in out.iterdir()] == ["v.mp4"]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=12, unique=True), st.integers(0, 10**6))
def test_frames_stand_in_the_order_of_their_numbers(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int], first: int
) -> None:
    folder = tmp_path_factory.mktemp("frames")
    ones = sorted({*numbers, *range(min(numbers), min(numbers) + 2)})
    for number in ones:
        picture(folder / "s" / f"f{first + number}.png", number % 20)
    pack(folder / "s", folder / "v.mp4", 50)
    shown = decoded(folder / "v.mp4")
    assert [seed for _at, seed in shown] == [number % 20 for number in ones]
    expected = [(number - ones[0]) / 50 for number in ones]
    assert [at for at, _seed in shown] == pytest.approx(expected, abs=1e-4)
