"""Read streams that end without their last part, as a stream that breaks does."""

from collections.abc import Iterator

import httpx2
import pytest


def read_unfinished(response: httpx2.Response) -> bytes:
    """Return all of a stream that has been opened. Fail if it ends in order."""
    return b"".join(until_interrupted(response.iter_raw()))


def rest_of_unfinished(events: Iterator[str]) -> list[str]:
    """Return the remaining events of a stream. Fail if it ends in order."""
    return [*until_interrupted(events)]


def until_interrupted[T](items: Iterator[T]) -> Iterator[T]:
    while True:
        try:
            item = next(items)
        except httpx2.TransportError:
            return
        except StopIteration:
            pytest.fail("The stream ended in order.")
        yield item
