// SPDX-License-Identifier: Apache-2.0
// pymalloc's arenas, and what is counted in them.
#include "explain/census.h"
#include "fuzz/memory_image.h"
#include "snapshots/pymalloc.h"

namespace {

using namespace memtrace;

constexpr uint64_t kTable = MemoryImage::kStart + 64, kRows = MemoryImage::kStart + 8192,
                   kArenaAt = MemoryImage::kStart + (1 << 20);
constexpr uint32_t kArenaBytes = 1 << 20, kPool = 16384, kClass = 3, kBlock = 64, kHeader = 48;

// One arena with one pool, of whose five blocks two are free.
void make(MemoryImage &image) {
    image.clear();
    for (uint64_t i = 0; i < 32; i++)
        for (uint64_t word : {2 * i, 2 * i + 1})
            image.put(kTable + 8 * word, i == kClass ? kArenaAt : kTable + 16 * i - 16);
    image.put(kTable + 8 * 64, kRows);
    image.put(kTable + 8 * 65, 16);
    uint64_t row = kRows + 48, self = kTable + 16 * kClass - 16, first = kArenaAt + kHeader;
    const uint64_t arena[] = {kArenaAt, kArenaAt + kPool, uint64_t{64} << 32 | 63, 0, 0, 0};
    for (size_t i = 0; i < std::size(arena); i++)
        image.put(row + 8 * i, arena[i]);
    const uint64_t pool[] = {3,
                             first + kBlock,
                             self,
                             self,
                             uint64_t{kClass} << 32 | 1,
                             uint64_t{kPool - kBlock} << 32 | (kHeader + 5 * kBlock)};
    for (size_t i = 0; i < std::size(pool); i++)
        image.put(kArenaAt + 8 * i, pool[i]);
    image.put(first + kBlock, first + 4 * kBlock);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static MemoryImage image;
    Input input(data, size);
    make(image);
    std::vector<uint64_t> arenas = {kArenaAt};  // as they were a moment before
    auto older = input.take<uint32_t>();
    if (older)
        arenas = {MemoryImage::kStart + older % image.bytes()};
    image.change(input);
    AddressRange range{MemoryImage::kStart, MemoryImage::kStart + 16384};
    auto place = find_pymalloc(image.memory(), {&range, 1});
    if (!place)
        place = PymallocPlace{kTable, kRows, 16, kArenaBytes, kPool, 16};
    CensusTaker census(image.memory(), {3, 11, 0}, arenas, *place);
    PymallocSnapshot snapshot =
        read_pymalloc(image.memory(), *place, [&](const UsedPoolCopy &pool) { census.add_pool(pool); });
    census.finish();
    snapshot.free_pools();
    snapshot.quantization_bytes();
    return 0;
}
