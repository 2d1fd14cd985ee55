"""Moves one arena of pymalloc's to and fro, as its table says: who reads the table twice finds a pool that begins in the arena
that it knows from the first time and ends behind it. CPython 3.10 and later, without the GIL's free threading."""
import ctypes
import mmap
import struct
import sys
import time

ARENA, POOL, HEADER, BLOCK = 1 << 20, 1 << 14, 48, 32
ARENA_OBJECT = struct.Struct("<QQIIQQQ")  # address, next pool, free pools, all pools, list of freed pools, next, previous
POOL_HEADER = struct.Struct("<IIQQQIIII")  # live blocks, padding, freed block, next, previous, arena, class, next offset, last

kept = [[float(i)] for i in range(20000)]


def word_at(address):
    return ctypes.c_uint64.from_address(address).value


def mappings():
    with open("/proc/self/maps") as file:
        for line in file:
            span, rights, *rest = line.split()
            start, end = (int(number, 16) for number in span.split("-"))
            yield start, end, rights


def find_table():
    """The array of arena objects: the pool of one of our floats says which entry is its arena's."""
    pool = id(kept[777][0]) // POOL * POOL
    index = POOL_HEADER.unpack(ctypes.string_at(pool, POOL_HEADER.size))[5]
    readable = [(start, end) for start, end, rights in mappings() if rights.startswith("r")]
    for start, end, rights in mappings():
        if not rights.startswith("rw") or end - start > 16 << 20:
            continue
        for place in range(start, end, 8):
            table = word_at(place)
            entry = table + index * ARENA_OBJECT.size
            if table % 16 or not any(low <= entry and entry + ARENA_OBJECT.size <= high for low, high in readable):
                continue
            address = word_at(entry)
            if address % 4096 == 0 and address and address <= pool < address + ARENA:
                return table
    raise SystemExit("no table of arenas was found")


def forged_pool(arena):
    """Full of floats."""
    count = (POOL - HEADER) // BLOCK
    header = POOL_HEADER.pack(count, 0, 0, 0, 0, arena, BLOCK // 16 - 1, HEADER + count * BLOCK, POOL - BLOCK)
    return (header + struct.pack("<QQQQ", 1, id(float), 0, 0) * count).ljust(POOL, b"\0")


table = find_table()
slot = next(i for i in range(15, 0, -1) if word_at(table + i * ARENA_OBJECT.size) == 0)
memory = mmap.mmap(-1, 8 << 20)
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
aligned = (start + ARENA - 1) // ARENA * ARENA
first, second = aligned + 4096, aligned + ARENA  # the second's pool begins 4 KiB before the first one's end
ctypes.memmove(second, forged_pool(slot), POOL)
states = [ARENA_OBJECT.pack(first, first, 63, 63, 0, 0, 0), ARENA_OBJECT.pack(second, second + POOL, 63, 64, 0, 0, 0)]
print("ready", flush=True)
while True:
    for state in states:
        ctypes.memmove(table + slot * ARENA_OBJECT.size, state, len(state))
        time.sleep(float(sys.argv[1]))
