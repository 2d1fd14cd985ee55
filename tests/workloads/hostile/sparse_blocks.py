"""Mappings of 1,000 GiB that say that they are malloc's, of which one page each was touched; and as many small mappings as one
may have, of a file with a long name."""
import ctypes
import os
import sys

PROT_NONE, PROT_READ_WRITE = 0, 3
MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS, MAP_NORESERVE = 2, 0x10, 0x20, 0x4000
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]


def map_at(address, size, rights, flags, file=-1):
    at = libc.mmap(address, size, rights, MAP_PRIVATE | MAP_NORESERVE | flags, file, 0)
    assert at != ctypes.c_void_p(-1).value, os.strerror(ctypes.get_errno())
    return at


def sparse(count, size=1000 << 30):
    for _ in range(count):
        at = map_at(None, size + 8192, PROT_NONE, MAP_ANONYMOUS)
        map_at(at, size, PROT_READ_WRITE, MAP_ANONYMOUS | MAP_FIXED)
        (ctypes.c_uint64 * 2).from_address(at)[1] = size | 2


def many(count, folder):
    """Each of one touched page, beside one that is not there."""
    os.chdir(folder)
    for _ in range(14):
        os.mkdir("d" * 250)
        os.chdir("d" * 250)
    file = os.open("file", os.O_RDWR | os.O_CREAT)
    os.ftruncate(file, 4096)
    start = map_at(None, count * 8192, PROT_NONE, MAP_ANONYMOUS)
    for at in range(start, start + count * 8192, 8192):
        map_at(at, 4096, PROT_READ_WRITE, MAP_FIXED, file)
        ctypes.memset(at, 1, 1)


if sys.argv[1] == "sparse":
    sparse(int(sys.argv[2]))
else:
    many(int(sys.argv[2]), sys.argv[3])
ballast = bytearray(100 << 20)
print("ready", flush=True)
sys.stdin.readline()
