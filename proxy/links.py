"""The ways to all targets (`TargetLink`): made of the configuration, kept over a reload, and given up when replaced."""

import asyncio
from collections.abc import Iterable, Mapping

from proxy import config
from proxy.account_reach import Reach
from proxy.backstop import Backstop
from proxy.config import Configuration
from proxy.contract.settings import Secret
from proxy.registry import Registry
from proxy.shared import TargetLink
from proxy.stop import Keeper
from proxy.upstream import Dialler

RETIRE_POLL_S = 1.0


def make(
    configuration: Configuration, known: Mapping[str, TargetLink], environment: Mapping[str, str]
) -> dict[str, TargetLink]:
    """The ways to all targets; those of unchanged targets are kept as they are. Raises SettingsError."""

    def read_secret(secret: Secret | None) -> str | None:
        return config.read_secret(secret, environment)

    return {
        name: known[name]
        if name in known and known[name].settings == target
        else TargetLink(
            name=name,
            settings=target,
            dialler=Dialler(name, target, read_secret=read_secret),
            reach=Reach(name, target, read_secret=read_secret),
            backstop=Backstop(name, wanted=target.backstop),
            keepers={host: Keeper(name, target.at(host), read_secret=read_secret) for host in target.servers},
        )
        for name, target in configuration.targets.items()
    }


async def start(links: Mapping[str, TargetLink]) -> None:
    """Have the keepers connect; they say themselves what they may not do."""
    await asyncio.gather(*(keeper.start() for link in links.values() for keeper in link.keepers.values()))


async def retire(link: TargetLink, registry: Registry) -> None:
    """Close a replaced target's keepers once no session needs them."""
    while any(session.uses(link) for session in registry):  # noqa: ASYNC110 rare, and nobody waits
        await asyncio.sleep(RETIRE_POLL_S)
    await close([link])


async def close(links: Iterable[TargetLink]) -> None:
    """Close the keepers."""
    await asyncio.gather(*(keeper.close() for link in links for keeper in link.keepers.values()))
