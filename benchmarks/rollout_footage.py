"""The rollout on films: a small simulated hospital lives day by day, driven by Dagster alone.

Real MP4 files are rendered once and reach the landing folder a day at a time. A day is: a tick of
`footage_sensor` and its collection, a tick of `nightly_schedule` and its run (features,
predictions, alerts), nurses who answer every alert by the truth, and ticks of `rollout_sensor` with
the runs that they ask for, until they ask for nothing. The network is learned on the first days by
the job `lifecycle`; the versions are that network with other thresholds, so that it is known which
is worse.

- `worse`: the champion's network with its threshold lowered must be rolled back.
- `better`: that loose version is then made champion by hand. Its network with a threshold above
  most ordinary films must reach all cameras, through shadow, a small share and a half.
- `killed` (during `better`): the site is copied before decisions of the rollout; the process that
  takes them, `dagster job execute -j rolling_out`, is killed by SIGKILL at several moments (after a
  random while, and as soon as each table is written), what `rollout_sensor` then asks for is run,
  and decisions, evidence, places and aliases must be those of the site that nobody disturbed.
- `crash`: with a real `fall-gateway`, a box says that the next version's package ended three times;
  the guard must roll it back from all boxes. The packages' archives are made up (to build real ones
  takes minutes) and so are the box's words, as in the tests; the hospital's cameras report.

What was chosen so that some days suffice: six cameras, of which four films in ten hold a fall and
most others something that is easily taken for one (sitting down fast, lying on the floor); every
film is an episode of its own (`episode_min`), so that the loose version has some ten false alarms a
day; steps of a quarter and a half of the cameras, with at most four days each. To save time
the pose network looks at pictures of 192 pixels instead of 256 and learning is short: the detector
is a poor one. With two dozen labelled falls the library can tell little: `sensitivity_margin` is
.4. People label only the days that the network learns from: a stricter version misses a fall now
and then which the loose one sees, and a labelled one at a live step is, rightly, a guard's matter.

Takes about a quarter of an hour on two
cores, most of it for features.

Facts are on standard output, progress on standard error. Ends with 1 where anything is not so.

    python -m benchmarks.rollout_footage [--site DIR] [--days N] [--parts worse better killed crash]
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import polars as pl

from benchmarks.rollout_hospital import (
    BEGAN,
    Hospital,
    known,
    look,
    put,
    quietly,
    say,
    site_in,
    thresholds,
)
from fall_assets.automation.sensors import gateway_sensor
from fall_assets.commands.running import environment
from fall_assets.delivery.gateway import TOKEN_FILE
from fall_assets.edge.assignment import read_assignment
from fall_assets.edge.client import GatewayClient
from fall_assets.learning.detector import Detector
from fall_assets.pipeline.delivery import promote
from fall_assets.pipeline.edge import signing_key
from fall_assets.pipeline.models import champion, tracking
from fall_assets.pipeline.rollout import Rollout, newest
from fall_assets.rollout.machine import Decision
from fall_assets_tests.dagster_layer.ticks import run, tick
from fall_assets_tests.gateway.running import report, running
from fall_assets_tests.pipeline.packages import package
from fall_assets_tests.site import TestSite

PARTS: Final = ("worse", "better", "killed", "crash")
KILLS: Final = {
    "next": ("rollout_evidence", "rollout_cameras", "rollout", "start", "while"),
    "promote": ("rollout_cameras", "rollout", "while"),
}
"""Moments of a kill by the decision that is disturbed: a table's next version, or at random."""
LEAST_KILLS: Final = 5
GATEWAY: Final = """
[gateway]
url = "{url}"
reports_every_min = 0.001
"""
_REPOSITORY = Path(__file__).resolve().parents[1]
_SAME = ("rollout", "rollout_cameras", "rollout_evidence")
_PATIENCE_S = 180.0


@dataclass
class Facts:
    """What was shown, and what was not."""

    failed: list[str] = field(default_factory=list)

    def tell(self, part: str, shown: bool, facts: str) -> None:
        """Print one fact."""
        print(f"{'shown' if shown else 'NOT SHOWN':<9}  {part:<7} {facts}", flush=True)
        if not shown:
            self.failed.append(part)


def in_words(decision: Decision) -> str:
    """A decision with the numbers that it was taken on."""
    judged = decision.numbers.get("judgement")
    e_values = ""
    if judged is not None:
        e_values = f", e worse {judged['e_worse']:.3g}, e not worse {judged['e_not_worse']:.3g}"
    return f"{decision.day} {decision.action} -> {decision.state} {decision.share:.0%}{e_values}"


def as_environment(site: TestSite) -> dict[str, str]:
    """The environment of a process that works on a site."""
    return environment() | {
        "FALL_SITE": str(site.root),
        "FALL_CONFIG": str(site.root / "site.toml"),
        "PYTHONPATH": os.pathsep.join([str(_REPOSITORY), os.environ.get("PYTHONPATH", "")]),
    }


def go_on(hospital: Hospital, part: str, disturb: Disturb | None = None) -> Rollout:
    """Begin the rollout of the registered challenger and live until it ends or is held."""
    site = hospital.site
    say(f"{part}: {', '.join(look(site))}")
    while not known(site).here.ended and known(site).last.state != "held":
        if hospital.lived == len(hospital.days):
            break
        say(f"{part}: {hospital.live()}")
        before = disturb.copy(site) if disturb is not None else None
        look(site)
        say(f"{part}: {known(site).last.sentence}")
        if disturb is not None and before is not None:
            disturb.compare(before, site)
    for decision in known(site).history:
        print(f"           {part:<7} {in_words(decision)}")
    return known(site)


# Parts --------------------------------------------------------------------------------------------


def worse(hospital: Hospital, facts: Facts, loose: Detector) -> None:
    """A challenger that is worse on purpose goes back."""
    serving, version = champion(hospital.site.work.site)
    put(hospital.site, loose, "challenger")
    done = go_on(hospital, "worse")
    last = done.last
    where = done.history[-2].state if len(done.history) > 1 else "nowhere"
    judged = last.numbers.get("judgement")
    by_evidence = judged is not None and judged["e_worse"] >= done.settings.evidence
    now = tracking(hospital.site.work.site).champion()
    alerts = hospital.site.lake.read("alerts").filter(pl.col("day") >= done.first_day)
    raised = sorted(set(alerts["model_version"]))
    facts.tell(
        "worse",
        last.state == "rolled_back" and by_evidence and now is not None and now.version == version,
        f"threshold {loose.threshold:.3f} against {serving.threshold:.3f}: {last.state} from "
        f"{where} on {last.day} ({len(done.history) - 1} decisions after the start): "
        f"{last.sentence} Alerts were raised by {raised}.",
    )
    _replayed(hospital.site, facts, "worse")


def better(
    hospital: Hospital, facts: Facts, loose: Detector, proper: Detector, disturb: Disturb | None
) -> None:
    """A better challenger reaches all cameras."""
    site = hospital.site
    held = known(site).challenger if newest(site.work) else put(site, loose, "champion")
    promote(site.work, held)
    if newest(site.work) is None:
        hospital.live()
    version = put(site, proper, "challenger")
    done = go_on(hospital, "better", disturb)
    shares = list(dict.fromkeys(one.share for one in done.history))
    now = tracking(site.work.site).champion()
    facts.tell(
        "better",
        done.last.state in ("full", "retired")
        and shares == [0.0, 0.25, 0.5, 1.0]
        and now is not None
        and now.version == version,
        f"threshold {proper.threshold:.3f} against {loose.threshold:.3f}: {done.last.state} on "
        f"{done.last.day}, through shares {', '.join(f'{share:.0%}' for share in shares)}; "
        f"champion is version {now and now.version}",
    )
    wrong, alerts = _misplaced(site, done)
    facts.tell(
        "better",
        wrong == 0 and alerts > 0,
        f"{alerts} alerts since {done.first_day}, {wrong} of them by a version that was not live "
        "on its camera",
    )
    _replayed(site, facts, "better")


def _misplaced(site: TestSite, done: Rollout) -> tuple[int, int]:
    """Alerts that came from the wrong version, by the decisions and places; and all of them."""
    alerts = site.lake.read("alerts").filter(pl.col("day") >= done.first_day)
    places = site.lake.read("rollout_cameras").filter(pl.col("rollout_id") == done.id)
    wrong = 0
    for day, camera, version in alerts.select("day", "camera_id", "model_version").iter_rows():
        holds = [one for one in done.history if one.effective_day <= day][-1]
        drawn = places.filter(pl.col("camera_id") == camera, pl.col("number") <= holds.number)
        place = drawn.sort("number")["place"][-1]
        tried = holds.share == 1 or (holds.share > 0 and place == "challenger")
        wrong += version != (done.challenger if tried else done.champion)
    return wrong, alerts.height


def _replayed(site: TestSite, facts: Facts, part: str) -> None:
    """Take the newest rollout's decisions again from the lake, as a person would."""
    done = subprocess.run(
        [sys.executable, "-m", "fall_assets.cli", "rollout", "replay", known(site).id],
        env=as_environment(site),
        capture_output=True,
        text=True,
        check=False,
        timeout=_PATIENCE_S,
    )
    said = (done.stdout + done.stderr).strip().splitlines()[-1]
    facts.tell(
        part,
        done.returncode == 0,
        f"`rollout replay`, {len(known(site).history)} decisions: {said}",
    )


def crash(hospital: Hospital, facts: Facts, detector: Detector) -> None:
    """A package that a box cannot run goes back from all boxes."""
    site = hospital.site
    settings = (site.root / "site.toml").read_text()
    serving = tracking(site.work.site).champion()
    assert serving is not None
    with running(site.root.parent / "gateway") as gateway:
        (site.root / "site.toml").write_text(settings + GATEWAY.format(url=gateway.url))
        token = site.root / TOKEN_FILE
        token.write_text(gateway.token("platform"))
        token.chmod(0o600)
        package(site.work, serving.version)
        version = put(site, detector, "challenger")
        manifest = package(site.work, version)
        say(f"crash: {', '.join(look(site))}")
        of_box = gateway.token("box", box="box-1")
        client = GatewayClient(gateway.url, lambda: of_box)
        cursor: str | None = None

        def heard(state: str, detail: str) -> list[str]:
            """The box reports, the platform takes it in; what `rollout_sensor` then asked for."""
            nonlocal cursor
            client.post_update(manifest, state, detail)
            cameras = site.lake.read("cameras")["camera_id"].sort().to_list()
            client.post_telemetry([report(one, model_version=serving.version) for one in cameras])
            requests, cursor = tick(site, gateway_sensor, cursor)
            for request in requests:
                quietly(site, run, site, request, "ward")
            return look(site)

        def assigned() -> list[tuple[str, bool]]:
            answer = client.get_assignment()
            trusted = [signing_key(site.work).public_key()]
            read = read_assignment(answer.assignment, answer.signature, trusted, "box-1")
            return [(part.model_version, part.shadow) for part in read.parts]

        began = assigned()
        installed = heard("installed", "")
        reasons = heard("rolled_back", "ended 3 times: killed by signal 11")
        done, after = known(site), assigned()
    (site.root / "site.toml").write_text(settings)
    facts.tell(
        "crash",
        began == [(serving.version, False), (version, True)]
        and installed == []
        and any(reason.startswith("guard crash") for reason in reasons)
        and done.challenger == version
        and done.last.state == "rolled_back"
        and after == [(serving.version, False)],
        f"boxes had {began}; after {reasons} they have {after}: {done.last.sentence}",
    )
    _replayed(site, facts, "crash")


# Killing ------------------------------------------------------------------------------------------


class Disturb:
    """Kills the process that takes a decision, on copies of the site."""

    def __init__(self, folder: Path, facts: Facts) -> None:
        self.kills = 0
        self._folder = folder
        self._facts = facts
        self._random = random.Random(7)
        self._took_s = 0.0
        self._seen: set[str] = set()

    def copy(self, site: TestSite, name: str = "before") -> Path:
        """The site as it stands, without films and runs."""
        target = self._folder / name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(site.root, target, ignore=shutil.ignore_patterns("landing", "dagster"))
        return target

    def compare(self, before: Path, undisturbed: TestSite) -> None:
        """Disturb the decision that the undisturbed site has taken since, once for each moment."""
        action = known(undisturbed).last.action
        if action not in KILLS or action in self._seen:
            return
        self._seen.add(action)
        for number, moment in enumerate(KILLS[action]):
            copied = site_in(before)
            site = site_in(self.copy(copied, f"killed-{action}-{number}"))
            died = self._kill(site, moment)
            reasons = look(site)
            differ = [name for name in _SAME if not _same(site, undisturbed, name)]
            names = [
                [one and one.version for one in (store.champion(), store.challenger())]
                for store in (tracking(site.work.site), tracking(undisturbed.work.site))
            ]
            self._facts.tell(
                "killed",
                not differ and names[0] == names[1] and look(site) == [],
                f"'{action}' {died}; then asked for: {'; '.join(reasons) or 'nothing'}; "
                + (f"{', '.join(differ)} differ" if differ else "all rows as undisturbed")
                + f", champion and challenger {names[0]}",
            )
            shutil.rmtree(site.root)

    def _kill(self, site: TestSite, moment: str) -> str:
        """Start the process and kill it; when, and what it had written."""
        home = site.root / "home"
        home.mkdir()
        shutil.copy(_REPOSITORY / "dagster.yaml", home)
        before = {name: site.lake.version(name) for name in _SAME}
        began = time.perf_counter()
        # Most of the time goes into loading; the kills before tell when it begins to decide.
        range_of = {"start": (0.05, 0.7), "while": (0.85, 1.0)}.get(moment)
        delay_s = self._random.uniform(*range_of) * self._took_s if range_of else None
        process = subprocess.Popen(
            [
                str(Path(sys.executable).parent / "dagster"),
                *("job", "execute", "-m", "fall_assets.definitions", "-j", "rolling_out"),
            ],
            cwd=site.root,
            env=as_environment(site) | {"DAGSTER_HOME": str(home)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None and time.perf_counter() - began < _PATIENCE_S:
            if delay_s is not None and time.perf_counter() - began >= delay_s:
                break
            if delay_s is None and site.lake.version(moment) != before[moment]:
                break
            time.sleep(0.002)
        ended = process.poll()
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        took_s = time.perf_counter() - began
        written = [name for name in _SAME if site.lake.version(name) != before[name]]
        if ended is not None:
            return f"ended by itself after {took_s:.1f} s with {ended}"
        self.kills += 1
        if delay_s is None:
            self._took_s = max(self._took_s, took_s)
        which = f"after {took_s:.1f} s" if delay_s is not None else f"at the write of {moment}"
        return f"killed {which}, with {', '.join(written) or 'nothing'} written"


def _same(site: TestSite, other: TestSite, name: str) -> bool:
    """Whether a table has the same rows, but for when they were written."""
    return _rows(site, name).equals(_rows(other, name))


def _rows(site: TestSite, name: str) -> pl.DataFrame:
    rows = site.lake.read(name).drop("at_utc", strict=False)
    return rows.sort(rows.columns)


# The whole ----------------------------------------------------------------------------------------


def show(folder: Path, days: int, parts: Sequence[str]) -> int:
    """Live through the parts; the exit status."""
    facts = Facts()
    hospital = Hospital(folder, days)
    hospital.learn()
    detector, _ = champion(hospital.site.work.site)
    low, high = thresholds(hospital)
    print(f"thresholds {detector.threshold:.3f} as learned, {low:.3f} loose, {high:.3f} proper")
    loose, proper = detector.with_threshold(low), detector.with_threshold(high)
    disturb = Disturb(folder / "copies", facts) if "killed" in parts else None
    if "worse" in parts:
        worse(hospital, facts, loose)
    if "better" in parts or "killed" in parts:
        better(hospital, facts, loose, proper, disturb)
    if disturb is not None:
        facts.tell("killed", disturb.kills >= LEAST_KILLS, f"{disturb.kills} processes were killed")
    if "crash" in parts:
        crash(hospital, facts, proper)
    print(
        f"{hospital.lived} days lived; "
        f"not shown: {', '.join(dict.fromkeys(facts.failed)) or 'nothing'}; "
        f"{time.perf_counter() - BEGAN:.0f} s"
    )
    return 1 if facts.failed else 0


def main() -> int:
    """Show it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--site", type=Path, help="new folder to keep; default: a temporary one")
    parser.add_argument("--days", type=int, default=10, help="days of footage at most")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    asked = parser.parse_args()
    os.environ |= {"DAGSTER_DISABLE_TELEMETRY": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
    if asked.site is not None:
        return show(asked.site.resolve(), asked.days, asked.parts)
    with tempfile.TemporaryDirectory(prefix="rollout-footage-") as folder:
        return show(Path(folder), asked.days, asked.parts)


if __name__ == "__main__":
    sys.exit(main())
