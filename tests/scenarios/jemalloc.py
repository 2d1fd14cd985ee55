# Another allocator serves malloc: what it has is seen, and not what of it is free.
# pythons: 3.11
# environment: LD_PRELOAD={allocators}/usr/lib/x86_64-linux-gnu/libjemalloc.so.2
# findings: native_live 42
keep = [bytes(bytearray(2000)) for i in range(20000)]
wait()
