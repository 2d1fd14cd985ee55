"""Has a file system of its own (FUSE) that answers to all but reads. On it lies, as told by the first argument: the name of the
file of a function that is run ("name"), the source of one ("source"), a library that is mapped ("library"); or a file that is
mapped while another thread reads it, which locks the process's mappings ("lock")."""
import ctypes
import errno
import mmap
import os
import struct
import sys
import threading
import types

kind, folder = sys.argv[1], sys.argv[2]
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
BYTES = 65536
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 1 << 18
LOOKUP, FORGET, GETATTR, OPEN, READ, INIT, INTERRUPT, BATCH_FORGET = 1, 2, 3, 14, 15, 26, 36, 42
ENOSYS = 38


def check(result, what):
    if result not in (0, True):
        raise SystemExit(f"{what}: {os.strerror(ctypes.get_errno())}")


def serve(device):
    opened = 0
    while True:
        request = os.read(device, 1 << 20)
        _, what, unique, node = struct.unpack_from("<IIQQ", request)

        def attributes(number):
            mode, size = (0o40755, 0) if number == 1 else (0o100644, BYTES)
            return struct.pack("<QQQQQQIIIIIIIIII", number, size, 8, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

        def answer(body, error=0):
            os.write(device, struct.pack("<IiQ", 16 + len(body), error, unique) + body)

        if what == INIT:
            answer(struct.pack("<IIIIHHIIHHI28x", 7, 31, 65536, 0, 16, 12, 65536, 1, 16, 0, 0))
        elif what == LOOKUP:
            answer(struct.pack("<QQQQII", 2, 1, 1000, 1000, 0, 0) + attributes(2))
        elif what == GETATTR:
            answer(struct.pack("<QII", 1000, 0, 0) + attributes(node))
        elif what == OPEN:
            opened += 1
            answer(struct.pack("<QII", 1, kind == "lock" and opened > 1, 0))  # FOPEN_DIRECT_IO
        elif what not in (FORGET, BATCH_FORGET, INTERRUPT, READ):
            answer(b"", -ENOSYS)


def mount():
    """In a child of ours."""
    check(libc.unshare(CLONE_NEWNS), "unshare")
    # (In a chroot "/" is no mount. What is mounted is then seen from outside too, where that is how mounts are shared.)
    if libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) and ctypes.get_errno() != errno.EINVAL:
        check(-1, "mount")
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=1000,group_id=1000,allow_other".encode()
    check(libc.mount(b"trap", folder.encode(), b"fuse", 6, options), "mount")
    if os.fork() == 0:
        serve(device)
    os.close(device)


def open_file():
    return os.open(os.path.join(folder, "trap"), os.O_RDONLY)


def map_file(file, address, rights, flags):
    page = libc.mmap(address, BYTES, rights, mmap.MAP_PRIVATE | flags, file, 0)
    if page in (None, ctypes.c_void_p(-1).value):
        raise SystemExit("mmap: " + os.strerror(ctypes.get_errno()))
    return page


SOURCE = """
def touch():
    with mmap.mmap(-1, 1 << 20) as fresh:
        for at in range(0, len(fresh), 4096):
            fresh[at] = 1
"""
mount()
names = {"mmap": mmap}
exec(compile(SOURCE, os.path.join(folder, "trap") if kind == "source" else __file__, "exec"), names)
code = names["touch"].__code__.replace(co_name="trap")
run = types.FunctionType(code, names)
if kind == "library":
    map_file(open_file(), 0x200000, mmap.PROT_READ | mmap.PROT_EXEC, 0x100000)
elif kind == "name":
    page = map_file(open_file(), None, mmap.PROT_READ, 0)
    words = (ctypes.c_uint64 * 32).from_address(id(code))
    place = next(i for i, word in enumerate(words) if word == id(code.co_filename))
elif kind == "lock":
    reader, mapped = open_file(), open_file()
print("ready", flush=True)
sys.stdin.readline()
if kind == "lock":
    threading.Thread(target=os.read, args=(reader, 4096), daemon=True).start()
    threading.Timer(0.2, map_file, (mapped, None, mmap.PROT_READ, 0)).start()
elif kind == "name":
    words[place] = page + 64
    run()
    words[place] = id(__file__)
else:
    run()
print("done", flush=True)
sys.stdin.readline()
