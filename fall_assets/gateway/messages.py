"""What may be said to the gateway, as strict models. What belongs here: shapes, no rules.

Extra fields, numbers that are not finite, times without a zone and control characters in texts are
refused. Times may be wrong (a box whose clock was reset says 1970), never absurd.
"""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
)

from fall_assets.delivery.kinds import Kind
from fall_assets.edge.client import MOST_ASSIGNMENT_BASE64

ID_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
SHA256_PATTERN: Final = r"^[0-9a-f]{64}$"
BOX_OR_ALL_PATTERN: Final = r"^(\*|[A-Za-z0-9][A-Za-z0-9._-]{0,63})$"
FIRST_YEAR: Final = 1970
LAST_YEAR: Final = 2199
MOST_REPORTS: Final = 256
MOST_CAMERAS: Final = 10_000
MOST_COUNT: Final = 2**53
MOST_WITHIN_MIN: Final = 1440

Answer = Literal["going", "fall", "false_alarm", "help"]
State = Literal["ok", "lost", "frozen", "black", "moved", "starved", "starting"]


def _sensible(time: datetime) -> datetime:
    """In UTC; refused where the year is absurd (overflows would follow)."""
    # Checked before the zone is: the first and last hours of datetime's range have no UTC.
    if not FIRST_YEAR <= time.year <= LAST_YEAR:
        raise ValueError(f"the year must be within {FIRST_YEAR} and {LAST_YEAR}")
    utc = time.astimezone(UTC)
    if utc < datetime(FIRST_YEAR, 1, 1, tzinfo=UTC):
        raise ValueError(f"the year must be within {FIRST_YEAR} and {LAST_YEAR}")
    return utc


def _base64(text: str) -> str:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be base64") from None
    return text


Id = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
Name = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f]*$", max_length=80)]
Version = Annotated[
    str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f]+$", min_length=1, max_length=200)
]
Detail = Annotated[
    str, StringConstraints(pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$", max_length=4000)
]
Base64 = Annotated[str, AfterValidator(_base64)]
Time = Annotated[AwareDatetime, AfterValidator(_sensible)]
Amount = Annotated[float, Field(ge=0, le=1e9)]
Share = Annotated[float, Field(ge=0, le=1)]
Percent = Annotated[float, Field(ge=0, le=100)]
Count = Annotated[int, Field(ge=0, le=MOST_COUNT)]


class Message(BaseModel):
    """What all messages share: strict types, no extra fields, only finite numbers."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)


class AlertIn(Message):
    """One alert of a box. `still` is a JPEG in base64, of at most 1280 pixels a side."""

    alert_id: Id
    camera_id: Id
    start_utc: Time
    raised_utc: Time
    score: Share
    kind: Kind
    model_version: Version
    shadow: bool
    sent_utc: Time
    still: Base64 | None = None


class Report(Message):
    """How one camera and its box were at one moment, as the version sees it that watches it.

    `shadow`: nobody is told of that version's alerts; another one watches the camera for the ward.
    `camera_model`, `firmware`: of the camera, where the box was told.
    """

    camera_id: Id
    at_utc: Time
    cpu_percent: Percent
    memory_percent: Percent
    temperature_c: Annotated[float, Field(ge=-273.15, le=1e4)] | None
    bandwidth_kbps: Amount
    frames_expected: Count
    frames_decoded: Count
    fps_expected: Amount | None
    fps_measured: Amount | None
    gate_duty: Share | None
    power: Literal["mains", "battery", "off", "unknown"]
    model_version: Version
    state: State
    since_utc: Time
    clock_offset_s: Annotated[float, Field(ge=-1e10, le=1e10)] | None
    outbox: Count
    shadow: bool = False
    camera_model: Name | None = None
    firmware: Name | None = None


class TelemetryIn(Message):
    """What a box sends every minute."""

    sent_utc: Time
    reports: Annotated[list[Report], Field(max_length=MOST_REPORTS)]


class UpdateIn(Message):
    """What became of a package on a box; `package` is the manifest's sha256 or empty."""

    at_utc: Time
    package: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")]
    state: Literal["installed", "refused", "rolled_back", "healthy"]
    detail: Detail


class CameraIn(Message):
    """Where a camera hangs. Without a ward its alerts are shown on the pages of all wards."""

    camera_id: Id
    ward: Name | None
    room: Name | None
    bed: Name | None = None
    box: Id | None = None


class AssignmentIn(Message):
    """A signed assignment: the very bytes that were signed, and their signature, in base64."""

    assignment: Annotated[Base64, StringConstraints(max_length=MOST_ASSIGNMENT_BASE64)]
    signature: Annotated[Base64, StringConstraints(max_length=1024)]


class SessionIn(Message):
    """A ward's token, as `fall-gateway token add --role ward` printed it."""

    token: Annotated[str, StringConstraints(min_length=1, max_length=200)]


class AnswerIn(Message):
    """What somebody on the ward said to an alert.

    `at_utc` is when the button was pressed where it could not be sent at once; what lies after the
    gateway's own time or before the alert is put right. `key` makes sending again harmless.
    """

    answer: Answer
    by: Name = ""
    at_utc: Time | None = None
    key: Id | None = None


class FallIn(Message):
    """A fall that staff found and no alert told of.

    It happened at `until_utc` at the latest, when it was found, and at most `within_min` minutes
    before. What lies after the gateway's own time is put right. `key` makes sending again harmless.
    """

    camera_id: Id
    until_utc: Time
    within_min: Annotated[float, Field(ge=1, le=MOST_WITHIN_MIN)] = 10.0
    by: Name = ""
    key: Id | None = None


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str


class AlertTaken(BaseModel):
    """The alert is stored and will not be lost. `new` is false where it was known already."""

    alert_id: str
    accepted: Literal[True] = True
    new: bool


class ReportsTaken(BaseModel):
    """How many reports are stored, those known already included."""

    accepted: int


class Done(BaseModel):
    """What was asked for is done and stored."""

    ok: Literal[True] = True


class CamerasTaken(BaseModel):
    """How many cameras are known now."""

    cameras: int


class PackageTaken(BaseModel):
    """A package is stored. `new` is false where it was known already."""

    archive_sha256: str
    size: int
    new: bool


class AssignmentOut(BaseModel):
    """A signed assignment, as the platform put it."""

    assignment: str
    signature: str


class AnswerOut(BaseModel):
    """One answer, in the order in which they came."""

    id: int
    alert_id: str
    camera_id: str
    raised_utc: datetime
    start_utc: datetime
    model_version: str
    answer: Answer
    by: str
    at_utc: datetime


class AlertOut(BaseModel):
    """One alert as posted, without its still. `clock_offset_s`: the box's clock less ours."""

    id: int
    received_utc: datetime
    box: str
    alert_id: str
    camera_id: str
    start_utc: datetime
    raised_utc: datetime
    score: float
    kind: Kind
    model_version: str
    shadow: bool
    sent_utc: datetime
    clock_offset_s: float
    has_still: bool


class ReportOut(Report):
    """One report as posted."""

    model_config = ConfigDict(strict=False)

    id: int
    received_utc: datetime
    box: str


class UpdateOut(UpdateIn):
    """One update as posted."""

    model_config = ConfigDict(strict=False)

    id: int
    received_utc: datetime
    box: str


class Answers(BaseModel):
    """A page of answers; ask again with `after` = `next`."""

    answers: list[AnswerOut]
    next: int


class Alerts(BaseModel):
    """A page of alerts; ask again with `after` = `next`."""

    alerts: list[AlertOut]
    next: int


class FallOut(BaseModel):
    """One fall that no alert told of, in the order in which they were reported."""

    id: int
    camera_id: str
    from_utc: datetime
    until_utc: datetime
    by: str
    received_utc: datetime


class Falls(BaseModel):
    """A page of reported falls; ask again with `after` = `next`."""

    falls: list[FallOut]
    next: int


class Reports(BaseModel):
    """A page of reports; ask again with `after` = `next`."""

    reports: list[ReportOut]
    next: int


class Updates(BaseModel):
    """A page of updates; ask again with `after` = `next`."""

    updates: list[UpdateOut]
    next: int


class SessionOut(BaseModel):
    """Whom the page is for; `ward` is null for all wards."""

    ward: str | None


class GivenAnswer(BaseModel):
    """One answer as the page shows it."""

    answer: Answer
    by: str
    at_utc: datetime


class Told(BaseModel):
    """Who was told, or is being told."""

    contact: str
    reason: str
    state: Literal["waiting", "sent", "given_up", "not_needed"]
    at_utc: datetime


class WardAlert(BaseModel):
    """One alert as the page shows it.

    `raised_utc` is put right by the box's clock offset where its clock is wrong (`clock_wrong`).
    `state`: open (nobody answered), going, help, closed (it was a fall, or a false alarm).
    """

    alert_id: str
    camera_id: str
    ward: str | None
    room: str | None
    bed: str | None
    kind: Kind
    title: str
    raised_utc: datetime
    received_utc: datetime
    clock_wrong: bool
    still: bool
    state: Literal["open", "going", "help", "closed"]
    answers: list[GivenAnswer]
    level: int
    next_level_utc: datetime | None
    told: list[Told]


class Blind(BaseModel):
    """A camera that does not watch, why and since when."""

    camera_id: str
    ward: str | None
    room: str | None
    bed: str | None
    state: str
    since_utc: datetime


class WardCamera(BaseModel):
    """Where one of the ward's cameras hangs."""

    camera_id: str
    ward: str | None
    room: str | None
    bed: str | None


class WardFall(WardCamera):
    """A fall that the ward reported; it happened between the two times."""

    from_utc: datetime
    until_utc: datetime
    by: str
    key: str | None


class WardCameras(BaseModel):
    """All cameras of a ward, room by room."""

    cameras: list[WardCamera]


class WardView(BaseModel):
    """All that a ward's page shows. `falls`: those of the last day that no alert told of."""

    now_utc: datetime
    revision: int
    ward: str | None
    open: list[WardAlert]
    older: list[WardAlert]
    blind: list[Blind]
    falls: list[WardFall]
    help_contacts: int


class Health(BaseModel):
    """The service is up."""

    status: Literal["ok"] = "ok"
