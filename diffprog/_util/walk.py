"""A walk through a graph."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item", bound=Hashable)


def walk(
    starts: Iterable[Item], next_of: Callable[[Item], Iterable[Item]], nearest_first: bool = False
) -> Iterator[Item]:
    """Visit all items that can be reached, each once.

    The walk is lazy: `next_of` is asked about an item only after the caller has seen it and asks for the next one.

    Args:
      starts: where to begin, in this order.
      next_of: item -> the items to which the walk may go on from there.
      nearest_first: whether the walk is breadth first. By default it is depth first in preorder: what follows from an
        item, in the order of `next_of`, comes before the item's siblings.

    Yields:
      The items, the starts among them.
    """
    seen: set[Item] = set()
    waiting = deque(starts) if nearest_first else deque(reversed(list(starts)))
    while waiting:
        item = waiting.popleft() if nearest_first else waiting.pop()
        if item not in seen:
            seen.add(item)
            yield item
            following = next_of(item)
            waiting.extend(following if nearest_first else reversed(list(following)))
