# Huge pages of zeros that the program has written are in use.
# findings: live_objects 64
# absent: huge_pages
buffer = bytearray(64 << 20)
start = ctypes.addressof((ctypes.c_char * len(buffer)).from_buffer(buffer))
page = (start + 4095) & ~4095
ctypes.CDLL(None).madvise(ctypes.c_void_p(page), ctypes.c_size_t((start + len(buffer) - page) & ~4095), 14)  # MADV_HUGEPAGE
ctypes.memset(start, 0, len(buffer))
wait()
