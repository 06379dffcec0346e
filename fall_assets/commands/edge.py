"""`fall-assets edge`: packages for the boxes, and who runs which. Here: arguments and printing."""

from __future__ import annotations

import click

from fall_assets.lake import Lake
from fall_assets.pipeline.work import Work
from fall_assets.site import site_from_environment


@click.group()
def edge() -> None:
    """Packages for the boxes beside the cameras."""


@edge.command("package")
def package() -> None:
    """Pack the newest registered version, compare it with its model, and publish it."""
    from fall_assets.commands.running import run_job

    raise SystemExit(run_job(site_from_environment(), "packaging", {}))


@edge.command("list")
def list_packages() -> None:
    """List packages, newest first: sequence, version, size, start, comparison, archive."""
    rows = _work().lake.read("edge_package").sort("sequence", descending=True).to_dicts()
    for row in rows:
        click.echo(
            f"{row['sequence']:>4}  version {row['model_version']}  {row['precision']}  "
            f"{row['archive_bytes'] / 1e6:.0f} MB packed, {row['unpacked_bytes'] / 1e6:.0f} MB "
            f"unpacked  self-test {row['start_s']:.1f} s  {row['segments']} segments "
            f"compared, at most {row['largest_difference']:.1e} apart  {row['archive']}"
        )
    if not rows:
        click.echo("no package yet; `fall-assets edge package` makes one")


@edge.command("assign")
@click.argument("box")
@click.option("--version", help="Model version; default: the newest package.")
@click.option("--camera", "cameras", multiple=True, help="Only for this camera; may be repeated.")
@click.option(
    "--allow-older", is_flag=True, help="Boxes may go back to a package that is older than theirs."
)
def assign(box: str, version: str | None, cameras: tuple[str, ...], allow_older: bool) -> None:
    """Tell BOX ('*': every box without an assignment of its own) to run a package.

    The package and the signed assignment go to the site's gateway; boxes fetch them at their next
    poll.
    """
    from fall_assets.pipeline import edge as pipeline

    work = _work()
    chosen = pipeline.newest_package(work, version)
    told = pipeline.assign(work, box, chosen, cameras=cameras or ("*",), allow_older=allow_older)
    click.echo(
        f"{'every box' if box == '*' else box} is to run package {chosen['sequence']} "
        f"(version {chosen['model_version']}), assignment {told['serial']}"
    )


@edge.command("public-key")
def public_key() -> None:
    """Print the public key that boxes trust; the private one stays in the site's folder."""
    from fall_assets.edge.signing import public_pem
    from fall_assets.pipeline.edge import signing_key

    click.echo(public_pem(signing_key(_work())), nl=False)


def _work() -> Work:
    site = site_from_environment()
    return Work(site, Lake(site.lake_root))
