// SPDX-License-Identifier: Apache-2.0
// mimalloc's segments, of CPython 3.13 and later.
#include "fuzz/memory_image.h"
#include "snapshots/mimalloc.h"
#include "snapshots/mimalloc_fixture.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    using namespace memtrace;
    using namespace mimalloc_fixture;
    static MemoryImage image(kSegment + kSlice);
    constexpr uint64_t kData = MemoryImage::kStart + kSegment, kBlock = MemoryImage::kStart + kSlice + 192;
    Input input(data, size);
    image.clear();
    fill(MemoryImage::kStart);
    image.put_all(MemoryImage::kStart, MemoryImage::kStart + kFilledBytes);
    image.put(kData + 800, kKey);
    for (uint64_t i = 0; i < 5; i++)
        image.put(kBlock + 64 * i, i ? kBlock + 64 * (i - 1) : 0);
    image.change(input);
    const AddressRange data_range[] = {{kData, kData + 4096}};
    const AddressRange anonymous[] = {{MemoryImage::kStart, kData}};
    if (auto snapshot = read_mimalloc(image.memory(), data_range, anonymous)) {
        snapshot->live_bytes();
        snapshot->free_block_bytes();
    }
    return 0;
}
