"""Messages of protocol buffers, against the bytes that their documentation spells out."""

import pytest

from diffprog._util.protobuf import Message


def test_the_examples_of_the_documentation():
    assert Message(bytes.fromhex("089601")).number(1) == 150
    assert Message(bytes.fromhex("120774657374696e67")).text(2) == "testing"
    assert Message(bytes.fromhex("1a03089601")).message(3).number(1) == 150
    assert Message(bytes.fromhex("3206038e029ea705")).numbers(6) == [3, 270, 86942]
    assert Message(bytes.fromhex("220568656c6c6f280128022803")).numbers(5) == [1, 2, 3]  # not packed


def test_fields_of_fixed_length_are_passed_over_and_missing_ones_have_defaults():
    message = Message(bytes.fromhex("09000000000000f03f15000080ff1801"))
    assert message.number(3) == 1
    assert (message.number(4), message.text(4), message.numbers(4), message.messages(4)) == (0, "", [], [])
    assert message.message(4).number(1) == 0


def test_what_is_no_message_is_refused():
    with pytest.raises(ValueError, match="wire type 3"):
        Message(b"\x0b")
