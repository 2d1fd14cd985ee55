# Large buffers, whose mappings the kernel has joined with one that a library has made.
# findings: live_objects 128
buffers = [bytearray(b"x") * (8 << 20) for i in range(16)]
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + 3 * [ctypes.c_int] + [ctypes.c_long]
start = libc.mmap(None, 900 << 20, 3, 0x22, -1, 0)  # to read and write; private, anonymous
ctypes.memset(start, 1, 4096)
wait()
