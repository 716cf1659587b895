"""Provide one Entra token for the whole process: fetch it once, refresh it in the background, replace it when rejected.

azure-identity by itself fetches once per concurrent call, and makes calls wait while it refreshes.
"""

import asyncio
import functools
import logging
import math
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from azure.core.credentials import AccessTokenInfo, SupportsTokenInfo, TokenRequestOptions
from azure.core.exceptions import AzureError
from azure.identity import DefaultAzureCredential

from shared.errors import SettingsError, UpstreamAuthError
from shared.settings.parsers import printable

logger = logging.getLogger(__name__)

# All in seconds.
EXPIRY_MARGIN = 10.0
# azure-identity refreshes a token from this long before it expires (its DEFAULT_REFRESH_OFFSET), and returns the same
# token until then.
REFRESH_MARGIN = 300.0
REFRESH_INTERVAL = 30.0
REPLACEMENT_INTERVAL = 60.0

# For a request with all its attempts, even if the response arrives byte by byte.
TOKEN_DEADLINE = 20.0

ADVICE = "Check that it is assigned to the app. On your own machine, run az login."
TOKENS = re.compile(r"[\w-]{8,}\.[\w-]{8,}\.[\w.-]*")
# An endpoint's response, up to the next message of the chain of credentials.
QUOTED = re.compile(r"Content: .*?(?=\n\t|\nTo mitigate|\Z)", re.DOTALL)


def default_credential(client_id: str | None) -> DefaultAzureCredential:
    """Return Azure's usual chain of credentials, with time-outs short enough for a call that waits.

    `client_id` selects a user-assigned identity, None the system-assigned one. Raise `SettingsError` if a variable that
    azure-identity itself reads in the environment is invalid, or names a certificate that cannot be read.
    """
    try:
        return DefaultAzureCredential(
            managed_identity_client_id=client_id,
            connection_timeout=2,
            read_timeout=5,
            retry_total=2,
            retry_backoff_factor=0.2,
        )
    except (OSError, ValueError) as exc:
        # The text says what is wrong; of values, it quotes only those of AZURE_TOKEN_CREDENTIALS and of paths.
        raise SettingsError({"AZURE_... of azure-identity": str(exc)}) from None


class TokenProvider:
    """Return a valid token for `scope` when called, as the openai SDK expects of a token provider.

    Use it on one event loop only. A call raises `UpstreamAuthError` if no token is available; the log says why.
    """

    def __init__(self, credential: SupportsTokenInfo, scope: str, clock: Callable[[], float] = time.time) -> None:
        self.credential = credential
        self.scope = scope
        self.clock = clock
        self.token: AccessTokenInfo | None = None
        self.refresh_at = -math.inf
        self.replaced_at = -math.inf
        self.request: asyncio.Task[None] | None = None
        # Threads of its own: a slow identity endpoint may block them, and the default ones resolve host names.
        self.threads = ThreadPoolExecutor(2, "token")

    async def __call__(self) -> str:
        now = self.clock()
        if self.token is None or now >= self.token.expires_on - EXPIRY_MARGIN:
            await asyncio.shield(self.current_request())
        elif now >= self.refresh_at:
            self.refresh_at = now + REFRESH_INTERVAL
            self.current_request()
        assert self.token is not None
        return self.token.token

    async def replace(self, rejected: str) -> bool:
        """Get a new token after Azure rejected `rejected`. Return False if there is no other token to try.

        Bypass azure-identity's cache, at most once per minute.
        """
        while self.is_current(rejected):
            # A request that is in progress may be a refresh, which may return the same token.
            if self.request is None:
                if self.clock() < self.replaced_at + REPLACEMENT_INTERVAL:
                    return False
                self.replaced_at = self.clock()
            with suppress(UpstreamAuthError):
                await asyncio.shield(self.current_request(bypass_cache=True))
        return True

    def is_current(self, token: str) -> bool:
        return self.token is None or self.token.token == token

    def current_request(self, *, bypass_cache: bool = False) -> asyncio.Task[None]:
        """Return the request in progress, or start one: there is at most one at a time."""
        if self.request is None:
            self.request = asyncio.create_task(self.fetch(bypass_cache))
            # Nobody awaits a background refresh, so nobody else would retrieve its exception.
            self.request.add_done_callback(retrieve_exception)
        return self.request

    async def fetch(self, bypass_cache: bool) -> None:
        options: TokenRequestOptions = {}
        if bypass_cache:
            # Claims make azure-identity bypass its cache; these ask for a token that is issued from now on.
            now = int(self.clock())
            options["claims"] = f'{{"access_token":{{"nbf":{{"essential":true,"value":"{now}"}}}}}}'
        try:
            async with asyncio.timeout(TOKEN_DEADLINE):
                ask = functools.partial(self.credential.get_token_info, self.scope, options=options)
                token = await asyncio.get_running_loop().run_in_executor(self.threads, ask)
            printable(token.token)
        except Exception as exc:
            # azure-identity raises exceptions other than its own when it cannot read a response.
            cause = without_tokens(exc.message) if isinstance(exc, AzureError) else type(exc).__name__
            logger.error("No token for the app's identity. %s %s", ADVICE, cause)
            raise UpstreamAuthError from None
        finally:
            # Cleared before the task ends, so that nobody awaits a request that is over.
            self.request = None
        if self.token and self.token.token == token.token:
            # azure-identity has no newer token yet; asking at every call would only keep threads busy.
            self.refresh_at = self.clock() + REFRESH_INTERVAL
        else:
            self.refresh_at = token.refresh_on or token.expires_on - REFRESH_MARGIN
        self.token = token


def retrieve_exception(request: asyncio.Task[None]) -> None:
    """Retrieve the exception of `request`, which asyncio would log otherwise."""
    if not request.cancelled():
        request.exception()


def without_tokens(message: str) -> str:
    """Return an error text of azure-identity without the identity endpoint's response, which it may quote."""
    return TOKENS.sub("(token)", QUOTED.sub("Content: (left out)", message))
