from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fall_assets.edge import package as package_module
from fall_assets.edge.package import (
    EXECUTABLE,
    MANIFEST,
    SIGNATURE,
    Manifest,
    PackageError,
    unpack,
    verify_package,
    write_archive,
)
from fall_assets.edge.signing import SignatureError, sign
from fall_assets.errors import PermanentFailureError
from fall_assets_tests.edge.packages import Made, make_package

KEY = Ed25519PrivateKey.generate()
TRUSTED = [KEY.public_key()]
Members = list[tuple[tarfile.TarInfo, bytes]]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_package(tmp_path, KEY)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_package(tmp_path_factory.mktemp("shared"), KEY)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _refused(place: Path, match: str | None = None) -> None:
    """Neither verified nor, as an archive, unpacked; and nothing is left behind."""
    with pytest.raises(PermanentFailureError, match=match):
        verify_package(place, TRUSTED)
    if place.is_file():
        to = place.parent / "to"
        to.mkdir(exist_ok=True)
        with pytest.raises(PermanentFailureError, match=match):
            unpack(place, to / "target", TRUSTED)
        assert not _names(to)


def test_a_package_verifies_as_directory_as_archive_and_unpacked(
    made: Made, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    found = unpack(made.archive, target, TRUSTED)
    for place in (made.folder, made.archive, target):
        assert verify_package(place, TRUSTED) == found
    assert found.sha256 == made.manifest.sha256
    assert os.access(target / EXECUTABLE, os.X_OK)
    assert not os.access(target / "model/model.json", os.X_OK)


def test_the_same_directory_gives_the_same_archive(made: Made, tmp_path: Path) -> None:
    for path in made.folder.rglob("*"):
        os.utime(path, (1, 1))
    assert write_archive(made.folder, tmp_path / "again.tar.gz") == made.archive_sha256


def test_an_archive_is_a_tar_that_others_read(made: Made) -> None:
    with tarfile.open(made.archive) as archive:
        names = archive.getnames()
        assert names[:2] == [MANIFEST, SIGNATURE]
        assert set(names[2:]) == {file.path for file in made.manifest.files}
        assert {(one.mtime, one.uid, one.gid, one.uname) for one in archive} == {(0, 0, 0, "")}


def test_a_changed_byte_in_any_file_of_a_directory_is_refused(made: Made) -> None:
    for path in sorted(path for path in made.folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        _refused(made.folder)
        path.write_bytes(content)
    verify_package(made.folder, TRUSTED)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_changed_byte_anywhere_in_an_archive_changes_nothing_or_is_refused(
    data: st.DataObject, shared: Made, tmp_path: Path
) -> None:
    content = bytearray(shared.archive.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    changed = tmp_path / "changed.tar.gz"
    changed.write_bytes(content)
    try:
        found = verify_package(changed, TRUSTED)
    except PermanentFailureError:
        return
    # Bytes of gzip's header that mean nothing (its time, say).
    assert found == shared.manifest
    assert place < 10


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_cut_archive_is_refused(data: st.DataObject, shared: Made, tmp_path: Path) -> None:
    content = shared.archive.read_bytes()
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    _refused(cut)


def test_another_key_is_refused(made: Made) -> None:
    others = [Ed25519PrivateKey.generate().public_key()]
    for place in (made.folder, made.archive):
        with pytest.raises(SignatureError):
            verify_package(place, others)
    with pytest.raises(SignatureError):
        verify_package(made.archive, [])


def test_a_package_without_its_signature_is_refused(made: Made) -> None:
    (made.folder / SIGNATURE).unlink()
    _refused(made.folder, SIGNATURE)
    _refused(_rebuilt(made, lambda members: [members[0], *members[2:]]), SIGNATURE)


def test_another_platforms_package_is_refused(tmp_path: Path) -> None:
    made = make_package(tmp_path, KEY, platform="linux-riscv64")
    _refused(made.folder, "linux-riscv64")
    _refused(made.archive, "linux-riscv64")


def test_a_file_more_or_less_is_refused(made: Made) -> None:
    (made.folder / "model" / "more").write_text("")
    _refused(made.folder, "model/more")
    (made.folder / "model" / "more").unlink()
    (made.folder / "model" / "model.json").unlink()
    _refused(made.folder, "model/model.json")


def test_links_devices_and_empty_folders_in_a_directory_are_refused(made: Made) -> None:
    other = made.folder / "other"
    makers: list[Callable[[], None]] = [
        lambda: other.symlink_to("model"),
        lambda: other.symlink_to("/etc/passwd"),
        lambda: os.mkfifo(other),
        lambda: other.mkdir(),
    ]
    for make in makers:
        make()
        _refused(made.folder, "other")
        other.rmdir() if other.is_dir() and not other.is_symlink() else other.unlink()
    whole = (made.folder / "model/model.json").rename(made.folder.parent / "model.json")
    (made.folder / "model/model.json").symlink_to(whole)
    _refused(made.folder, "link")


def test_what_may_be_run_is_what_the_manifest_says(made: Made) -> None:
    (made.folder / EXECUTABLE).chmod(0o644)
    _refused(made.folder, "may be run")
    (made.folder / EXECUTABLE).chmod(0o755)
    (made.folder / "model/model.json").chmod(0o755)
    _refused(made.folder, "may be run")

    def run_all(members: Members) -> Members:
        for one, _ in members:
            one.mode = 0o755
        return members

    _refused(_rebuilt(made, run_all), "may be run")


def _rebuilt(made: Made, change: Callable[[Members], Members]) -> Path:
    """The archive with other members; the signed manifest as it was."""
    with tarfile.open(made.archive) as archive:
        members = []
        for one in archive.getmembers():
            file = archive.extractfile(one)
            assert file is not None
            members.append((one, file.read()))
    path = made.archive.with_name("rebuilt.tar.gz")
    with tarfile.open(path, "w:gz", format=tarfile.USTAR_FORMAT) as archive:
        for one, content in change(members):
            archive.addfile(one, io.BytesIO(content))
    return path


def _member(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"x") -> Members:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content) if kind == tarfile.REGTYPE else 0
    if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        info.linkname = "../../../etc/passwd"
    return [(info, content if kind == tarfile.REGTYPE else b"")]


@pytest.mark.parametrize(
    "more",
    [
        _member("../evil"),
        _member("/tmp/evil"),
        _member("model/../../evil"),
        _member("model//evil"),
        _member("./evil"),
        _member("evil\\.."),
        _member("more"),
        _member("model/model.json"),
        _member("link", tarfile.SYMTYPE),
        _member("link", tarfile.LNKTYPE),
        _member("device", tarfile.CHRTYPE),
        _member("pipe", tarfile.FIFOTYPE),
        _member("folder", tarfile.DIRTYPE),
    ],
    ids=lambda more: f"{more[0][0].name}-{more[0][0].type.decode()}",
)
@pytest.mark.parametrize("first", [False, True])
def test_more_in_an_archive_is_refused(made: Made, more: Members, first: bool) -> None:
    path = _rebuilt(
        made, lambda members: [*members[:2], *more, *members[2:]] if first else [*members, *more]
    )
    _refused(path)
    assert not (made.archive.parent / "evil").exists()
    assert not Path("/tmp/evil").exists()


def test_a_link_in_place_of_a_folder_is_refused(made: Made, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link = _member("model", tarfile.SYMTYPE)
    link[0][0].linkname = str(outside)
    _refused(_rebuilt(made, lambda members: [*members[:2], *link, *members[2:]]))
    assert not _names(outside)


def test_what_follows_the_archive_is_refused(made: Made) -> None:
    path = made.archive.with_name("longer.tar.gz")
    path.write_bytes(made.archive.read_bytes() + gzip.compress(b"more"))
    _refused(path, "after its end")
    path.write_bytes(made.archive.read_bytes() + b"more")
    _refused(path)


def test_a_bomb_is_refused_before_it_is_unpacked(made: Made) -> None:
    path = made.archive.with_name("bomb.tar.gz")

    def huge(members: Members) -> Members:
        info = tarfile.TarInfo(MANIFEST)
        info.size = 30_000_000
        return [(info, bytes(info.size)), *members[1:]]

    _rebuilt(made, huge).rename(path)
    _refused(path, "over")


@pytest.mark.parametrize(
    "change",
    [
        ("model/model.json", "../../etc/passwd"),
        ("model/model.json", "/etc/passwd"),
        ("model/model.json", "model/../../x"),
        ("model/model.json", "manifest.json"),
        ("model/model.json", "fall-edge/fall-edge"),
        ('"format": 1', '"format": 2'),
        ('"size": 2', '"size": -2'),
        ('"size": 2', '"size": 1e99'),
        ('"size": 2', '"size": 999999999999'),
        ('"size": 2', '"size": true'),
        ("{", "["),
        ("{", "[" * 100_000),
    ],
)
def test_a_signed_manifest_that_makes_no_sense_is_refused(
    made: Made, change: tuple[str, str]
) -> None:
    content = made.manifest.to_bytes().replace(change[0].encode(), change[1].encode(), 1)
    (made.folder / MANIFEST).write_bytes(content)
    (made.folder / SIGNATURE).write_bytes(sign(content, KEY))
    _refused(made.folder)


def test_too_many_files_are_refused(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_module, "MAX_FILES", 4)
    _refused(made.folder, "files")
    _refused(made.archive, "files")


def test_what_is_there_already_stays_and_what_is_broken_is_replaced(
    made: Made, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    unpack(made.archive, target, TRUSTED)
    before = target.stat().st_ino
    unpack(made.archive, target, TRUSTED)
    assert target.stat().st_ino == before
    (target / "model/model.json").write_text("broken")
    unpack(made.archive, target, TRUSTED)
    verify_package(target, TRUSTED)


def test_another_package_than_the_wanted_one_is_refused(made: Made, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="wanted"):
        unpack(made.archive, tmp_path / "target", TRUSTED, manifest_sha256="0" * 64)
    assert not (tmp_path / "target").exists()


def test_a_manifest_survives_its_bytes(made: Made) -> None:
    assert Manifest.from_bytes(made.manifest.to_bytes()) == made.manifest
