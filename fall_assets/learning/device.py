"""Where a network trains: the device, its precision, and how long it waits for data.

What belongs here: choosing a GPU, mixed precision, feeding batches ahead of time, and what is
reported of it. What does not: networks and their training. torch is loaded when functions run.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from fall_assets.errors import PermanentFailureError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

Precision = Literal["auto", "full"]
"""'auto': bfloat16 where the device multiplies it faster (a GPU), else float32 throughout."""

AHEAD = 4
"""Batches that are made ahead of a GPU: a few even out the slow ones, more only cost memory."""


class DeviceError(PermanentFailureError):
    """A device was asked for that this machine has not."""


def choose_device(asked: str | None = None) -> torch.device:
    """The device to train on; None or 'auto' is a GPU where torch sees one, else the CPU.

    Raises DeviceError where the one that was named is not there.
    """
    import torch

    if asked is None or asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(asked)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(
            f"there is no device {asked!r} here ({str(error).splitlines()[0]}): name 'cpu', "
            "'cuda', or 'auto' for whichever there is"
        ) from None
    return device


def autocast(device: torch.device, precision: Precision = "auto") -> AbstractContextManager[Any]:
    """Mixed precision where it pays. bfloat16 has float32's range, so no loss needs scaling."""
    import torch

    if precision == "full" or device.type != "cuda":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


@contextmanager
def reproducible(threads: int, seed: int) -> Iterator[None]:
    """Seeded, a fixed number of threads and the same algorithms on a GPU each time.

    The caller's random numbers and settings are left as they were.
    """
    import torch

    before = torch.get_num_threads()
    cudnn = torch.backends.cudnn
    kept = cudnn.deterministic, cudnn.benchmark
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    torch.set_num_threads(threads)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            yield
    finally:
        cudnn.deterministic, cudnn.benchmark = kept
        torch.set_num_threads(before)


@dataclass
class Feeding:
    """How training was fed, over all that it went through.

    `wait_s` of `total_s` seconds passed while the next batch was not there yet.
    """

    device: str = "cpu"
    mixed: bool = False
    batches: int = 0
    wait_s: float = 0.0
    total_s: float = 0.0

    @property
    def waiting_share(self) -> float:
        """Share of the time that training waited for data, 0 to 1; 0 where nothing was fed."""
        return self.wait_s / self.total_s if self.total_s > 0 else 0.0

    def record(self) -> dict[str, str | bool | int | float]:
        """As plain values, for a run's record."""
        return {
            "device": self.device,
            "mixed_precision": self.mixed,
            "batches": self.batches,
            "training_s": self.total_s,
            "waiting_share": self.waiting_share,
        }


@dataclass
class Fed(Generic[T]):
    """Batches in the order of `numbers`, made by a thread ahead of their use where `ahead` > 0.

    `make` must draw no random number from a shared generator: it runs beside training. An error
    in it is raised where its batch is asked for.
    """

    numbers: Iterable[int]
    make: Callable[[int], T]
    feeding: Feeding
    ahead: int = 0
    clock: Callable[[], float] = time.perf_counter
    _stop: threading.Event = field(default_factory=threading.Event)

    def __iter__(self) -> Iterator[T]:
        batches = self._threaded() if self.ahead > 0 else map(self.make, self.numbers)
        begun = asked = self.clock()
        try:
            for batch in batches:
                self.feeding.wait_s += self.clock() - asked
                self.feeding.batches += 1
                yield batch
                asked = self.clock()
        finally:
            self.feeding.total_s += self.clock() - begun

    def _threaded(self) -> Iterator[T]:
        ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(self.ahead)
        thread = threading.Thread(target=self._fill, args=(ready,), daemon=True)
        thread.start()
        try:
            while True:
                batch, error = ready.get()
                if error is not None:
                    raise error
                if batch is None:
                    return
                yield batch
        finally:
            self._stop.set()
            thread.join()

    def _fill(self, ready: queue.Queue[tuple[T | None, BaseException | None]]) -> None:
        def put(item: tuple[T | None, BaseException | None]) -> bool:
            while not self._stop.is_set():
                try:
                    ready.put(item, timeout=0.05)
                    return True
                except queue.Full:
                    continue
            return False

        try:
            for number in self.numbers:
                if not put((self.make(number), None)):
                    return
            put((None, None))
        except BaseException as error:
            put((None, error))
