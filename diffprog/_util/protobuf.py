"""Messages of protocol buffers, read without their definitions: numbers of fields and their values.

References: https://protobuf.dev/programming-guides/encoding
"""

from collections.abc import Iterator

_LENGTHS = {1: 8, 5: 4}  # bytes of the values of fixed length, by their wire type


class Message:
    """The fields of a message, by their numbers; one may occur several times.

    A field that is not there has the default of its type: 0, an empty text, no elements.
    """

    def __init__(self, data: bytes):
        self._fields: dict[int, list[int | bytes]] = {}
        for number, value in _fields(memoryview(data)):
            self._fields.setdefault(number, []).append(value)

    def number(self, field: int) -> int:
        """Read a whole number that is not negative."""
        last = self._fields.get(field, [0])[-1]
        assert isinstance(last, int), "this field has another type"
        return last

    def text(self, field: int) -> str:
        """Read a text."""
        return bytes(self._bytes(field)[-1]).decode() if field in self._fields else ""

    def texts(self, field: int) -> list[str]:
        """Read a repeated text."""
        return [bytes(value).decode() for value in self._bytes(field)]

    def message(self, field: int) -> "Message":
        """Read a message within this one."""
        return Message(self._bytes(field)[-1] if field in self._fields else b"")

    def messages(self, field: int) -> list["Message"]:
        """Read a repeated message."""
        return [Message(value) for value in self._bytes(field)]

    def numbers(self, field: int) -> list[int]:
        """Read a repeated whole number, packed into one value or not."""
        numbers = []
        for value in self._fields.get(field, []):
            numbers += [value] if isinstance(value, int) else _packed(value)
        return numbers

    def _bytes(self, field: int) -> list:
        return self._fields.get(field, [])


def _fields(data: memoryview) -> Iterator[tuple]:
    position = 0
    while position < len(data):
        key, position = _number(data, position)
        kind = key & 7
        if kind == 0:
            value, position = _number(data, position)
            yield key >> 3, value
            continue
        if kind == 2:
            length, position = _number(data, position)
        elif kind in _LENGTHS:
            length = _LENGTHS[kind]
        else:
            raise ValueError(f"expected a message of protocol buffers, found a field of the unknown wire type {kind}")
        yield key >> 3, data[position : position + length]
        position += length


def _number(data, position: int) -> tuple[int, int]:
    """Read a number of seven bits a byte, the lowest first; return it and where it ends."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7


def _packed(data) -> list[int]:
    numbers, position = [], 0
    while position < len(data):
        number, position = _number(data, position)
        numbers.append(number)
    return numbers
