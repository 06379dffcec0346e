"""Work spread over child processes: what they are told, what they answer, what a crash costs.

What belongs here: pipes, processes, deadlines. What does not: the work itself (`features/worker`,
`footage/probe_worker`) and what a crash means to its caller.

The children are plain processes with pipes rather than `multiprocessing`: that imports the
parent's main module into each child (for a Dagster run seconds of it), and one crash there breaks
everything in flight. They talk in length-prefixed chunks without pickle, so that a child that went
wrong can only say something wrong, not run something in the parent.
"""

from __future__ import annotations

import json
import os
import queue
import selectors
import signal
import struct
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Generic, Protocol, TypeVar

from fall_assets.errors import FallAssetsError, PermanentFailureError

T = TypeVar("T")
R = TypeVar("R")
Message = dict[str, Any]
Work = Callable[[Message], Iterable[bytes]]
"""What a child does with a task; the answer is some chunks."""

ATTEMPTS = 2
"""A task whose process ended is tried so many times in all: a crash may be another's fault."""

_LENGTH = struct.Struct("<Q")
_TAIL = 600
_GRACE_S = 5.0
_LAST_WORD_S = 1.0
_ONE_THREAD = dict.fromkeys(
    ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"
)


class BrokenWireError(Exception):
    """The other side is gone, in the middle of a chunk or before one."""


class Readable(Protocol):
    """The reading end of a pipe."""

    def read(self, size: int, /) -> bytes | None:
        """At most `size` bytes; nothing at the end."""


class Writable(Protocol):
    """The writing end of a pipe."""

    def write(self, content: bytes, /) -> int | None:
        """Write some of the bytes and say how many."""


def send(pipe: Writable, content: bytes) -> None:
    """Write one chunk. Raises BrokenWireError where nobody reads."""
    rest = memoryview(_LENGTH.pack(len(content)) + content)
    try:
        while rest:
            rest = rest[pipe.write(bytes(rest)) or 0 :]
    except BrokenPipeError as error:
        raise BrokenWireError from error


def receive(pipe: Readable) -> bytes:
    """Read one chunk. Raises BrokenWireError where the pipe ends first."""
    return _exactly(pipe, _LENGTH.unpack(_exactly(pipe, _LENGTH.size))[0])


def send_json(pipe: Writable, content: Message) -> None:
    """Write a JSON object as one chunk."""
    send(pipe, to_json(content))


def receive_json(pipe: Readable) -> Message:
    """Read a JSON object."""
    content: Message = json.loads(receive(pipe))
    return content


def to_json(content: Message) -> bytes:
    """A JSON object as a chunk's content."""
    return json.dumps(content).encode()


def _exactly(pipe: Readable, size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        part = pipe.read(min(size, 1 << 20))
        if not part:
            raise BrokenWireError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


# The child ------------------------------------------------------------------------------------


def serve(prepare: Callable[[Message], Work]) -> None:
    """Answer tasks from standard input until it ends; what a child process runs.

    The first message is the greeting, of which `prepare` makes the work; each later one is a task.
    Expected failures (FallAssetsError) of either are answered as {"error": text}; anything else
    ends the process with a traceback, which the parent reads. The process ends at once when its
    parent is gone, in the middle of a task too.
    """
    # The parent decides when to stop; an interrupt from the terminal reaches both.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    # Whatever libraries print must not end up between the answers.
    os.dup2(2, 1)
    requests = os.fdopen(os.dup(0), "rb", buffering=0)
    greeting = receive_json(requests)
    try:
        work = prepare(greeting)
    except FallAssetsError as error:
        send_json(answers, {"error": str(error)})
        return
    send_json(answers, {"error": None})
    waiting: queue.SimpleQueue[Message] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, waiting), daemon=True).start()
    while True:
        task = waiting.get()
        try:
            chunks = work(task)
        except FallAssetsError as error:
            send_json(answers, {"error": str(error)})
        else:
            send_json(answers, {"error": None})
            for chunk in chunks:
                send(answers, chunk)


def _listen(requests: Readable, waiting: queue.SimpleQueue[Message]) -> None:
    while True:
        try:
            task = receive_json(requests)
        except BrokenWireError:
            os._exit(0)
        waiting.put(task)


# The parent -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Program(Generic[T, R]):
    """The work that is spread.

    Attributes:
        command: the program; it calls `serve`.
        greeting: what each process is told first.
        describe: a task as JSON.
        receive: reads the chunks that answer a task, after the first one.
        name: what a process is called in messages.
        deadline_s: how long a task may take; None for ever.
    """

    command: Sequence[str]
    greeting: Message
    describe: Callable[[T], Message]
    receive: Callable[[Readable], R]
    name: str = "a worker"
    deadline_s: Callable[[T], float] | None = None


@dataclass(frozen=True)
class Failed:
    """A task without a result.

    Attributes:
        error: what the process answered, or how it ended and the last that it printed.
        why: 'said' by the process itself; it 'crashed' ATTEMPTS times; it 'took_too_long' by the
            clock or in processor time and was ended.
    """

    error: str
    why: str = "said"


def spread(
    program: Program[T, R], tasks: Iterable[T], *, workers: int
) -> Iterator[tuple[T, R | Failed]]:
    """Give tasks to at most `workers` processes; yield each with what came of it, as it comes.

    Every task gives exactly one outcome. A process that ends costs the task it worked on and
    nothing else. Tasks are drawn when a process is free for them; none starts without a task. The
    processes end with the iterator, and with this process however it ends.

    Raises PermanentFailureError where a process cannot start its work.
    """
    source = iter(tasks)
    again: deque[tuple[T, int]] = deque()
    team: list[_Child[T, R]] = []
    with selectors.DefaultSelector() as answers:

        def draw() -> tuple[T, int] | None:
            for task in source:
                return task, 1
            return again.popleft() if again else None

        def hire() -> bool:
            drawn = draw()
            if drawn is None:
                return False
            child = _Child(program, *drawn)
            team.append(child)
            answers.register(child.answers, selectors.EVENT_READ, child)
            return True

        def dismiss(child: _Child[T, R], grace_s: float = 0.0) -> tuple[int, str]:
            # Unregistered first: a closed file cannot be.
            answers.unregister(child.answers)
            team.remove(child)
            return child.end(grace_s)

        def failure(child: _Child[T, R], *, is_late: bool) -> Failed | None:
            task, attempt = child.task, child.attempt
            status, how = dismiss(child, 0.0 if is_late else _GRACE_S)
            if is_late or status == -signal.SIGXCPU:
                failed = Failed(how, "took_too_long")
            elif attempt < ATTEMPTS:
                again.append((task, attempt + 1))
                failed = None
            else:
                failed = Failed(how, "crashed")
            hire()
            return failed

        try:
            while len(team) < workers and hire():
                pass
            while team:
                ready = [key.data for key, _ in answers.select(_patience(team))]
                # Who is ready is never late: reading another's answer may have taken the time.
                late = [] if ready else [child for child in team if child.remaining_s() <= 0]
                for child in ready:
                    task = child.task
                    outcome: R | Failed | None
                    if not child.is_greeted:
                        child.greet()
                        continue
                    try:
                        outcome = child.result()
                    except BrokenWireError:
                        outcome = failure(child, is_late=child.remaining_s() <= 0)
                    else:
                        drawn = draw()
                        if drawn is None:
                            dismiss(child)
                        else:
                            child.start(*drawn)
                    if outcome is not None:
                        yield task, outcome
                for child in late:
                    outcome = failure(child, is_late=True)
                    if outcome is not None:
                        yield child.task, outcome
        finally:
            for child in team:
                child.end()


def _patience(team: Sequence[_Child[Any, Any]]) -> float | None:
    shortest = min(child.remaining_s() for child in team)
    return None if shortest == float("inf") else max(shortest, 0.0)


class _Child(Generic[T, R]):
    """One process and the task that it works on, or will once it is ready."""

    def __init__(self, program: Program[T, R], task: T, attempt: int) -> None:
        self.task, self.attempt = task, attempt
        self.is_greeted = False
        self._program = program
        self._until_s = float("inf")
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by end
        self._process = subprocess.Popen(  # noqa: S603 - the command is ours
            program.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **_ONE_THREAD, "PYTHONPATH": _python_path()},
            bufsize=0,
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("the pipes were asked for")
        self._requests = self._process.stdin
        self.answers = self._process.stdout
        self._say(program.greeting)

    def greet(self) -> None:
        """Hear that it is ready, and give it its task.

        Raises PermanentFailureError where it cannot work.
        """
        try:
            problem = receive_json(self.answers)["error"]
        except BrokenWireError:
            problem = f"it ended: {self.end(_GRACE_S)[1]}"
        if problem is not None:
            raise PermanentFailureError(f"{self._program.name} cannot start: {problem}")
        self.is_greeted = True
        self.start(self.task, self.attempt)

    def start(self, task: T, attempt: int) -> None:
        """Give it a task."""
        self.task, self.attempt = task, attempt
        if self._program.deadline_s is not None:
            self._until_s = time.monotonic() + self._program.deadline_s(task)
        self._say(self._program.describe(task))

    def remaining_s(self) -> float:
        """Time left for the task; infinity where there is no deadline."""
        return self._until_s - time.monotonic()

    def result(self) -> R | Failed:
        """Read what came of the task. Raises BrokenWireError where the process is gone."""
        # A process that hangs in the middle of its answer is ended, so that reading ends, too.
        remaining_s = self.remaining_s()
        watch = (
            None
            if remaining_s == float("inf")
            else threading.Timer(max(remaining_s, _LAST_WORD_S), self._process.kill)
        )
        if watch is not None:
            watch.daemon = True
            watch.start()
        try:
            problem = receive_json(self.answers)["error"]
            return self._program.receive(self.answers) if problem is None else Failed(problem)
        finally:
            if watch is not None:
                watch.cancel()

    def end(self, grace_s: float = 0.0) -> tuple[int, str]:
        """End the process; its exit status (minus the signal), and that and its last words.

        `grace_s` is how long it may take to end by itself.
        """
        self._requests.close()
        self.answers.close()
        try:
            status = self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        if self._errors.closed:
            return status, "it was ended"
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - _TAIL))
        printed = self._errors.read().decode(errors="replace").strip()
        self._errors.close()
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return status, f"{how}; {printed}" if printed else how

    def _say(self, content: Mapping[str, Any]) -> None:
        try:
            send_json(self._requests, dict(content))
        except BrokenWireError:
            # It is gone; reading from it says so.
            return


def _python_path() -> str:
    """This package stays importable wherever the parent found it."""
    home = str(Path(__file__).resolve().parents[1])
    inherited = os.environ.get("PYTHONPATH")
    return f"{home}{os.pathsep}{inherited}" if inherited else home
