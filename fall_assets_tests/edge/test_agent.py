from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fall_assets.edge.agent import AgentSettings, install_by_hand, run_agent
from fall_assets.edge.outbox import Outbox
from fall_assets.edge.package import verify_package
from fall_assets.edge.package_root import PackageRoot, RootInUseError
from fall_assets.edge.signing import generate_key, load_private_key
from fall_assets.errors import PermanentFailureError
from fall_assets_tests.edge.packages import Made, Platform, make_package, serving

LIMIT_S = 30.0


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same steps with shorter waits."""
    monkeypatch.setattr("fall_assets.edge.agent._TICK_S", 0.03)
    monkeypatch.setattr("fall_assets.edge.runner_child._BACKOFF_S", (0.1, 1.0))
    monkeypatch.setattr("fall_assets.edge.download._WAIT_S", (0.05, 1.0))


@pytest.fixture
def key(tmp_path: Path) -> Ed25519PrivateKey:
    generate_key(tmp_path / "key.pem", tmp_path / "trust.pem")
    return load_private_key(tmp_path / "key.pem")


@pytest.fixture
def platform(key: Ed25519PrivateKey) -> Iterator[Platform]:
    with serving(Platform(key)) as platform:
        yield platform


class Box:
    """A box with its folder; its agent runs in a thread or as a process."""

    def __init__(self, folder: Path, platform: Platform) -> None:
        self.folder, self.platform = folder, platform
        self.root = PackageRoot(folder / "root")
        (folder / "token").write_text("fa_box_" + "a" * 43)
        (folder / "token").chmod(0o600)
        self.config = folder / "edge.toml"
        self.config.write_text(
            f'box = "box-1"\ngateway = "{platform.url}"\ntoken_file = "token"\n'
            '[[cameras]]\nid = "cam-1"\nurl = "rtsp://127.0.0.1:1/a"\n'
            '[[cameras]]\nid = "cam-2"\nurl = "rtsp://127.0.0.1:1/b"\n'
        )
        self.trust = folder / "trust.pem"

    def settings(self, **changes: float) -> AgentSettings:
        usual = {"poll_s": 0.1, "probation_s": 0.3, "patience_s": 20.0, "self_test_s": 10.0}
        return AgentSettings(self.config, self.root.folder, (self.trust,), **{**usual, **changes})

    @contextmanager
    def agent(self, **changes: float) -> Iterator[None]:
        stop = threading.Event()
        failed: list[BaseException] = []

        def run() -> None:
            try:
                run_agent(self.settings(**changes), stop)
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(LIMIT_S)
        assert not thread.is_alive()
        assert not failed, failed

    def process(self) -> subprocess.Popen[bytes]:
        code = (
            "import sys; from pathlib import Path;"
            "from fall_assets.edge.agent import AgentSettings, run_agent;"
            "run_agent(AgentSettings(Path(sys.argv[1]), Path(sys.argv[2]), (Path(sys.argv[3]),),"
            " 0.1, 0.3, 20, 10))"
        )
        return subprocess.Popen(
            [sys.executable, "-c", code, self.config, self.root.folder, self.trust],
            stderr=subprocess.DEVNULL,
        )

    def runners(self) -> list[list[str]]:
        """Command lines of the runners of this box."""
        found = {}
        for process in psutil.process_iter(["cmdline", "pid", "ppid"]):
            words = process.info["cmdline"] or []
            if "run" in words and any(str(self.root.states) in word for word in words):
                found[process.info["pid"]] = (process.info["ppid"], words)
        # A shell is there twice for the moment in which it starts `sleep`.
        return [words for parent, words in found.values() if parent not in found]

    def runs(self, made: Made | None) -> bool:
        """Whether just this package's runner runs."""
        here = [" ".join(words) for words in self.runners()]
        if made is None:
            return not here
        return len(here) == 1 and made.manifest.sha256 in here[0]


@pytest.fixture
def box(tmp_path: Path, platform: Platform) -> Iterator[Box]:
    box = Box(tmp_path, platform)
    yield box
    for process in psutil.process_iter(["cmdline"]):
        if str(box.root.states) in " ".join(process.info["cmdline"] or []):
            process.kill()
    assert not [one for one in box.root.packages.iterdir() if "by-hand" in one.name]


def until(condition: Callable[[], object], what: str = "") -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, f"not within {LIMIT_S} s: {what or condition}"
        time.sleep(0.02)


def _packages(folder: Path, key: Ed25519PrivateKey) -> tuple[Made, Made]:
    return make_package(folder, key, sequence=1), make_package(folder, key, sequence=2, model="2")


def test_what_is_assigned_is_installed_and_told(box: Box, platform: Platform) -> None:
    made = make_package(box.folder, platform.key)
    platform.offer(made)
    with box.agent():
        until(lambda: platform.polls > 1)
        assert box.runs(None)
        platform.assign(1, [made.part()])
        until(lambda: platform.told("healthy", made))
        assert platform.told("installed", made)
        assert box.runs(made)
        (words,) = box.runners()
        assert words[words.index("--cameras") + 1] == "cam-1,cam-2"
        assert "--shadow" not in words
        assert box.root.link.resolve() == box.root.package(made.manifest.sha256)
    assert box.runs(None)


def test_an_update_replaces_the_old_package_and_keeps_it(box: Box, platform: Platform) -> None:
    old, new = _packages(box.folder, platform.key)
    newest = make_package(box.folder, platform.key, sequence=3, model="3")
    platform.offer(old, new, newest)
    with box.agent():
        for serial, made in enumerate((old, new, newest)):
            platform.assign(serial, [made.part()])
            until(partial(platform.told, "healthy", made))
            assert box.runs(made)
        until(lambda: not box.root.package(old.manifest.sha256).exists(), "cleared")
        assert box.root.package(new.manifest.sha256).exists()
        assert not list(box.root.downloads.iterdir())


def test_parts_have_their_cameras_and_shadows_are_shadows(box: Box, platform: Platform) -> None:
    champion, challenger = _packages(box.folder, platform.key)
    shadow = make_package(box.folder, platform.key, sequence=3, model="3")
    platform.offer(champion, challenger, shadow)
    platform.assign(
        1,
        [
            champion.part(),
            challenger.part(["cam-2", "of-another-box"]),
            shadow.part(["cam-1"], shadow=True),
        ],
    )
    with box.agent():
        until(lambda: len(platform.told("healthy")) == 3)
        found = {
            next(
                one for one in (champion, challenger, shadow) if one.manifest.sha256 in words[1]
            ).manifest.sequence: (words[words.index("--cameras") + 1], "--shadow" in words)
            for words in box.runners()
        }
        assert found == {1: ("cam-1", False), 2: ("cam-2", False), 3: ("cam-1", True)}
        # The runner whose part stays as it is goes on.
        platform.assign(2, [champion.part(["cam-1"]), challenger.part(["cam-2"])])
        before = psutil.Process().children(recursive=True)
        until(lambda: len(box.runners()) == 2)
        assert len([one for one in before if one.is_running()]) >= 2


def test_two_live_packages_for_one_camera_are_refused(box: Box, platform: Platform) -> None:
    old, new = _packages(box.folder, platform.key)
    platform.offer(old, new)
    platform.assign(1, [old.part(["cam-1"]), new.part(["cam-1"])])
    with box.agent():
        until(lambda: any("cam-1" in why for why in platform.told("refused")))
        assert box.runs(None)


@pytest.mark.parametrize("how", ["not ok", "ends", "no program", "other model", "self-test"])
def test_a_package_that_does_not_come_up_is_given_up(
    how: str, box: Box, platform: Platform
) -> None:
    good = make_package(box.folder, platform.key)
    bad = {
        "not ok": lambda: make_package(box.folder, platform.key, sequence=2, ok=False),
        "ends": lambda: make_package(box.folder, platform.key, sequence=2, before="exit 3"),
        "no program": lambda: make_package(
            box.folder, platform.key, sequence=2, before="kill -9 $$"
        ),
        "other model": lambda: make_package(
            box.folder, platform.key, sequence=2, model="2", before="sed -i s/x/x/ /dev/null"
        ),
        "self-test": lambda: make_package(box.folder, platform.key, sequence=2, self_test=1),
    }[how]()
    part = bad.part()
    if how == "other model":
        part["model_version"] = "something else"
    platform.offer(good, bad)
    with box.agent(patience_s=1.5):
        platform.assign(1, [good.part()])
        until(lambda: platform.told("healthy", good))
        platform.assign(2, [part])
        told = "refused" if how in ("self-test", "other model") else "rolled_back"
        until(lambda: platform.told(told, bad))
        until(lambda: box.runs(good))
        polls = platform.polls
        until(lambda: platform.polls > polls + 5)
        # Not tried again under this assignment, but under the next one.
        assert box.runs(good)
        assert len(platform.told(told, bad)) == 1
        platform.assign(3, [part])
        until(lambda: len(platform.told(told, bad)) == 2)
        until(lambda: box.runs(good))
    assert box.root.link.resolve() == box.root.package(good.manifest.sha256)


def test_a_given_up_package_stays_given_up_after_a_restart(box: Box, platform: Platform) -> None:
    good = make_package(box.folder, platform.key)
    bad = make_package(box.folder, platform.key, sequence=2, ok=False)
    platform.offer(good, bad)
    with box.agent(patience_s=1.0):
        platform.assign(1, [good.part()])
        until(lambda: platform.told("healthy", good))
        platform.assign(2, [bad.part()])
        until(lambda: platform.told("rolled_back", bad))
    polls = platform.polls
    with box.agent(patience_s=1.0):
        until(lambda: platform.polls > polls + 5 and box.runs(good))
        assert len(platform.told("installed", bad)) == 1


def test_the_first_package_goes_on_being_tried(box: Box, platform: Platform) -> None:
    flag = box.folder / "flag"
    made = make_package(box.folder, platform.key, before=f"[ -e {flag} ] || exit 1")
    platform.offer(made)
    platform.assign(1, [made.part()])
    with box.agent():
        until(lambda: platform.told("refused", made))
        flag.touch()
        until(lambda: platform.told("healthy", made))


@pytest.mark.parametrize("how", ["tampered", "truncated", "wrong key", "longer"])
def test_what_is_not_genuine_is_refused_and_thrown_away(
    how: str, box: Box, platform: Platform
) -> None:
    good = make_package(box.folder, platform.key)
    other = Ed25519PrivateKey.generate()
    new = make_package(
        box.folder, other if how == "wrong key" else platform.key, sequence=2, padding=5000
    )
    platform.offer(good, new)
    content = platform.archives[new.archive_sha256]
    platform.archives[new.archive_sha256] = {
        "tampered": content[:2000] + bytes([content[2000] ^ 1]) + content[2001:],
        "truncated": content[:-100],
        "longer": content + b"more",
        "wrong key": content,
    }[how]
    with box.agent():
        platform.assign(1, [good.part()])
        until(lambda: platform.told("healthy", good))
        platform.assign(2, [new.part()])
        until(lambda: platform.told("refused", new))
        until(lambda: not list(box.root.downloads.iterdir()))
        assert box.runs(good)
        assert not box.root.package(new.manifest.sha256).exists()
        assert not platform.told("installed", new)
        if how == "tampered":
            # It came wrong; when it comes right it is taken, under the same assignment.
            platform.offer(new)
            until(lambda: platform.told("healthy", new) or len(platform.told("refused", new)) > 2)


def test_another_platforms_package_is_refused(box: Box, platform: Platform) -> None:
    made = make_package(box.folder, platform.key, platform="linux-riscv64")
    platform.offer(made)
    platform.assign(1, [made.part()])
    with box.agent():
        until(lambda: any("linux-riscv64" in why for why in platform.told("refused", made)))
        assert box.runs(None)


def test_an_older_package_needs_a_signed_word(box: Box, platform: Platform) -> None:
    old, new = _packages(box.folder, platform.key)
    platform.offer(old, new)
    with box.agent():
        platform.assign(1, [new.part()])
        until(lambda: platform.told("healthy", new))
        platform.assign(2, [old.part()])
        until(lambda: any("older" in why for why in platform.told("refused", old)))
        assert box.runs(new)
        platform.assign(3, [old.part()], allow_older=True)
        until(lambda: platform.told("healthy", old))
        assert box.runs(old)


def test_a_rollout_s_older_package_needs_a_signed_word_only_where_it_does_not_run(
    box: Box, platform: Platform
) -> None:
    champion, challenger = _packages(box.folder, platform.key)
    platform.offer(champion, challenger)
    everywhere = [challenger.part(), champion.part(shadow=True)]

    def good(serial: int) -> bool:
        state = box.root.load()
        return state.current is not None and (state.current.serial, state.on_probation) == (
            serial,
            False,
        )

    with box.agent():
        for serial, parts in enumerate(
            (
                [champion.part()],
                [champion.part(), challenger.part(shadow=True)],
                [
                    champion.part(),
                    challenger.part(["cam-1"]),
                    champion.part(["cam-1"], shadow=True),
                ],
                everywhere,
                # And back, to what ran in shadow.
                [champion.part()],
                everywhere,
                [challenger.part()],
            ),
            start=1,
        ):
            platform.assign(serial, parts)
            until(partial(good, serial), f"assignment {serial}")
        assert not platform.told("refused")
        # The challenger runs alone by now, and the champion is older, also as a shadow.
        for serial, parts in ((8, everywhere), (11, [champion.part()])):
            platform.assign(serial, parts)
            until(lambda: any("older" in why for why in platform.told("refused", champion)))
            assert box.runs(challenger)
            platform.updates.clear()
            platform.assign(serial + 1, parts, allow_older=True)
            until(partial(good, serial + 1), f"assignment {serial + 1}")
            platform.assign(serial + 2, [challenger.part()])
            until(partial(good, serial + 2), f"assignment {serial + 2}")


def test_a_replayed_assignment_is_refused_also_after_a_restart(
    box: Box, platform: Platform
) -> None:
    old, new = _packages(box.folder, platform.key)
    platform.offer(old, new)
    platform.assign(5, [old.part()], allow_older=True)
    replayed = platform.assignment
    with box.agent():
        until(lambda: platform.told("healthy", old))
        platform.assign(6, [new.part()])
        until(lambda: platform.told("healthy", new))
        platform.assignment = replayed
        until(lambda: any("replayed" in why for why in platform.told("refused")))
        assert box.runs(new)
    platform.updates.clear()
    with box.agent():
        until(lambda: any("replayed" in why for why in platform.told("refused")))
        assert box.runs(new)


@pytest.mark.parametrize("how", ["key", "box", "signature", "same serial"])
def test_a_forged_assignment_is_refused(how: str, box: Box, platform: Platform) -> None:
    old, new = _packages(box.folder, platform.key)
    platform.offer(old, new)
    with box.agent():
        platform.assign(1, [old.part()])
        until(lambda: platform.told("healthy", old))
        if how == "key":
            platform.assign(2, [new.part()], key=Ed25519PrivateKey.generate())
        elif how == "box":
            platform.assign(2, [new.part()], box="box-2")
        elif how == "same serial":
            platform.assign(1, [new.part()])
        else:
            assert platform.assignment is not None
            content, signature = platform.assignment
            platform.assignment = (content.replace(b'"serial": 1', b'"serial": 2'), signature)
        until(lambda: platform.told("refused"))
        assert box.runs(old)
        # A genuine one is still taken.
        platform.assign(2, [new.part()], box="*")
        until(lambda: platform.told("healthy", new))


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_cut_download_goes_on(knows_ranges: bool, box: Box, platform: Platform) -> None:
    made = make_package(box.folder, platform.key, padding=300_000)
    platform.offer(made)
    platform.knows_ranges = knows_ranges
    platform.cuts = [100_000, 50_000, 0] if knows_ranges else [100_000]
    platform.assign(1, [made.part()])
    with box.agent():
        until(lambda: platform.told("healthy", made))
    offsets = [int(one[6:-1] or 0) if one else 0 for one in platform.ranges]
    assert offsets[:2] == [0, 100_000]
    if knows_ranges:
        assert offsets == [0, 100_000, 150_000, 150_000]


def test_with_the_gateway_away_it_goes_on_with_what_it_has(box: Box, platform: Platform) -> None:
    made = make_package(box.folder, platform.key)
    platform.offer(made)
    platform.assign(1, [made.part()])
    with box.agent():
        until(lambda: platform.told("healthy", made))
    platform.away = True
    platform.updates.clear()
    with box.agent():
        until(lambda: box.runs(made))
    platform.away = False


def test_what_could_not_be_told_is_told_later(box: Box, platform: Platform) -> None:
    made = make_package(box.folder, platform.key)
    platform.offer(made)
    platform.assign(1, [made.part()])
    with box.agent(probation_s=1.0):
        until(lambda: platform.told("installed", made))
        platform.away = True
        until(lambda: not box.root.load().on_probation)
        assert not platform.told("healthy", made)
    platform.away = False
    with box.agent():
        until(lambda: platform.told("healthy", made))


def test_a_runner_that_ends_is_started_again(box: Box, platform: Platform) -> None:
    made = make_package(box.folder, platform.key)
    platform.offer(made)
    platform.assign(1, [made.part()])
    with box.agent():
        until(lambda: platform.told("healthy", made))
        health = box.root.states / "live-0" / "health.json"
        first = json.loads(health.read_text())["pid"]
        os.kill(first, signal.SIGKILL)
        until(lambda: health.exists() and json.loads(health.read_text())["pid"] != first)
        assert box.runs(made)


def test_a_package_that_was_damaged_on_disk_is_not_started(box: Box, platform: Platform) -> None:
    old, new = _packages(box.folder, platform.key)
    platform.offer(old, new)
    with box.agent():
        platform.assign(1, [old.part()])
        until(lambda: platform.told("healthy", old))
        platform.assign(2, [new.part()])
        until(lambda: platform.told("healthy", new))
    (box.root.package(new.manifest.sha256) / "model/model.json").write_text("damaged")
    platform.away = True
    with box.agent():
        until(lambda: box.runs(old))
    platform.away = False
    with box.agent():
        # It is fetched again.
        until(lambda: box.runs(new))
        verify_package(box.root.package(new.manifest.sha256), [platform.key.public_key()])


def test_sigterm_stops_the_runners(box: Box, platform: Platform) -> None:
    made = make_package(box.folder, platform.key)
    platform.offer(made)
    platform.assign(1, [made.part()])
    agent = box.process()
    until(lambda: platform.told("healthy", made))
    agent.terminate()
    assert agent.wait(LIMIT_S) == 0
    assert box.runs(None)


def test_killed_at_any_moment_of_an_update_it_comes_up_with_a_whole_package(
    box: Box, platform: Platform
) -> None:
    """The agent is killed at random moments while packages are fetched and switched."""
    dice = random.Random(7)
    made = [
        make_package(box.folder, platform.key, sequence=n, model=str(n), padding=200_000)
        for n in range(1, 4)
    ]
    platform.offer(*made)
    names = {one.manifest.sha256 for one in made}
    platform.assign(0, [made[0].part()])
    for serial in range(1, 16):
        agent = box.process()
        if dice.random() < 0.5:
            platform.cuts = [dice.randrange(200_000)]
        time.sleep(dice.uniform(0.2, 1.2))
        agent.kill()
        agent.wait(LIMIT_S)
        state = box.root.load()
        for setup in (state.current, state.previous):
            for name in setup.packages if setup is not None else ():
                verify_package(box.root.package(name), [platform.key.public_key()])
                assert name in names
        if dice.random() < 0.6:
            platform.assign(serial, [made[serial % 3].part()], allow_older=True)
    last = made[0]
    platform.assign(100, [last.part()], allow_older=True)
    agent = box.process()
    try:
        until(lambda: (state := box.root.load()).current is not None
              and state.current.serial == 100 and not state.on_probation)  # fmt: skip
        until(lambda: box.runs(last), "one runner, none left over")
    finally:
        agent.terminate()
        agent.wait(LIMIT_S)
    assert not [one for one in box.root.packages.iterdir() if one.name not in names]


def test_alerts_that_a_runner_left_are_delivered(box: Box, platform: Platform) -> None:
    from datetime import UTC, datetime

    made = make_package(box.folder, platform.key)
    platform.offer(made)
    (box.root.states / "live-1").mkdir()
    with Outbox(box.root.states / "live-1" / "outbox.sqlite") as outbox:
        outbox.put("a" * 16, {"alert_id": "a" * 16, "camera_id": "cam-1"}, at=datetime.now(UTC))
    platform.assign(1, [made.part()])
    with box.agent():
        until(lambda: any(one.get("alert_id") == "a" * 16 for one in platform.updates))


def test_one_agent_for_one_folder(box: Box, platform: Platform) -> None:
    made = make_package(box.folder, platform.key)
    with box.agent():
        until(lambda: platform.polls)
        with pytest.raises(RootInUseError):
            run_agent(box.settings(), threading.Event())
        with pytest.raises(RootInUseError):
            install_by_hand(made.archive, box.root.folder, [platform.key.public_key()])


def test_installed_by_hand_the_same_is_checked(box: Box, platform: Platform) -> None:
    old, new = _packages(box.folder, platform.key)
    trusted = [platform.key.public_key()]
    failing = make_package(box.folder, platform.key, sequence=9, self_test=1)

    def install(made: Made, allow_older: bool = False) -> None:
        install_by_hand(made.archive, box.root.folder, trusted, allow_older=allow_older)

    install(new)
    with pytest.raises(PermanentFailureError, match="older"):
        install(old)
    with pytest.raises(PermanentFailureError, match="self-test"):
        install(failing)
    new_archive = new.archive.read_bytes()
    new.archive.write_bytes(new_archive[:-50])
    with pytest.raises(PermanentFailureError):
        install(new)
    platform.away = True
    with box.agent():
        until(lambda: box.runs(new))
    install(old, allow_older=True)
    with box.agent():
        until(lambda: box.runs(old))
    platform.away = False
