"""Telling people outside the page: webhook, e-mail, MQTT. What belongs here: one way each to send
one notice. What does not: who is told when, and trying again (`escalation.py`).

Words and numbers are sent, never a picture. A receiver that gets a notice twice (the gateway was
killed between sending and noting it) knows it by its key.
"""

from __future__ import annotations

import hashlib
import json
import logging
import smtplib
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime
from http.client import HTTPException
from typing import IO, Any, Final, NoReturn

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from fall_assets.delivery.kinds import IN_WORDS, Kind
from fall_assets.errors import PassingFailureError
from fall_assets.gateway.settings import (
    Contact,
    Email,
    Mqtt,
    Settings,
    SettingsError,
    check_webhook,
)
from fall_assets.gateway.wards import Room, Wards
from fall_assets.loopback import is_loopback

MQTT_EVENTS: Final = "mqtt:events"
"""Stands for a contact in the outbox: each alert is one event on the broker."""
WEBHOOK_S: Final = 10.0
LAST_WORD_S: Final = 2.0

_log = logging.getLogger(__name__)


class NotSentError(PassingFailureError):
    """A receiver was away or refused; it is tried again."""


@dataclass(frozen=True)
class Notice:
    """What a contact is told of an alert. `reason`: alert, unanswered (a level above 0) or help."""

    key: str
    reason: str
    level: int | None
    alert_id: str
    camera_id: str
    ward: str | None
    room: str | None
    bed: str | None
    kind: Kind
    raised_utc: datetime
    link: str

    def place(self) -> str:
        """Where, as people say it."""
        parts = [f"room {self.room}" if self.room else "", f"bed {self.bed}" if self.bed else ""]
        where = ", ".join(part for part in parts if part) or f"camera {self.camera_id}"
        return f"{where} ({self.ward})" if self.ward else where

    def title(self) -> str:
        """What and where in one line."""
        what = IN_WORDS[self.kind]
        starts = {"help": "Help asked for", "unanswered": "Nobody has answered"}
        return f"{starts.get(self.reason, 'Fall alert')}: {what}, {self.place()}"

    def as_json(self) -> str:
        """For machines."""
        content = asdict(self) | {
            "title": self.title(),
            "raised_utc": self.raised_utc.isoformat(timespec="milliseconds"),
        }
        return json.dumps(content)


Send = Callable[[Notice], str]
"""Sends one notice and returns the receiver's answer; NotSentError where it fails."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A notice goes to the configured receiver or nowhere."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Any,
        newurl: str,
    ) -> NoReturn:
        raise NotSentError(f"answered {code}, a redirect: configure the address it leads to")


def webhook(url: str, headers: Mapping[str, str]) -> Send:
    """Posts notices as JSON, with their key as Idempotency-Key. No redirects, no proxy."""
    opener = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))

    def send(notice: Notice) -> str:
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            url,
            data=notice.as_json().encode(),
            method="POST",
            headers={
                **headers,
                "Content-Type": "application/json",
                "Idempotency-Key": notice.key,
                "User-Agent": "fall-gateway",
            },
        )
        try:
            with opener.open(request, timeout=WEBHOOK_S) as response:
                return f"{response.status}"
        except urllib.error.HTTPError as error:
            with error:
                raise NotSentError(f"answered {error.code}") from None
        except (OSError, HTTPException, ValueError) as error:
            raise NotSentError(f"not reached: {type(error).__name__}") from None

    return send


def email(settings: Email, password: str, to: str, now: Callable[[], datetime]) -> Send:
    """Sends notices as plain text. STARTTLS with a checked certificate unless on this machine."""

    def send(notice: Notice) -> str:
        message = EmailMessage()
        message["From"] = settings.sender
        message["To"] = to
        message["Subject"] = notice.title()
        message["Date"] = format_datetime(now())
        message["Message-ID"] = f"<{notice.key}@fall-gateway>"
        lines = [
            notice.title(),
            "",
            f"Raised: {notice.raised_utc:%Y-%m-%d %H:%M:%S} UTC",
            f"Camera: {notice.camera_id}",
        ]
        text = "\n".join([*lines, *([f"Page: {notice.link}"] if notice.link else [])])
        # Any server takes seven bits.
        message.set_content(text, cte="quoted-printable")
        try:
            with smtplib.SMTP(settings.host, settings.port, timeout=settings.timeout_s) as server:
                if not is_loopback(settings.host):
                    server.starttls(context=ssl.create_default_context())
                if settings.user:
                    server.login(settings.user, password)
                server.send_message(message)
        except smtplib.SMTPResponseException as error:
            raise NotSentError(f"answered {error.smtp_code}") from None
        except (smtplib.SMTPException, OSError) as error:
            raise NotSentError(f"not reached: {type(error).__name__}") from None
        return "accepted"

    return send


class MqttOutput:
    """Rooms and events on a broker, as Home Assistant finds them by itself.

    Each room is a binary sensor that is on while it has an alert that nobody has closed, and an
    event entity. States are retained and published anew on every connection; while the gateway is
    away its sensors are unavailable, by the broker's last will.
    """

    def __init__(self, settings: Mqtt, password: str, client_id: str) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._published: dict[str, str] = {}
        self._started = False
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv311
        )
        if settings.user:
            self._client.username_pw_set(settings.user, password)
        if settings.tls:
            self._client.tls_set_context(ssl.create_default_context())
        self._status = f"{settings.topic}/status"
        self._client.will_set(self._status, "offline", qos=1, retain=True)
        self._client.reconnect_delay_set(1, 60)
        self._client.on_connect = self._connected

    def _connected(self, client: paho.Client, data: Any, flags: Any, code: Any, more: Any) -> None:
        if code.is_failure:
            _log.warning("the MQTT broker refuses the gateway: %s", code)
            return
        with self._lock:
            self._published.clear()
        client.publish(self._status, "online", qos=1, retain=True)

    def sync(self, rooms: Sequence[Room]) -> None:
        """Publish what has changed since the last time on this connection."""
        if not self._started:
            self._started = True
            self._client.connect_async(self._settings.host, self._settings.port, keepalive=30)
            self._client.loop_start()
        if not self._client.is_connected():
            return
        wanted: dict[str, str] = {}
        for room in rooms:
            wanted |= self._topics(room)
        with self._lock:
            gone = [topic for topic in self._published if topic not in wanted]
            changed = {
                topic: text for topic, text in wanted.items() if self._published.get(topic) != text
            } | dict.fromkeys(gone, "")
            for topic, text in changed.items():
                info = self._client.publish(topic, text, qos=1, retain=True)
                if info.rc == paho.MQTT_ERR_SUCCESS:
                    self._published[topic] = text
            for topic in gone:
                self._published.pop(topic, None)

    def send(self, notice: Notice) -> str:
        """Publish one event; NotSentError where the broker has not taken it in time."""
        if not self._client.is_connected():
            raise NotSentError("not connected to the broker")
        content = {
            "event_type": notice.kind,
            "key": notice.key,
            "alert_id": notice.alert_id,
            "ward": notice.ward,
            "room": notice.room,
            "bed": notice.bed,
            "camera_id": notice.camera_id,
            "raised_utc": notice.raised_utc.isoformat(timespec="milliseconds"),
        }
        name = object_id(notice.ward, notice.room, notice.camera_id)
        topic = f"{self._settings.topic}/{name}/event"
        try:
            info = self._client.publish(topic, json.dumps(content), qos=1)
            info.wait_for_publish(self._settings.timeout_s)
            taken = info.is_published()
        except (RuntimeError, ValueError) as error:
            raise NotSentError(f"the broker did not take it: {error}") from None
        if not taken:
            raise NotSentError("the broker did not take it in time")
        return "taken by the broker"

    def close(self) -> None:
        """Say that the gateway goes, and go."""
        if self._started:
            if self._client.is_connected():
                last = self._client.publish(self._status, "offline", qos=1, retain=True)
                last.wait_for_publish(LAST_WORD_S)
            self._client.disconnect()
            self._client.loop_stop()

    def _topics(self, room: Room) -> dict[str, str]:
        name = object_id(room.ward, room.room, room.camera_id)
        base, found = f"{self._settings.topic}/{name}", self._settings.discovery
        shown = f"{room.ward or 'No ward'}, {f'room {room.room}' if room.room else room.camera_id}"
        common = {
            "availability_topic": self._status,
            "device": {
                "identifiers": ["fall-gateway"],
                "name": "Fall alerts",
                "manufacturer": "fall-assets",
            },
        }
        sensor = common | {
            "name": shown,
            "unique_id": f"fall_{name}",
            "object_id": f"fall_{name}",
            "device_class": "safety",
            "state_topic": f"{base}/state",
            "json_attributes_topic": f"{base}/attributes",
            "payload_on": "ON",
            "payload_off": "OFF",
        }
        event = common | {
            "name": f"{shown}, event",
            "unique_id": f"fall_{name}_event",
            "object_id": f"fall_{name}_event",
            "event_types": list(IN_WORDS),
            "state_topic": f"{base}/event",
        }
        attributes = {
            "ward": room.ward,
            "room": room.room,
            "unanswered": room.unanswered,
            "open": room.open,
            "last_alert_utc": room.last_utc and room.last_utc.isoformat(timespec="milliseconds"),
        }
        return {
            f"{found}/binary_sensor/fall_{name}/config": json.dumps(sensor),
            f"{found}/event/fall_{name}/config": json.dumps(event),
            f"{base}/state": "ON" if room.open else "OFF",
            f"{base}/attributes": json.dumps(attributes),
        }


def object_id(ward: str | None, room: str | None, camera_id: str) -> str:
    """A name for topics: readable, without what MQTT treats in a special way, and no two alike."""
    text = f"{ward or ''}/{room}" if room else f"//{camera_id}"
    plain = "".join(one if one.isascii() and one.isalnum() else "_" for one in text.lower())
    return f"{plain.strip('_')[:40]}_{hashlib.sha256(text.encode()).hexdigest()[:6]}"


@dataclass(frozen=True)
class Outputs:
    """All ways of this gateway. `send` by the contact's name; `rooms` for the broker."""

    send: Mapping[str, Send]
    mqtt: MqttOutput | None
    rooms: Callable[[], Sequence[Room]]


def outputs_of(settings: Settings, wards: Wards, now: Callable[[], datetime]) -> Outputs:
    """The ways that the settings name; SettingsError where a secret cannot be read."""
    password = settings.secret(settings.email.password_file, settings.email.password_env)
    ways: dict[str, Send] = {}
    for contact in settings.contacts:
        if contact.email:
            ways[contact.name] = email(settings.email, password, contact.email, now)
        else:
            ways[contact.name] = _webhook_of(settings, contact)
    mqtt = None
    if settings.mqtt.host:
        secret = settings.secret(settings.mqtt.password_file, settings.mqtt.password_env)
        place = hashlib.sha256(str(settings.data.absolute()).encode()).hexdigest()[:8]
        mqtt = MqttOutput(settings.mqtt, secret, f"fall-gateway-{place}")
        ways[MQTT_EVENTS] = mqtt.send
    return Outputs(ways, mqtt, wards.rooms)


def _webhook_of(settings: Settings, contact: Contact) -> Send:
    where = f"[[contacts]] {contact.name!r}"
    url = contact.webhook or settings.secret(contact.webhook_file)
    check_webhook(url, where)
    headers = {}
    if contact.header_file:
        name, colon, value = settings.secret(contact.header_file).partition(":")
        if not colon or not name.strip().isascii() or "\n" in value:
            raise SettingsError(f"{where}: header_file must hold one line, 'Name: value'")
        headers[name.strip()] = value.strip()
    return webhook(url, headers)
