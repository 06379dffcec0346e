"""A torchvision video network, fine-tuned end to end on frames of the films. Loads torch.

What belongs here: the networks, their weights, fitting one per plan in one process or several.
What does not: decoding (`films`), the steps of training (`fitting`).

Several GPUs: `processes=2` in the settings makes `fit` start
`python -m torch.distributed.run --nproc-per-node 2 -m fall_assets.learning.algorithms.video_process
TASK OUT` by itself. By hand, over several machines, write a task with `write_task` into a folder
that all of them see, and start the same there with torchrun's own options.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn
from torch import distributed as dist

from fall_assets.errors import PermanentFailureError
from fall_assets.features.extractors.weights import SUFFIXES, load_tensors, sha256_of
from fall_assets.features.settings import PictureSettings
from fall_assets.learning.algorithms.base import (
    FitContext,
    InputKind,
    Model,
    Plan,
    Progress,
    Scores,
)
from fall_assets.learning.algorithms.examples import class_chances, examples_of, window_ends
from fall_assets.learning.algorithms.files import (
    WEIGHTS_FILE,
    ModelFileError,
    load_any,
    load_state,
    read_settings,
    readable,
    together,
    write_settings,
    write_tensors,
)
from fall_assets.learning.algorithms.films import (
    Film,
    FilmAugmentation,
    FilmSettings,
    FilmStore,
    Pictures,
    batch_of_films,
    film_of,
    recent_film,
)
from fall_assets.learning.algorithms.fitting import (
    Batch,
    Group,
    NetworkTraining,
    draw,
    fit_network,
    parameters_of,
    partly,
    seeded,
)
from fall_assets.learning.dataset import LearningSet
from fall_assets.learning.device import AHEAD, Feeding, autocast, choose_device
from fall_assets.learning.inputs import SegmentInputs
from fall_assets.learning.windows import WindowSettings

NAME = "video-network"
WEIGHTS_VARIABLE = "FALL_VIDEO_WEIGHTS"
"""Names a file of weights, or a folder that holds some."""

_BATCH = 8
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PROCESS = "fall_assets.learning.algorithms.video_process"
_TASK_FILE, _EXAMPLES_FILE = "task.json", "examples.parquet"
# As the weights' `transforms()` say, in shares of the full range.
_STATISTICS = {
    "r3d_18": ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)),
    "mvit_v2_s": ((0.45, 0.45, 0.45), (0.225, 0.225, 0.225)),
    "tiny": ((0.45, 0.45, 0.45), (0.225, 0.225, 0.225)),
}


class VideoWeightsError(PermanentFailureError):
    """The weights of a video network are not to be had, or do not fit it."""


@dataclass(frozen=True)
class VideoSettings(NetworkTraining):
    """The network, what it sees of a window, and how it is fine-tuned.

    Attributes:
        network: `r3d_18` (33 million parameters), `mvit_v2_s` (34 million; wants 16 frames of
            224 pixels), or `tiny`, which a CPU trains in seconds.
        weights: torchvision's name (`KINETICS400_V1`), a local file's SHA-256 in hex (a state
            dict; `FALL_VIDEO_WEIGHTS` says where), or `random`, which is all that `tiny` has.
        frames: of each window, evenly apart.
        picture: what is seen of a frame; `long_side` is the side of the square.
        body_rate: share of the learning rate for all but the new last layer; 0 trains only that.
        processes: that train one network together, each on a GPU of its own where there are any.
    """

    network: Literal["r3d_18", "mvit_v2_s", "tiny"] = "r3d_18"
    weights: str = "KINETICS400_V1"
    frames: int = 16
    picture: PictureSettings = field(default_factory=lambda: PictureSettings(long_side=112))
    steps: int = 600
    batch: int = 16
    learning_rate: float = 5e-4
    body_rate: float = 0.2
    threads: int = 2
    processes: int = 1
    augmentation: FilmAugmentation = field(default_factory=FilmAugmentation)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames < 2 or self.processes < 1 or not 0 <= self.body_rate <= 1:
            raise ValueError("wanted are frames >= 2, processes >= 1 and 0 <= body_rate <= 1")
        if self.batch % self.processes:
            raise ValueError(f"{self.processes} processes cannot share batches of {self.batch}")
        if self.network == "mvit_v2_s" and (self.frames, self.picture.long_side) != (16, 224):
            raise ValueError("mvit_v2_s sees 16 frames of 224 pixels and nothing else")
        if self.network == "tiny" and self.weights != "random":
            raise ValueError("tiny has no weights: ask for weights='random' by that name")

    def film(self, windows: WindowSettings) -> FilmSettings:
        """How films are looked at."""
        return FilmSettings(self.frames, windows.window_s, self.picture)


class _Tiny(nn.Module):
    """Three small convolutions over space and time; norms that know no batch."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for outputs, stride in ((width, (1, 2, 2)), (2 * width, (2, 2, 2)), (2 * width, (2, 2, 2))):
            convolution = nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1)
            layers += [convolution, nn.GroupNorm(2, outputs), nn.ReLU()]
            inputs = outputs
        self.body = nn.Sequential(*layers)
        self.fc = nn.Linear(inputs * 16, 1)

    def forward(self, shown: Tensor) -> Tensor:
        """(n, 3, frames, height, width) -> (n, 1)."""
        maps = nn.functional.adaptive_avg_pool3d(self.body(shown), (4, 2, 2))
        odds: Tensor = self.fc(maps.flatten(1))
        return odds


class VideoNetwork(nn.Module):
    """A network with one output in place of its classes, and the statistics of its input."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, name: str, weights: Path | None = None) -> None:
        """`weights` is what `locate_video_weights` gave; None for random ones."""
        super().__init__()
        mean, deviation = _STATISTICS[name]
        shape = (1, 3, 1, 1, 1)
        self.register_buffer("mean", torch.tensor(mean).reshape(shape), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).reshape(shape), persistent=False)
        if name == "tiny":
            self.body: nn.Module = _Tiny()
            self.last = "fc"
            return
        from torchvision.models import get_model

        self.body = get_model(name, weights=None)
        self.last = [k for k, m in self.body.named_modules() if isinstance(m, nn.Linear)][-1]
        if weights is not None:
            _load_body(self.body, self.last, weights)
        parent, _, own = self.last.rpartition(".")
        width = cast("nn.Linear", self.body.get_submodule(self.last)).in_features
        setattr(self.body.get_submodule(parent), own, nn.Linear(width, 1))

    def groups(self, body_rate: float) -> list[Group]:
        """The last layer's weights, and the body's at a share of the rate."""
        last = list(self.body.get_submodule(self.last).parameters())
        ids = {id(weights) for weights in last}
        body = [weights for weights in self.body.parameters() if id(weights) not in ids]
        if body_rate > 0:
            return [Group(last), Group(body, body_rate)]
        for weights in body:
            weights.requires_grad_(False)
        return [Group(last)]

    def forward(self, shown: Tensor) -> Tensor:
        """Log odds: uint8 (n, frames, height, width, 3) -> (n,)."""
        # Turned and scaled here, on the device: bytes are a quarter of what would travel.
        values = shown.permute(0, 4, 1, 2, 3).float() / 255
        odds: Tensor = self.body((values - self.mean) / self.deviation)
        return odds.squeeze(-1)


def locate_video_weights(settings: VideoSettings) -> Path | None:
    """The file that holds a network's weights; None where they are random.

    A local file is looked for where `FALL_VIDEO_WEIGHTS` says; torchvision's there, then in torch
    hub's cache, into which they are fetched if they are in neither.

    Raises VideoWeightsError where there is no such file, saying how to get it.
    """
    if settings.weights == "random":
        return None
    place = os.environ.get(WEIGHTS_VARIABLE)
    brought = _files(Path(place)) if place else []
    if _SHA256.fullmatch(settings.weights):
        for path in brought:
            if sha256_of(path) == settings.weights:
                return path
        raise VideoWeightsError(
            f"no file has the SHA-256 {settings.weights} that the settings name (looked at "
            f"{len(brought)} files): point {WEIGHTS_VARIABLE} at the file or its folder"
        )
    from torchvision.models import get_model_weights

    published = get_model_weights(settings.network)
    if settings.weights not in published.__members__:
        raise VideoWeightsError(
            f"torchvision has no weights {settings.weights!r} for {settings.network}, only "
            f"{', '.join(published.__members__)}; or name a file's SHA-256, or 'random'"
        )
    url: str = published[settings.weights].url
    filename = url.rsplit("/", 1)[-1]
    cached = Path(torch.hub.get_dir()) / "checkpoints" / filename
    prefix = re.search(r"-([0-9a-f]{8,})\.", filename)
    wanted = prefix.group(1) if prefix else ""
    for path in (*(path for path in brought if path.name == filename), cached):
        if path.is_file():
            found = sha256_of(path)
            if not found.startswith(wanted):
                raise VideoWeightsError(
                    f"{path} has SHA-256 {found}, not {wanted}…: delete it, so that it is "
                    "fetched again"
                )
            return path
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(cached), wanted or None, progress=False)
    except (OSError, RuntimeError) as error:
        raise VideoWeightsError(
            f"the weights {settings.weights} of {settings.network} are not here and cannot be "
            f"fetched from {url} ({error}): bring the file from another machine and point "
            f"{WEIGHTS_VARIABLE} at it, or ask for 'random' ones by that name"
        ) from None
    return cached


@dataclass(frozen=True)
class VideoModel:
    """One network that sees frames."""

    settings: VideoSettings
    network: VideoNetwork
    windows: WindowSettings
    device: str | None = None

    @property
    def parameters(self) -> int:
        """Trained numbers."""
        return parameters_of(self.network)

    def scores(self, segment: SegmentInputs) -> Scores:
        """As `Model.scores`; the film is decoded once, on a GPU where there is one."""
        film = self.settings.film(self.windows)
        pictures = recent_film(film_of(segment), film)
        return self.scores_of(pictures, segment)

    def scores_of(self, pictures: Pictures, segment: SegmentInputs) -> Scores:
        """The same of a film that is decoded already."""
        film = self.settings.film(self.windows)
        device = choose_device(self.device)
        network = self.network.to(device).eval()
        ends = window_ends(segment, self.windows)
        parts = [np.zeros(0)]
        with torch.inference_mode(), autocast(device, self.settings.precision):
            for at in range(0, len(ends), _BATCH):
                where = [(0, end_s) for end_s in ends[at : at + _BATCH].tolist()]
                shown = torch.from_numpy(batch_of_films([pictures], where, film)).to(device)
                parts.append(torch.sigmoid(network(shown).double()).cpu().numpy())
        self.network.cpu()
        return Scores(ends, np.concatenate(parts), (None,) * len(ends))

    def save(self, folder: Path) -> None:
        """`model.json` and `weights.safetensors`."""
        write_tensors(folder, self.network.state_dict())
        values = {"settings": asdict(self.settings)}
        write_settings(folder, NAME, self.windows, values, WEIGHTS_FILE)


@dataclass(frozen=True)
class Task:
    """What one network learns from: films, windows of them, and which each step sees.

    `film` (the number of each one's in `films`), `end_s` and `target` (n,) are the examples,
    `drawn` (steps, batch) numbers of them.
    """

    settings: VideoSettings
    windows: WindowSettings
    seed: int
    device: str | None
    films: tuple[Film, ...]
    film: tuple[int, ...]
    end_s: tuple[float, ...]
    target: tuple[int, ...]
    drawn: tuple[tuple[int, ...], ...]


def train_task(
    task: Task,
    feeding: Feeding,
    *,
    films: Mapping[int, Pictures] | None = None,
    progress: Progress | None = None,
) -> VideoNetwork:
    """Train the network of a task; in a group of processes each takes its part of every batch.

    The batch of a step is the same however many processes share it, each example's changes as
    well, so that they train the same network within rounding (batch norms apart, which are
    shared only on GPUs).

    Args:
        task: everything that decides the network.
        feeding: told how training was fed.
        films: those that are decoded already, by number.
        progress: called with steps done and in all.
    """
    settings = task.settings
    rank, size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    device = choose_device(_of_rank(task.device))
    weights = locate_video_weights(settings)
    network = cast(
        "VideoNetwork", seeded(task.seed, lambda: VideoNetwork(settings.network, weights))
    )
    film = settings.film(task.windows)
    share = settings.batch // size
    drawn = np.asarray(task.drawn, np.int64)
    groups = network.groups(settings.body_rate)

    def wrap(module: nn.Module) -> nn.Module:
        if size == 1:
            return module
        ids = [device.index or 0] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(module, device_ids=ids)

    if size > 1 and device.type == "cuda":
        network = cast("VideoNetwork", _synchronised(network))
        groups = network.groups(settings.body_rate)
    with FilmStore(film) as store:
        shown_films = dict(films or {})
        for number, one in enumerate(task.films):
            if number not in shown_films:
                shown_films[number] = store.add(number, one)

        def batch_of(step: int) -> Batch:
            places = range(rank * share, (rank + 1) * share)
            own = drawn[step, rank * share : (rank + 1) * share].tolist()
            where = [(task.film[example], task.end_s[example]) for example in own]
            seeds = [(task.seed, step, place) for place in places]
            shown = batch_of_films(shown_films, where, film, settings.augmentation, seeds)
            target = torch.tensor([task.target[example] for example in own])
            return torch.from_numpy(shown), target

        trained = fit_network(
            network,
            batch_of,
            settings,
            # Dropout differs between processes, as it does between the parts of one batch.
            seed=task.seed + rank,
            device=device,
            feeding=feeding,
            groups=groups,
            wrap=wrap,
            progress=progress,
            # Cutting and changing windows is work of its own, also beside a CPU's.
            ahead=AHEAD,
        )
    return cast("VideoNetwork", trained)


class VideoFineTuning:
    """Films are decoded once per fit, and shared by its plans."""

    name: ClassVar[str] = NAME
    needs: ClassVar[frozenset[InputKind]] = frozenset({"frames"})

    def __init__(self, settings: VideoSettings) -> None:
        self.settings = settings
        self.feeding = Feeding()

    def fit(
        self, learning_set: LearningSet, plans: Sequence[Plan], context: FitContext
    ) -> list[Model]:
        """See `Algorithm.fit`; simulated windows of people teach nothing here."""
        self.feeding = Feeding()
        tasks = self.tasks(learning_set, plans, context)
        models: list[Model] = []
        with FilmStore(self.settings.film(context.windows)) as store:
            films: dict[int, Pictures] = {}
            for number, one in enumerate(tasks[0].films if tasks else ()):
                films[number] = store.add(number, one)
            for number, task in enumerate(tasks):
                progress = partly(context.progress, number, len(tasks))
                if self.settings.processes > 1:
                    # They open what is decoded already.
                    held = [
                        replace(one, path=store.place(place))
                        for place, one in enumerate(task.films)
                    ]
                    own = replace(task, films=tuple(held))
                    network = train_in_processes(own, self.feeding)
                else:
                    network = train_task(task, self.feeding, films=films, progress=progress)
                model = VideoModel(self.settings, network, context.windows, context.device)
                models.append(model)
        return models

    def tasks(
        self, learning_set: LearningSet, plans: Sequence[Plan], context: FitContext
    ) -> list[Task]:
        """One per plan. Raises MissingInputError where a film is not there."""
        examples = examples_of(learning_set)
        inputs = [learning_set.inputs(video_id) for video_id in examples.segments]
        tasks = []
        for plan in plans:
            numbers = examples.of(plan)
            share = self.settings.positive_share
            chances = class_chances(examples.target[numbers], examples.weight[numbers], share)
            drawn = draw(numbers, chances, plan.seed, self.settings)
            tasks.append(
                Task(
                    self.settings,
                    context.windows,
                    plan.seed,
                    context.device,
                    tuple(film_of(one) for one in inputs),
                    tuple(examples.segment.tolist()),
                    tuple(examples.end_s.tolist()),
                    tuple(examples.target.tolist()),
                    tuple(map(tuple, drawn.tolist())),
                )
            )
        return tasks

    def combine(self, models: Sequence[Model]) -> Model:
        """The mean of their log odds."""
        return together(list(models))

    def load(self, folder: Path) -> Model:
        """Read what was saved, checked against its SHA-256."""
        return load_any(folder, _load)


def write_task(task: Task, folder: Path) -> None:
    """Write a task for processes of their own: settings as JSON, examples as Parquet."""
    plain = {
        "settings": asdict(task.settings),
        "windows": asdict(task.windows),
        "seed": task.seed,
        "device": task.device,
        "films": [(str(film.path), film.duration_s, film.crop) for film in task.films],
        "drawn": task.drawn,
    }
    (folder / _TASK_FILE).write_text(json.dumps(plain))
    examples = {"film": task.film, "end_s": task.end_s, "target": task.target}
    pl.DataFrame(examples).write_parquet(folder / _EXAMPLES_FILE)


def read_task(folder: Path) -> Task:
    """What `write_task` wrote. Raises ModelFileError where it is damaged."""
    from fall_assets.learning.algorithms.registry import settings_of

    try:
        plain = json.loads((folder / _TASK_FILE).read_text())
        examples = pl.read_parquet(folder / _EXAMPLES_FILE)
        return Task(
            cast("VideoSettings", settings_of(NAME, plain["settings"])),
            WindowSettings(**plain["windows"]),
            plain["seed"],
            plain["device"],
            tuple(Film(Path(path), length, crop) for path, length, crop in plain["films"]),
            tuple(examples["film"].to_list()),
            tuple(examples["end_s"].to_list()),
            tuple(examples["target"].to_list()),
            tuple(map(tuple, plain["drawn"])),
        )
    except (OSError, KeyError, TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise ModelFileError(f"{folder} holds no readable task ({error})") from error


def train_in_processes(task: Task, feeding: Feeding) -> VideoNetwork:
    """Train a task in `settings.processes` processes of this machine, by torchrun.

    Raises PermanentFailureError with the end of what they said where they fail.
    """
    settings = task.settings
    locate_video_weights(settings)  # Here, so that no two of them fetch it at once.
    with tempfile.TemporaryDirectory(prefix="video-task-") as name:
        source, target = Path(name) / "task", Path(name) / "model"
        source.mkdir()
        target.mkdir()
        write_task(task, source)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={settings.processes}", "-m", _PROCESS]
        done = subprocess.run(  # noqa: S603 - our own module, no shell
            [*command, str(source), str(target)],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(settings.threads)},
        )
        if done.returncode:
            raise PermanentFailureError(
                f"training in {settings.processes} processes failed: {done.stderr[-2000:]}"
            )
        told = json.loads((target / "feeding.json").read_text())
        feeding.device, feeding.mixed = told["device"], told["mixed_precision"]
        feeding.batches += told["batches"]
        feeding.total_s += told["training_s"]
        feeding.wait_s += told["training_s"] * told["waiting_share"]
        return _load(target).network


def train_beside_others(source: Path, target: Path) -> None:
    """Be one process of a group that torchrun started; the first of them writes the model.

    Args:
        source: what `write_task` wrote; every process must see it, and the films.
        target: an existing folder, empty.
    """
    task = read_task(source)
    backend = "nccl" if choose_device(_of_rank(task.device)).type == "cuda" else "gloo"
    if backend == "nccl":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group(backend)
    try:
        if dist.get_rank() == 0:
            locate_video_weights(task.settings)
        dist.barrier()
        feeding = Feeding()
        network = train_task(task, feeding)
        if dist.get_rank() == 0:
            VideoModel(task.settings, network, task.windows).save(target)
            (target / "feeding.json").write_text(json.dumps(feeding.record()))
        dist.barrier()
    finally:
        dist.destroy_process_group()


def _synchronised(network: nn.Module) -> nn.Module:
    """The same with batch norms whose statistics all processes share."""
    convert: Any = nn.SyncBatchNorm.convert_sync_batchnorm
    shared: nn.Module = convert(network)
    return shared


def _of_rank(device: str | None) -> str | None:
    """The GPU of this process, where the group is to use GPUs and there are any."""
    wants_gpu = device in (None, "auto", "cuda")
    if dist.is_torchelastic_launched() and wants_gpu and torch.cuda.is_available():
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return device


def _files(place: Path) -> list[Path]:
    if place.is_dir():
        return sorted(path for path in place.iterdir() if path.suffix in SUFFIXES)
    if not place.is_file():
        raise VideoWeightsError(
            f"{WEIGHTS_VARIABLE} names {place}, which does not exist; point it at a file of "
            "weights, at a folder that holds some, or unset it"
        )
    return [place]


def _load_body(body: nn.Module, last: str, weights: Path) -> None:
    tensors: dict[str, Any] = load_tensors(weights)
    # Weights of a network that was trained on other classes differ here, and here only.
    own = body.state_dict()
    for part in ("weight", "bias"):
        tensors[f"{last}.{part}"] = own[f"{last}.{part}"]
    try:
        body.load_state_dict(tensors)
    except RuntimeError as error:
        raise VideoWeightsError(
            f"{weights} does not hold the weights of this network "
            f"({str(error).splitlines()[-1].strip()[:200]})"
        ) from None


def _load(folder: Path) -> VideoModel:
    from fall_assets.learning.algorithms.registry import settings_of

    content = read_settings(folder, NAME)
    with readable(folder):
        settings = cast("VideoSettings", settings_of(NAME, content["settings"]))
        windows = WindowSettings(**content["windows"])
    network = VideoNetwork(settings.network)
    load_state(network, folder)
    return VideoModel(settings, network.eval(), windows)
