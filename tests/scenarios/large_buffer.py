# One object with a large buffer.
# findings: live_objects 64
buffer = bytearray(b"x" * (64 << 20))
wait(drop=buffer.clear)
