# Large buffers, whose mappings the kernel has split: a part of each was advised.
# findings: live_objects 128
# absent: native_live
buffers = [bytearray(b"x") * (8 << 20) for i in range(16)]
for buffer in buffers:
    start = ctypes.addressof((ctypes.c_char * len(buffer)).from_buffer(buffer))
    page = (start + 4095) & ~4095
    advice = 16  # MADV_DONTDUMP
    ctypes.CDLL(None).madvise(ctypes.c_void_p(page), ctypes.c_size_t((start + len(buffer) - page) & ~4095), advice)
wait()
