// SPDX-License-Identifier: Apache-2.0
// mimalloc's segments, of CPython 3.13 and later.
#include "fuzz/memory_image.h"
#include "snapshots/mimalloc.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    using namespace memtrace;
    static MemoryImage image;
    Input input(data, size);
    image.clear();
    image.change(input);
    const AddressRange data_range[] = {{MemoryImage::kStart, MemoryImage::kStart + 65536}};
    const AddressRange anonymous[] = {{MemoryImage::kStart, MemoryImage::kStart + MemoryImage::kBytes}};
    if (auto snapshot = read_mimalloc(image.memory(), data_range, anonymous)) {
        snapshot->live_bytes();
        snapshot->free_block_bytes();
    }
    return 0;
}
