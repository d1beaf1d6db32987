"""A long stream that is made, not stored, and its SHA-256.

Mebibyte `k` of the stream is one fixed pseudo-random block whose first eight bytes are `k`, so bytes that are lost,
repeated or swapped change the hash. `python streams.py BYTES` writes the stream to standard output.
"""

import hashlib
import random
import sys
from collections.abc import Iterator

MIB = 1024 * 1024
_BLOCK = random.Random(20240229).randbytes(MIB)


def blocks(total: int) -> Iterator[bytearray]:
    """The stream of `total` bytes in pieces of at most a mebibyte. Each piece is only valid until the next one."""
    block = bytearray(_BLOCK)
    for index in range(-(-total // MIB)):
        block[:8] = index.to_bytes(8, "little")
        left = total - index * MIB
        yield block if left >= MIB else block[:left]


def digest(total: int) -> str:
    """SHA-256 of the stream."""
    sha = hashlib.sha256()
    for block in blocks(total):
        sha.update(block)
    return sha.hexdigest()


if __name__ == "__main__":
    for piece in blocks(int(sys.argv[1])):
        sys.stdout.buffer.write(piece)
