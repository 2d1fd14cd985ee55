# One object in a thousand stays alive, and keeps its arena.
# findings: arena_pinned 70
# remedy: drop arena_pinned
keep = [bytes(bytearray(10)) for i in range(1500000)]
keep = keep[::1000]
wait(drop=lambda: keep.__delitem__(slice(None)))
