"""Build the one gateway of this process on first use: settings, callers, Azure OpenAI clients, failover and health."""

import functools
import logging
import os

from shared.callers.identify import Callers
from shared.error_responses import as_gateway_error
from shared.errors import SettingsError
from shared.health import NOT_CONFIGURED, Health, Report
from shared.settings import Settings
from shared.upstream.clients import Clients
from shared.upstream.failover import Failover

logger = logging.getLogger(__name__)


class Gateway:
    """Hold everything that the functions of one process share."""

    def __init__(self, settings: Settings) -> None:
        for warning in settings.warnings:
            logger.warning("%s", warning)
        self.settings = settings
        self.clients = Clients(settings)
        self.callers = Callers(settings, self.clients.http)
        self.failover = Failover(self.clients)
        self.health = Health(self.clients)


@functools.cache
def shared_gateway() -> Gateway:
    """Return the gateway of this process. Raise `SettingsError` if it cannot be built; the next call tries again."""
    return Gateway(Settings.from_env(os.environ))


async def reset() -> None:
    """Close the gateway's connections and forget it, so that the next call reads the settings again. For tests."""
    if shared_gateway.cache_info().currsize:
        await shared_gateway().clients.http.aclose()
    shared_gateway.cache_clear()


async def health_report() -> Report:
    """Return the state of this process's endpoints. Report invalid settings as a state, too."""
    try:
        return await shared_gateway().health.check()
    except SettingsError as exc:
        return Report(NOT_CONFIGURED, reason=as_gateway_error(exc).message)
