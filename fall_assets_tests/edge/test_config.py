"""edge.toml is read strictly, and nothing that it keeps secret is ever told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fall_assets.edge.config import (
    CameraSettings,
    EdgeConfigError,
    load_settings,
    read_token,
    shown_url,
)
from fall_assets.features.crop import Crop

TOP = 'box = "box-1"\ngateway = "http://127.0.0.1:8600"\n'
CAMERA = '[[cameras]]\nid = "cam-1"\nurl = "rtsp://ward:geheim-17@10.0.0.5:554/stream?key=abcdef"\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "edge.toml"
    path.write_text(text)
    return path


def test_everything_that_can_be_set(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        TOP
        + 'token_file = "secret/token"\nstate = "/var/lib/fall"\n'
        + CAMERA
        + 'fps = 25\ncrop = "0,0.1,1,0.9"\nbeds = [[[0.1, 0.2], [0.5, 0.2], [0.5, 0.6]]]\n'
        + 'camera_model = "ACME Dome 4"\nfirmware = "9.80.1"\n'
        + '[[cameras]]\nid = "film"\nurl = "file://clips/a.mp4"\nloop = true\npace = "fast"\n'
        + '[runner]\nhwaccel = "auto"\npose_threads = 2\ntelemetry_s = 30\ngate = false\n',
    )
    settings = load_settings(path)
    first, film = settings.cameras
    assert settings.box == "box-1"
    assert settings.token_file == tmp_path / "secret/token"
    assert settings.state == Path("/var/lib/fall")
    assert (first.fps, first.crop) == (25.0, Crop(0, 0.1, 1, 0.9))
    assert first.beds == (((0.1, 0.2), (0.5, 0.2), (0.5, 0.6)),)
    assert (first.camera_model, first.firmware) == ("ACME Dome 4", "9.80.1")
    assert (film.camera_model, film.firmware) == ("", "")
    assert not first.is_file
    assert film.url == f"file://{tmp_path}/clips/a.mp4"
    assert (film.is_file, film.loop, film.pace) == (True, True, "fast")
    runner = settings.runner
    assert (runner.hwaccel, runner.pose_threads, runner.telemetry_s) == ("auto", 2, 30.0)
    assert runner.gate is False


def test_little_is_needed(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, TOP + CAMERA))
    assert settings.token_file == tmp_path / "token"
    assert settings.state == tmp_path / "state"
    assert settings.runner.gate


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (CAMERA, "box"),
        (TOP, "[[cameras]]"),
        ("colour = 1\n" + TOP + CAMERA, "colour"),
        (TOP + CAMERA + "size = 3\n", "cameras[0].size"),
        (TOP + CAMERA + "[runner]\nthreads = 3\n", "runner.threads"),
        (TOP + CAMERA + 'fps = "25"\n', "cameras[0].fps"),
        (TOP + CAMERA + "fps = true\n", "cameras[0].fps"),
        (TOP + CAMERA + "fps = nan\n", "cameras[0].fps"),
        (TOP + CAMERA + "fps = -1\n", "cameras[0].fps"),
        (TOP + CAMERA + "firmware = 9.8\n", "cameras[0].firmware"),
        (TOP + CAMERA + f'camera_model = "{"a" * 81}"\n', "cameras[0].camera_model"),
        (TOP + CAMERA + "loop = 1\n", "cameras[0].loop"),
        (TOP + CAMERA + 'pace = "slow"\n', "cameras[0].pace"),
        (TOP + CAMERA + 'crop = "0,0,2,1"\n', "cameras[0].crop"),
        (TOP + CAMERA + "beds = [[[0.1, 0.2], [0.5, 0.2]]]\n", "cameras[0].beds"),
        (TOP + CAMERA + "[runner]\npose_threads = 1.5\n", "runner.pose_threads"),
        (TOP + CAMERA + "[runner]\ntelemetry_s = 0\n", "runner.telemetry_s"),
        (TOP + CAMERA + 'runner = "x"\n', "cameras[0].runner"),
        (TOP + CAMERA + CAMERA, "cameras[1].id"),
        (TOP + '[[cameras]]\nurl = "rtsp://a/b"\n', "cameras[0].id"),
        (TOP + '[[cameras]]\nid = "../x"\nurl = "rtsp://a/b"\n', "cameras[0].id"),
        (TOP + '[[cameras]]\nid = "a\\nb"\nurl = "rtsp://a/b"\n', "cameras[0].id"),
        (TOP + f'[[cameras]]\nid = "{"a" * 65}"\nurl = "rtsp://a/b"\n', "cameras[0].id"),
        (TOP + '[[cameras]]\nid = "a"\nurl = "ftp://a/b"\n', "cameras[0].url"),
        (TOP + '[[cameras]]\nid = "a"\nurl = "concat:/etc/passwd"\n', "cameras[0].url"),
        (TOP + '[[cameras]]\nid = "a"\nurl = "rtsp:///b"\n', "cameras[0].url"),
        (TOP + '[[cameras]]\nid = "a"\nurl = "file://"\n', "cameras[0].url"),
        (TOP + '[[cameras]]\nid = "a"\nurl = "rtsp://u:pw12@a:99999/b"\n', "cameras[0].url"),
        (TOP + '[[cameras]]\nid = "a"\nurl = "rtsp://u:pw12@[a/b"\n', "cameras[0].url"),
        ('box = "b"\ngateway = "http://10.0.0.1"\n' + CAMERA, "gateway"),
        ('box = "b"\ngateway = "http://127.0.0.1.example.com"\n' + CAMERA, "gateway"),
        ('box = "b"\ngateway = "https://me:pw12@a"\n' + CAMERA, "gateway"),
        ('box = "b"\ngateway = "a.example"\n' + CAMERA, "gateway"),
        ("box = [\n", "edge.toml"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, text: str, place: str) -> None:
    with pytest.raises(EdgeConfigError) as caught:
        load_settings(written(tmp_path, text))
    message = str(caught.value)
    assert place in message
    assert "edge.toml" in message
    assert "geheim" not in message
    assert "pw12" not in message


@pytest.mark.parametrize("gateway", ["http://localhost:1", "http://[::1]:1", "https://gw.example"])
def test_gateways_on_this_machine_or_by_tls(tmp_path: Path, gateway: str) -> None:
    text = f'box = "b"\ngateway = "{gateway}/"\n' + CAMERA
    assert load_settings(written(tmp_path, text)).gateway == gateway


def test_a_wrong_address_is_not_quoted(tmp_path: Path) -> None:
    text = TOP + '[[cameras]]\nid = "a"\nurl = "rtps://ward:geheim-17@host/x"\n'
    with pytest.raises(EdgeConfigError) as caught:
        load_settings(written(tmp_path, text))
    assert "geheim" not in str(caught.value)


def test_no_file_no_text(tmp_path: Path) -> None:
    with pytest.raises(EdgeConfigError, match="cannot be read"):
        load_settings(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(EdgeConfigError, match="UTF-8"):
        load_settings(tmp_path / "binary.toml")


def test_the_token_file_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with pytest.raises(EdgeConfigError, match="cannot be read"):
        read_token(path)
    path.write_text("fa_box_abc\n")
    path.chmod(0o644)
    with pytest.raises(EdgeConfigError, match="chmod 600") as caught:
        read_token(path)
    assert "fa_box" not in str(caught.value)
    for mode in (0o600, 0o640):
        path.chmod(mode)
        assert read_token(path) == "fa_box_abc"
    for text in ("", "two words", "two\nlines", "zähler"):
        path.write_text(text)
        with pytest.raises(EdgeConfigError, match="one line"):
            read_token(path)


def test_passwords_are_shown_nowhere(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, TOP + CAMERA))
    camera = settings.cameras[0]
    assert camera.shown == "rtsp://***@10.0.0.5:554/stream?***"
    message = f"[Errno 5] no answer: '{camera.url}' (user ward:geheim-17, key=abcdef)"
    for text in (
        repr(settings), str(camera), camera.shown,
        camera.without_secrets(message), settings.without_secrets(message),
    ):  # fmt: skip
        assert "geheim" not in text
        assert "abcdef" not in text
    assert "10.0.0.5" in camera.without_secrets(message)


SECRETS = st.text(
    st.characters(min_codepoint=48, max_codepoint=122, exclude_characters=":;<=>?@[\\]^`_"),
    min_size=6,
    max_size=20,
).map(lambda text: f"Zq{text}")


@given(SECRETS, st.sampled_from(["rtsp", "http", "https", "rtsps"]))
def test_whatever_the_password_is(secret: str, scheme: str) -> None:
    url = f"{scheme}://user:{secret}@camera.example:99999/x"
    camera = CameraSettings("a", url)
    good = replace(camera, url=url.replace("99999", "99"))
    for one in (camera, good):
        assert secret not in one.shown
        assert secret not in one.without_secrets(f"failed: {one.url} and {secret}!")
        assert secret not in shown_url(one.url)


def test_percent_signs_do_not_hide_a_password() -> None:
    camera = CameraSettings("a", "rtsp://user:p%40ss-word@host/x")
    assert "p@ss-word" not in camera.without_secrets("login user:p@ss-word failed")
    assert "p%40ss-word" not in camera.without_secrets("login user:p%40ss-word failed")
