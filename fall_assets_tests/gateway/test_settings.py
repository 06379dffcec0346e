"""The settings file says what is wrong with it, and the service loads nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fall_assets.gateway.settings import SettingsError, load_settings

FULL = """
host = "127.0.0.1"
port = 8611
data = "kept"
public_url = "https://falls.example.org"
[escalation]
after_s = 90
[email]
host = "127.0.0.1"
port = 25
[mqtt]
host = "127.0.0.1"
[limits]
alert_bytes = 500_000
[[contacts]]
name = "sister"
level = 1
wards = ["West"]
webhook = "https://example.org/hook"
[[contacts]]
name = "doctor"
level = 2
help = true
email = "doctor@example.org"
"""


def test_a_file_is_read_and_its_paths_are_its_folders(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(FULL)
    settings = load_settings(tmp_path / "gateway.toml", port=9000)
    assert settings.data == tmp_path / "kept"
    assert settings.port == 9000
    assert settings.escalation.after_s == 90.0
    assert settings.limits.alert_bytes == 500_000
    assert [contact.concerns("East") for contact in settings.contacts] == [False, True]
    assert settings.contacts[0].concerns(None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot = 1", "prot"),
        ("port = '1'", "port must be of type int"),
        ("port = 70000", "65535"),
        ("host = '0.0.0.0'", "tls_proxy"),
        ("host = 'gateway.example.org'", "tls_proxy"),
        ("trusted_proxies = ['*']", "trusted_proxies"),
        ("[[contacts]]\nname = 'x'", "one of webhook"),
        ("[[contacts]]\nwebhook = 'https://x'", "name"),
        ("[[contacts]]\nname = 'x'\nwebhook = 'http://example.org/'", "https"),
        ("[[contacts]]\nname = 'x'\nwebhook = 'file:///etc/passwd'", "http"),
        ("[[contacts]]\nname = 'x'\nwebhook = 'https://u:p@x.org/'", "header_file"),
        ("[[contacts]]\nname = 'x'\nemail = 'a@b'", "[email]"),
        ("[email]\nhost = 'x'\nuser = 'u'", "password_file"),
        ("[mqtt]\nhost = 'broker.example.org'", "tls"),
        ("[limits]\nburst = 0", "burst"),
        ("[escalation]\nafter_s = 0", "after_s"),
        ("not toml", "cannot be read"),
    ],
)
def test_a_wrong_file_is_refused_in_words(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as refused:
        load_settings(file)
    assert words in str(refused.value)
    assert "u:p" not in str(refused.value)


def test_the_service_loads_nothing_heavy() -> None:
    heavy = ("dagster", "torch", "av", "polars", "mlflow", "pyarrow", "sklearn")
    code = (
        "import sys, fall_assets.gateway.app, fall_assets.gateway.server, fall_assets.gateway.cli;"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
