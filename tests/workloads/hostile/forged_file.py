"""Maps a forged ELF file as code, where it is found before the interpreter: of many sections that are all the same sparse 64 MiB
of relocations; of a million sections; or of one whose entries each are a relocation to be kept."""
import ctypes
import mmap
import os
import struct
import sys

kind, folder = sys.argv[1], sys.argv[2]
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")
SECTION = struct.Struct("<IIQQQQIIQQ")
STRTAB, RELA, DYNSYM = 3, 4, 11
NAMES, SYMBOLS, SECTIONS = 0x1000, 0x1100, 0x2000
LARGE = (64 << 20) // 24 * 24
names = b"\0PyCode_Type\0"

sections = [bytes(64), SECTION.pack(0, STRTAB, 2, NAMES, NAMES, len(names), 0, 0, 1, 0),
            SECTION.pack(0, DYNSYM, 2, SYMBOLS, SYMBOLS, 48, 1, 1, 8, 24)]
count_in_header = None
if kind == "sections":
    count_in_header = 0
    sections = [SECTION.pack(0, 0, 0, 0, 0, 1 << 20, 0, 0, 0, 0)]
else:
    body = (SECTIONS + 64 * 1000 + 4095) // 4096 * 4096
    sections += [SECTION.pack(0, RELA, 2, body, body, LARGE, 2, 0, 8, 24)] * (16 if kind == "large" else 1)

path = os.path.join(folder, "forged.so")
with open(path, "w+b") as file:
    file.truncate(SECTIONS + 64 * (1 << 20) + LARGE)
    file.write(HEADER.pack(b"\x7fELF\2\1\1".ljust(16, b"\0"), 3, 62, 1, 0x1000, 64, SECTIONS, 0, 64, 56, 1, 64,
                           len(sections) if count_in_header is None else count_in_header, 0))
    file.write(SEGMENT.pack(1, 5, 0, 0, 0, 0x4000, 0x4000, 4096))
    file.seek(NAMES)
    file.write(names)
    file.seek(SYMBOLS)
    file.write(bytes(24) + struct.pack("<IBBHQQ", 1, 0x11, 0, 1, 0x3000, 8))
    file.seek(SECTIONS)
    file.write(b"".join(sections))
    if kind == "relocations":
        file.seek(body)
        file.write(b"".join(struct.pack("<QQQ", 8 * i, 8, i) for i in range(LARGE // 24)))
    file.flush()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    at = libc.mmap(0x200000, 0x4000, mmap.PROT_READ | mmap.PROT_EXEC, mmap.MAP_PRIVATE | 0x100000, file.fileno(), 0)
    assert at == 0x200000, os.strerror(ctypes.get_errno())
print("ready", flush=True)
for line in sys.stdin:
    ballast = bytearray(16 << 20)
    ballast[::4096] = bytes(4096)
    print("done", flush=True)
