"""``asynccopy run``: the daemon."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click
from msgspec import structs

from asynccopy import logs
from asynccopy.config import Config, MirrorConfig, load
from asynccopy.config.cluster import Cluster
from asynccopy.errors import AsyncCopyError, NoActiveNameNode, NotThere, ServerTrouble
from asynccopy.executors.loop import new_loop
from asynccopy.logs import printable


@click.command("run", epilog="Exit codes: see asynccopy --help.")
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The TOML file that names the mirrors; see config.example.toml.",
)
@click.option("--check", is_flag=True, help="Validate the file and reach every server of every mirror; copy nothing.")
@click.option("-v", "--verbose", is_flag=True, help="Tell more.")
def command(*, config: Path, check: bool, verbose: bool) -> int:
    """Keep the mirrors of a configuration file equal, for months.

    SIGTERM finishes the ranges in flight and ends; a second one ends at once. SIGHUP reads the file again.
    """
    daemon = load(config).daemon
    json = daemon.log == "json" or (daemon.log == "auto" and not sys.stderr.isatty())
    logs.configure(verbose=verbose or not check, json=json and not check)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        if check:
            return runner.run(_check(config))
        from asynccopy.daemon.service import serve

        runner.run(serve(config))
    return 0


async def _check(path: Path) -> int:
    """A line for each mirror. The worst decides the exit code."""
    from asynccopy.daemon.service import configured, hooks, token

    config, code = configured(path), 0
    hooks(config)
    token(config)
    for name, mirror in config.mirrors.items():
        try:
            click.echo(f"{name}: {await _reach(config, mirror)}")
        except AsyncCopyError as error:
            code = max(code, error.exit_code)
            click.echo(f"{name}: {printable(error.message)}" + (f" ({printable(error.hint)})" if error.hint else ""))
    count = f"{len(config.mirrors)} mirror{'s' * (len(config.mirrors) != 1)}"
    click.echo(f"{path}: {count}, " + ("all reachable" if not code else "see above"))
    return code


async def _reach(config: Config, mirror: MirrorConfig) -> str:
    """What both sides turn out to be. Raises AsyncCopyError."""
    from asynccopy.daemon.build import open_sides
    from asynccopy.mirror.rules import no_snapshots
    from asynccopy.transfer.parts import check_part_size

    source, destination = await open_sides(config, mirror)
    try:
        for text in (mirror.source, mirror.destination):
            await _reach_servers(config, text)
        await source.check()
        capabilities = await destination.check()
        snapshots = source.snapshots is not None and await source.snapshots.names() is not None
        if mirror.watch == "snapshots" and not snapshots:
            raise no_snapshots(source.url)
        if mirror.part_size is not None:
            check_part_size(mirror.part_size, destination.limits)
    finally:
        await destination.aclose()
        await source.aclose()
    proof = f"checksum {capabilities.checksum}" if capabilities.checksum else "no checksum of its own"
    return f"{source.url} -> {destination.url}: ok ({proof}{', snapshots' * snapshots})"


async def _reach_servers(config: Config, side: str) -> None:
    """Each server of a cluster by itself, where there are several: a standby one is needed at another time.

    Raises AsyncCopyError, also for what only one of them lacks.
    """
    from asynccopy.storage.registry import open_source
    from asynccopy.storage.settings import Settings

    url, given = config.place(side)
    cluster = given.get("cluster")
    if not isinstance(cluster, Cluster) or len(cluster.servers) < 2:
        return
    for server in cluster.servers:
        alone = Settings(cluster=structs.replace(cluster, servers=(server,)))
        there = open_source(url.replace(cluster.servers[0], server, 1), alone)
        try:
            await there.check()
        except (NoActiveNameNode, ServerTrouble, NotThere):
            pass  # it answers, and knows who we are: a standby NameNode, or a destination that is still to be made
        finally:
            await there.aclose()
