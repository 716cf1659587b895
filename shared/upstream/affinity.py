"""Remember which endpoint has the state that later calls refer to: stored responses, items and sealed reasoning."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable

from shared.telemetry.response_metadata import ResponseMetadata
from shared.upstream.endpoint import EndpointClient

# The number of keys that a process remembers, about 200 bytes each.
CAPACITY = 20_000


def key_of(reference: str) -> bytes:
    """Return the key of an id or of sealed content."""
    return hashlib.blake2b(reference.encode(errors="surrogatepass"), digest_size=16).digest()


class Affinity:
    """Map keys to endpoints. When the map is full, it forgets what has not been used for longest."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self.endpoints: OrderedDict[bytes, EndpointClient] = OrderedDict()

    def learn(self, endpoint: EndpointClient, metadata: ResponseMetadata) -> None:
        """Remember that `endpoint` has what a response, or an event of its stream, created."""
        for reference in metadata.references():
            key = key_of(reference)
            self.endpoints[key] = endpoint
            self.endpoints.move_to_end(key)
        while len(self.endpoints) > self.capacity:
            self.endpoints.popitem(last=False)

    def endpoint_of(self, keys: Iterable[bytes]) -> EndpointClient | None:
        """Return the endpoint of the last key that is known."""
        found = None
        for key in keys:
            if key in self.endpoints:
                self.endpoints.move_to_end(key)
                found = self.endpoints[key]
        return found
