"""The settings file gateway.toml. What belongs here: reading it and what is wrong in it."""

from __future__ import annotations

import os
import tomllib
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

from fall_assets.edge.client import MOST_ASSIGNMENT_BASE64
from fall_assets.errors import PermanentFailureError
from fall_assets.loopback import is_loopback

DEFAULT_PORT = 8600
ALL = "*"


class SettingsError(PermanentFailureError):
    """The settings cannot be used; the message says what to change."""


@dataclass(frozen=True)
class Limits:
    """How much, how fast and how slowly a client may send."""

    alert_bytes: int = 400_000
    telemetry_bytes: int = 256_000
    small_bytes: int = 16_000
    cameras_bytes: int = 4_000_000
    assignment_bytes: int = MOST_ASSIGNMENT_BASE64 + 10_000
    package_bytes: int = 300_000_000
    still_pixels: int = 1280
    # Seconds for all of a small body, and for the next piece of a package.
    body_s: float = 10.0
    piece_s: float = 30.0
    header_s: float = 10.0
    # Requests a second and token, for each kind of endpoint on its own, and how many at once.
    rate_per_s: float = 20.0
    burst: int = 200
    failures_per_minute: float = 30.0
    streams: int = 200
    streams_per_token: int = 50


@dataclass(frozen=True)
class Escalation:
    """After how long without an answer the next level of contacts is told.

    Contacts of level 0 are told at once, of level 1 after `after_s` seconds without an answer, of
    level 2 after as long again. An alert that came more than `within_s` ago is not escalated any
    more.
    """

    after_s: float = 60.0
    within_s: float = 6 * 3600.0
    retry_first_s: float = 1.0
    retry_most_s: float = 300.0


@dataclass(frozen=True)
class Contact:
    """Whom to tell, and how: either a webhook's address or an e-mail address.

    Attributes:
        level: when in an escalation; see `Escalation`.
        help: told at once where somebody on the ward presses "help".
        wards: of which wards; "*" for all. Alerts of cameras without a ward are told to all.
        webhook_file: a file that holds the address, where the address is a secret.
        header_file: a file that holds one header line, such as "Authorization: Bearer ...".
    """

    name: str
    level: int = 1
    help: bool = False
    wards: tuple[str, ...] = (ALL,)
    webhook: str = field(default="", repr=False)
    webhook_file: str = ""
    header_file: str = ""
    email: str = ""

    def concerns(self, ward: str | None) -> bool:
        """Whether this contact is told of alerts of that ward; None: the camera has no ward."""
        return ward is None or ALL in self.wards or ward in self.wards


@dataclass(frozen=True)
class Email:
    """The mail server. STARTTLS is a must unless it is on this machine."""

    host: str = ""
    port: int = 587
    sender: str = "fall-gateway@localhost"
    user: str = ""
    password_file: str = ""
    password_env: str = ""
    timeout_s: float = 10.0


@dataclass(frozen=True)
class Mqtt:
    """The broker, for Home Assistant. TLS is a must unless it is on this machine."""

    host: str = ""
    port: int = 1883
    tls: bool = False
    user: str = ""
    password_file: str = ""
    password_env: str = ""
    topic: str = "fall"
    discovery: str = "homeassistant"
    timeout_s: float = 10.0


@dataclass(frozen=True)
class Settings:
    """All settings of a gateway.

    Attributes:
        data: folder of the database, the stills and the packages.
        database: SQLAlchemy URL; empty for SQLite in `data`. May hold a password.
        tls_proxy: a proxy in front ends TLS; only then may `host` be other than loopback.
        trusted_proxies: addresses whose X-Forwarded-For is believed; none by default.
        public_url: how wards reach the page; for links.
        show_hours: how long an alert stays on the page.
        silent_s: a camera without a report for so long counts as not watched.
        keep_days: how long stills, telemetry and alerts stay; the platform has pulled them by then.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    data: Path = Path("gateway-data")
    database: str = field(default="", repr=False)
    tls_proxy: bool = False
    trusted_proxies: tuple[str, ...] = ()
    public_url: str = ""
    show_hours: float = 24.0
    silent_s: float = 300.0
    keep_days: float = 30.0
    heartbeat_s: float = 10.0
    limits: Limits = Limits()
    escalation: Escalation = Escalation()
    email: Email = Email()
    mqtt: Mqtt = Mqtt()
    contacts: tuple[Contact, ...] = ()
    folder: Path = Path()

    def checked(self) -> Settings:
        """The same settings; SettingsError where they cannot be used."""
        if not is_loopback(self.host) and not self.tls_proxy:
            raise SettingsError(
                f"host is {self.host!r}, which others can reach, and nothing says that TLS is "
                "ended in front of it: put a proxy there and set tls_proxy = true, or use 127.0.0.1"
            )
        if not 0 <= self.port <= 65535:
            raise SettingsError(f"port is {self.port}: give one within 0 and 65535")
        if ALL in self.trusted_proxies:
            raise SettingsError("trusted_proxies: name the proxies' addresses, not '*'")
        names = [contact.name for contact in self.contacts]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise SettingsError(f"[[contacts]]: {twice} stand there more than once: rename them")
        for contact in self.contacts:
            self._check_contact(contact)
        for what, server in (("email", self.email), ("mqtt", self.mqtt)):
            if server.user and not (server.password_file or server.password_env):
                raise SettingsError(
                    f"[{what}] has a user and no password: give password_file or password_env"
                )
        if self.mqtt.host and not self.mqtt.tls and not is_loopback(self.mqtt.host):
            raise SettingsError("[mqtt]: tls = true is needed where the broker is elsewhere")
        for name in ("after_s", "within_s", "retry_first_s", "retry_most_s"):
            if not getattr(self.escalation, name) > 0:
                raise SettingsError(f"[escalation] {name} must be over 0")
        for entry in fields(self.limits):
            if not getattr(self.limits, entry.name) > 0:
                raise SettingsError(f"[limits] {entry.name} must be over 0")
        return self

    def _check_contact(self, contact: Contact) -> None:
        ways = [bool(contact.webhook), bool(contact.webhook_file), bool(contact.email)]
        where = f"[[contacts]] {contact.name!r}"
        if not contact.name or sum(ways) != 1:
            raise SettingsError(f"{where}: give a name and one of webhook, webhook_file and email")
        if contact.level < 0:
            raise SettingsError(f"{where}: level must be 0 or more")
        if contact.webhook:
            check_webhook(contact.webhook, where)
        if contact.email and not self.email.host:
            raise SettingsError(f"{where}: e-mail needs [email] host")
        if contact.email and ("@" not in contact.email or not contact.email.isprintable()):
            raise SettingsError(f"{where}: {contact.email!r} is no e-mail address")

    def secret(self, file: str, environment: str = "") -> str:
        """A secret from a file beside the settings or an environment variable; "" where neither."""
        if file:
            path = self.folder / file
            try:
                return path.read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise SettingsError(f"{path}: cannot be read ({error})") from error
        if environment:
            if environment not in os.environ:
                raise SettingsError(f"the environment variable {environment} is not set")
            return os.environ[environment]
        return ""


def check_webhook(url: str, where: str) -> None:
    """SettingsError where an address cannot be posted to safely; it is not repeated."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(f"{where}: the webhook must start with http:// or https://")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise SettingsError(f"{where}: the webhook must use https:// unless on this machine")
    if parts.username is not None:
        raise SettingsError(f"{where}: no user in the webhook's address; give a header_file")


def load_settings(path: Path | None, **overrides: Any) -> Settings:
    """Settings from a file (None: defaults), and over them what is not None in `overrides`.

    Relative paths are of the file's folder, of the working folder where there is no file.
    Raises SettingsError where the file cannot be read or a key is unknown or of another type.
    """
    content: Mapping[str, Any] = {}
    folder = Path()
    if path is not None:
        folder = path.parent
        try:
            content = tomllib.loads(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"{path}: cannot be read ({error})") from error
    where = str(path) if path else "settings"
    if "folder" in content:
        raise SettingsError(f"{where}: unknown key 'folder'")
    given = dict(content)
    data = Path(given.pop("data", "gateway-data"))
    values = _values(Settings, given, where)
    values |= {"data": folder / data, "folder": folder}
    values |= {name: value for name, value in overrides.items() if value is not None}
    return Settings(**values).checked()


def _values(kind: type, content: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The arguments of a dataclass out of a table of the file."""
    hints = get_type_hints(kind)
    unknown = sorted(set(content) - {entry.name for entry in fields(kind)})
    if unknown:
        raise SettingsError(f"{where}: unknown keys {unknown}; known are {sorted(hints)}")
    missing = [
        entry.name
        for entry in fields(kind)
        if entry.default is MISSING
        and entry.default_factory is MISSING
        and entry.name not in content
    ]
    if missing:
        raise SettingsError(f"{where}: {missing} must be given")
    return {name: _value(hints[name], value, f"{where}: {name}") for name, value in content.items()}


def _value(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, type) and hasattr(hint, "__dataclass_fields__"):
        if not isinstance(value, dict):
            raise SettingsError(f"{where} must be a table")
        return hint(**_values(hint, value, where))
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise SettingsError(f"{where} must be a list")
        return tuple(_value(get_args(hint)[0], item, where) for item in value)
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(one for one in get_args(hint) if one is not type(None))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not hint:
        raise SettingsError(f"{where} must be of type {hint.__name__}")
    return value
