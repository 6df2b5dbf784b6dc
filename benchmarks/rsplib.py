# SPDX-License-Identifier: Apache-2.0
"""rsplib's own parser and encoder, where its library is installed (Debian: librspmessaging3), to be measured against.

rsplib is under the GPL: it is loaded at run time, nothing of it is copied. What is said here of its interface are the
facts a caller needs: names, argument types, and where in a message (amd64, 3.4.4) its buffer and its error stand.
"""

from __future__ import annotations

import ctypes
from typing import Final

LIBRARY: Final = "librspmessaging.so.3"
_ERROR, _BUFFER, _LENGTH = 4, 96, 112
_ROOM: Final = 65536
_SOURCE: Final = bytes.fromhex("02000f170a000001")  # 10.0.0.1:3863, whom a message comes from
_ASAP: Final = 11


class Rsplib:
    """The library; one message's octets at a time.

    Raises:
        OSError: it is not installed.
    """

    def __init__(self) -> None:
        library = ctypes.CDLL(LIBRARY)
        self._parse = library.rserpoolPacket2Message
        self._parse.argtypes = [
            ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32, ctypes.c_uint32,
            ctypes.c_size_t, ctypes.c_size_t, ctypes.POINTER(ctypes.c_void_p),
        ]  # fmt: skip
        self._encode = library.rserpoolMessage2Packet
        self._encode.argtypes, self._encode.restype = [ctypes.c_void_p], ctypes.c_size_t
        self._delete = library.rserpoolMessageDelete
        self._delete.argtypes, self._delete.restype = [ctypes.c_void_p], None
        self._source = ctypes.create_string_buffer(_SOURCE, 128)

    def prepare(self, octets: bytes) -> None:
        """Choose the message, and see that the library takes it and writes the same again."""
        self._length = len(octets)
        self._in, self._out = (ctypes.create_string_buffer(octets, _ROOM) for _ in range(2))
        self._message = ctypes.c_void_p()
        self._again = ctypes.c_void_p()
        status = self._into(self._message, self._out)
        assert self._message.value is not None
        error = ctypes.c_uint16.from_address(self._message.value + _ERROR).value
        if status or error:
            raise ValueError(f"rsplib takes {octets.hex()} for error {error:#06x}")
        assert ctypes.c_void_p.from_address(self._message.value + _BUFFER).value == ctypes.addressof(self._out)
        ctypes.c_size_t.from_address(self._message.value + _LENGTH).value = _ROOM
        ctypes.memset(self._out, 0, _ROOM)
        length = self.encode()
        written = self._out.raw[:length]
        if written != octets:
            raise ValueError(f"rsplib writes {written.hex()} for {octets.hex()}")

    def _into(self, message: ctypes.c_void_p, buffer: ctypes.Array[ctypes.c_char]) -> int:
        return int(self._parse(buffer, self._source, 1, _ASAP, self._length, _ROOM, ctypes.byref(message)))

    def decode(self) -> None:
        """Parse the message, and forget what came of it."""
        if self._into(self._again, self._in):
            raise ValueError("rsplib does not take it twice")
        self._delete(self._again)

    def encode(self) -> int:
        """Write the message; returns its length."""
        return int(self._encode(self._message))

    def nothing(self) -> None:
        """A call that does nothing: what ctypes itself costs is part of the figures."""
        self._delete(None)
