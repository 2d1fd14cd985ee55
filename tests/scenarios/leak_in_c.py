# A library forgets what it got from malloc.
# findings: native_live 61
malloc, memset = ctypes.CDLL(None).malloc, ctypes.CDLL(None).memset
malloc.restype = ctypes.c_void_p
memset.argtypes = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
for i in range(60000):
    memset(malloc(1000), 1, 1000)
wait()
