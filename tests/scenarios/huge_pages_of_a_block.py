# The same of a large block, which an object has: its bytes are those that it has written.
# findings: huge_pages 63
# absent: native_live
buffer = bytearray(64 << 20)
start = ctypes.addressof((ctypes.c_char * len(buffer)).from_buffer(buffer))
page = (start + 4095) & ~4095
ctypes.CDLL(None).madvise(ctypes.c_void_p(page), ctypes.c_size_t((start + len(buffer) - page) & ~4095), 14)  # MADV_HUGEPAGE
for i in range(0, len(buffer), 1 << 20):
    buffer[i] = 1
wait()
