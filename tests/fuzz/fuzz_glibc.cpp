// SPDX-License-Identifier: Apache-2.0
// The C library's heap: arenas, heaps, fast bins, chunks, freed blocks, chunks that are mappings.
#include "explain/census.h"
#include "fuzz/memory_image.h"
#include "snapshots/glibc_malloc.h"
#include "snapshots/glibc_mapped_chunks.h"

namespace {

using namespace memtrace;

constexpr uint64_t kState = MemoryImage::kStart + 4096, kParameters = MemoryImage::kStart + 16384;
constexpr uint64_t kHeap = MemoryImage::kStart + 65536, kHeapBytes = 132 << 10,
                   kMapped = MemoryImage::kStart + (4 << 20);
constexpr size_t kLayout = 1;  // glibc 2.35 to 2.42
constexpr uint64_t kBins = 112, kNext = kBins + 2048, kSystem = kBins + 2072;

// A main arena with chunks of 1 KiB, each third of which is free, and a block of 1 MiB that is a mapping.
void make(MemoryImage &image) {
    image.clear();
    for (uint64_t i = 0; i < 127; i++)
        for (uint64_t word : {2 * i, 2 * i + 1})
            image.put(kState + kBins + 8 * word, kState + kBins + 16 * i - 16);
    image.put(kState + kNext, kState);
    image.put(kState + kSystem, kHeapBytes);
    uint64_t top = kHeap + 64 * 1024;
    image.put(kState + kBins - 16, top);
    for (uint64_t i = 0; i < 64; i++) {
        uint64_t chunk = kHeap + 1024 * i;
        bool before_is_free = i % 3 == 1;
        image.put(chunk, before_is_free ? 1024 : 0);
        image.put(chunk + 8, 1024 | !before_is_free);
    }
    image.put(top + 8, (kHeapBytes - 64 * 1024) | 1);
    image.put(kMapped + 8, (1 << 20) | 2);
    image.put(kParameters, 128 << 10);
    image.put(kParameters + 16, 128 << 10);
    image.put(kParameters + 60, 1);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static MemoryImage image;
    Input input(data, size);
    make(image);
    bool links_are_plain = input.take<uint8_t>() & 1;
    auto block = input.take<uint32_t>();
    image.change(input);
    const AddressRange data_range[] = {{MemoryImage::kStart, kHeap}};
    find_glibc_malloc(image.memory(), data_range, kHeap);
    GlibcPlace place{kState, kParameters, kLayout, links_are_plain};
    CensusTaker census(image.memory(), {3, 11, 0}, {}, {});
    GlibcSnapshot snapshot = read_glibc_malloc(image.memory(), place, {kHeap, kHeap + kHeapBytes},
                                               [&](const LiveChunk &chunk) { census.add_chunk(chunk, false); });
    snapshot.trimmable_bytes();
    const AddressRange ranges[] = {{kMapped, MemoryImage::kStart + image.bytes()}};
    const uint64_t blocks[] = {kMapped + 16, MemoryImage::kStart + block % image.bytes()};
    find_mapped_chunks(image.memory(), ranges, {}, blocks, snapshot.parameters);
    census.finish();
    return 0;
}
