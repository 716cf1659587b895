"""Limit the calls that this process has in flight."""

from shared.errors import TooManyConcurrentRequests


class Slots:
    """Manage the slots of one process, `limit` in number."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0

    def take(self) -> "Slot":
        """Return a slot. Raise `TooManyConcurrentRequests` if none is free."""
        if self.taken >= self.limit:
            raise TooManyConcurrentRequests
        self.taken += 1
        return Slot(self)


class Slot:
    """Hold one call's slot until it is released."""

    def __init__(self, slots: Slots) -> None:
        self.slots: Slots | None = slots

    def release(self) -> None:
        """Free the slot for another call. Repeating is harmless."""
        if self.slots:
            self.slots.taken -= 1
            self.slots = None
