"""One Entra token for the whole process: fetched once, renewed in the background, replaced when refused.

azure-identity alone fetches once per concurrent caller, and makes callers wait while it renews.
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
# azure-identity renews from this long before the expiry (its DEFAULT_REFRESH_OFFSET); asking earlier gets the same token.
RENEWAL_MARGIN = 300.0
RENEWAL_INTERVAL = 30.0
REPLACEMENT_INTERVAL = 60.0

# For a request with all its attempts, also where the answer comes byte by byte.
TOKEN_DEADLINE = 20.0

ADVICE = "Is it assigned to the app? On your own machine: have you run az login?"


TOKENS = re.compile(r"[\w-]{8,}\.[\w-]{8,}\.[\w.-]*")
# What an endpoint has answered, up to what the chain of credentials says next.
QUOTED = re.compile(r"Content: .*?(?=\n\t|\nTo mitigate|\Z)", re.DOTALL)


def default_credential(client_id: str | None) -> DefaultAzureCredential:
    """Azure's usual chain of credentials, with time-outs that suit a call that somebody waits for.

    `client_id` chooses a user-assigned identity; None is the system-assigned one. Raises `SettingsError` for what
    azure-identity itself reads in the environment.
    """
    try:
        return DefaultAzureCredential(
            managed_identity_client_id=client_id,
            connection_timeout=2,
            read_timeout=5,
            retry_total=2,
            retry_backoff_factor=0.2,
        )
    except ValueError as exc:
        # The text says which of the two it is, and quotes it; neither is a secret.
        raise SettingsError({"AZURE_TOKEN_CREDENTIALS or AZURE_AUTHORITY_HOST": str(exc)}) from None


class TokenProvider:
    """Callable that returns a valid token for `scope`, as the openai SDK wants one.

    Must be used on one event loop. A call raises `UpstreamAuthError` when no token can be had; the log says why.
    """

    def __init__(self, credential: SupportsTokenInfo, scope: str, clock: Callable[[], float] = time.time) -> None:
        self.credential = credential
        self.scope = scope
        self.clock = clock
        self.token: AccessTokenInfo | None = None
        self.renew_at = -math.inf
        self.replaced_at = -math.inf
        self.request: asyncio.Task[None] | None = None
        # Its own, since an endpoint that answers byte by byte may hold them, and the others look up names.
        self.threads = ThreadPoolExecutor(2, "token")

    async def __call__(self) -> str:
        now = self.clock()
        if self.token is None or now >= self.token.expires_on - EXPIRY_MARGIN:
            await asyncio.shield(self.requested())
        elif now >= self.renew_at:
            self.renew_at = now + RENEWAL_INTERVAL
            self.requested()
        assert self.token is not None
        return self.token.token

    async def replace(self, refused: str) -> bool:
        """Gets a new token after Azure refused the token `refused`; False when there is no other to try.

        Asks past azure-identity's cache, at most once per minute.
        """
        while self.is_current(refused):
            # What is under way may be a renewal, which need not bring another token.
            if self.request is None:
                if self.clock() < self.replaced_at + REPLACEMENT_INTERVAL:
                    return False
                self.replaced_at = self.clock()
            with suppress(UpstreamAuthError):
                await asyncio.shield(self.requested(past_cache=True))
        return True

    def is_current(self, token: str) -> bool:
        return self.token is None or self.token.token == token

    def requested(self, *, past_cache: bool = False) -> asyncio.Task[None]:
        """The request under way, or a new one: there is never more than one."""
        if self.request is None:
            self.request = asyncio.create_task(self.fetch(past_cache))
            # A failed renewal in the background has nobody else to see it.
            self.request.add_done_callback(mark_as_seen)
        return self.request

    async def fetch(self, past_cache: bool) -> None:
        options: TokenRequestOptions = {}
        if past_cache:
            # Claims make azure-identity skip its cache; these ask for a token issued from now on.
            now = int(self.clock())
            options["claims"] = f'{{"access_token":{{"nbf":{{"essential":true,"value":"{now}"}}}}}}'
        try:
            async with asyncio.timeout(TOKEN_DEADLINE):
                ask = functools.partial(self.credential.get_token_info, self.scope, options=options)
                token = await asyncio.get_running_loop().run_in_executor(self.threads, ask)
            printable(token.token)
        except Exception as exc:
            # azure-identity lets others than its own pass, when it cannot read an answer.
            cause = without_tokens(exc.message) if isinstance(exc, AzureError) else type(exc).__name__
            logger.error("No token for the app's identity. %s %s", ADVICE, cause)
            raise UpstreamAuthError from None
        finally:
            # Before the task ends: whoever comes in that moment must not wait for one that is over.
            self.request = None
        if self.token and self.token.token == token.token:
            # azure-identity had no newer one; asking at every call would only cost threads.
            self.renew_at = self.clock() + RENEWAL_INTERVAL
        else:
            self.renew_at = token.refresh_on or token.expires_on - RENEWAL_MARGIN
        self.token = token


def mark_as_seen(request: asyncio.Task[None]) -> None:
    """Reads what has become of `request`: asyncio reports failures that nobody has read."""
    if not request.cancelled():
        request.exception()


def without_tokens(message: str) -> str:
    """The text of an error of azure-identity, which can quote what the identity endpoint has answered."""
    return TOKENS.sub("(token)", QUOTED.sub("Content: (left out)", message))
