"""Has a function run whose code object names its file by a str on a page that nobody brings (userfaultfd)."""
import ctypes
import fcntl
import mmap
import os
import struct
import sys
import types

UFFDIO_API, UFFDIO_REGISTER = 0xC018AA3F, 0xC020AA00
SYS_USERFAULTFD = 282 if os.uname().machine == "aarch64" else 323

libc = ctypes.CDLL(None, use_errno=True)
memory = mmap.mmap(-1, 8192)
page = ctypes.addressof(ctypes.c_char.from_buffer(memory))


def hold_page():
    file = libc.syscall(SYS_USERFAULTFD, os.O_CLOEXEC)
    if file < 0:
        raise SystemExit("userfaultfd: " + os.strerror(ctypes.get_errno()))
    fcntl.ioctl(file, UFFDIO_API, bytearray(struct.pack("<QQQ", 0xAA, 0, 0)))
    fcntl.ioctl(file, UFFDIO_REGISTER, bytearray(struct.pack("<QQQQ", page, 4096, 1, 0)))
    return file


def touch():
    with mmap.mmap(-1, 1 << 20) as fresh:
        for at in range(0, len(fresh), 4096):
            fresh[at] = 1


held = hold_page()
code = touch.__code__.replace(co_name="trap")
words = (ctypes.c_uint64 * 32).from_address(id(code))
place = next(i for i, word in enumerate(words) if word == id(code.co_filename))
trap = types.FunctionType(code, globals())
print("ready", flush=True)
sys.stdin.readline()
words[place] = page + 64
trap()
words[place] = id(touch.__code__.co_filename)
print("done", flush=True)
sys.stdin.readline()
