"""The command line `fall-gateway`. What belongs here: arguments and printing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from fall_assets.errors import FallAssetsError
from fall_assets.gateway.database import Database
from fall_assets.gateway.settings import Settings, load_settings
from fall_assets.gateway.tokens import ROLES, Role, Tokens

F = TypeVar("F", bound=Callable[..., Any])


class _Group(click.Group):
    """A group whose commands say what is wrong in one line instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FallAssetsError as error:
            raise click.ClickException(str(error)) from error


def _settings_options(function: F) -> F:
    file = click.Path(exists=True, dir_okay=False, path_type=Path)
    folder = click.Path(file_okay=False, path_type=Path)
    function = click.option("--config", type=file, help="The settings file gateway.toml.")(function)
    return click.option("--data", type=folder, help="Folder of the gateway's data.")(function)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fall-assets")
def main() -> None:
    """Between boxes, wards and the platform."""


@main.command("serve")
@_settings_options
@click.option("--host", help="Address to listen on; others than loopback need tls_proxy = true.")
@click.option("--port", type=click.IntRange(0, 65535), help="0: any that is free.")
def serve_command(
    config: Path | None, data: Path | None, host: str | None, port: int | None
) -> None:
    """Run the service until it is told to stop."""
    from fall_assets.gateway.app import create_app
    from fall_assets.gateway.server import log_to_stderr, serve

    settings = load_settings(config, data=data, host=host, port=port)
    log_to_stderr()
    serve(create_app(settings), settings)


@main.group(cls=_Group)
def token() -> None:
    """Who may talk to the gateway."""


@token.command("add")
@_settings_options
@click.option("--role", type=click.Choice(ROLES), required=True)
@click.option("--box", help="The box's id, for the role box.")
@click.option("--cameras", help="Ids of its cameras: a,b,c; left out: all that are not another's.")
@click.option("--ward", help="The ward's name, for the role ward; left out: all wards.")
@click.option("--note", default="", help="What you will know it by.")
def add(
    config: Path | None,
    data: Path | None,
    role: str,
    box: str | None,
    cameras: str | None,
    ward: str | None,
    note: str,
) -> None:
    """Make a token and print it: it cannot be shown again."""
    names = None if cameras is None else [one.strip() for one in cameras.split(",") if one.strip()]
    made, token_id = _tokens(load_settings(config, data=data)).add(
        cast(Role, role), box=box, cameras=names, ward=ward, note=note
    )
    click.echo(f"token {token_id} (for list and revoke); keep what follows secret:", err=True)
    click.echo(made)


@token.command("list")
@_settings_options
def list_command(config: Path | None, data: Path | None) -> None:
    """All tokens, without the tokens themselves."""
    for row in _tokens(load_settings(config, data=data)).list():
        whose = row.box or row.ward or ("all wards" if row.role == "ward" else "")
        cameras = "" if row.cameras is None else f" cameras {','.join(row.cameras)}"
        state = "valid" if row.revoked_utc is None else f"revoked {row.revoked_utc:%Y-%m-%d %H:%M}"
        click.echo(
            f"{row.id}  {row.role:8}  {whose}{cameras}  made {row.created_utc:%Y-%m-%d %H:%M}"
            f"  {state}  {row.note}".rstrip()
        )


@token.command("revoke")
@_settings_options
@click.argument("token_id")
def revoke(config: Path | None, data: Path | None, token_id: str) -> None:
    """Make a token worthless from now on."""
    _tokens(load_settings(config, data=data)).revoke(token_id)
    click.echo(f"token {token_id} is revoked")


@main.command("ward-link")
@_settings_options
@click.option("--ward", help="The ward's name; left out: all wards.")
def ward_link(config: Path | None, data: Path | None, ward: str | None) -> None:
    """Make a token for a ward and print the page's address with it: it cannot be shown again."""
    settings = load_settings(config, data=data)
    made, token_id = _tokens(settings).add("ward", ward=ward, note="ward-link")
    click.echo(f"token {token_id} (for list and revoke); keep what follows secret:", err=True)
    address = settings.public_url.rstrip("/") or f"http://{settings.host}:{settings.port}"
    # Behind the '#' it is sent to no server and stands in no log.
    click.echo(f"{address}/ward#token={made}")


def _tokens(settings: Settings) -> Tokens:
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Tokens(Database(settings.database, settings.data), lambda: datetime.now(UTC))


if __name__ == "__main__":
    main()
