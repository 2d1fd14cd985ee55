// SPDX-License-Identifier: Apache-2.0
// The real interpreters' allocators are read by explain_root_test.py. Here is one made by hand, in this process,
// because it can be damaged.
#include "snapshots/pymalloc.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <random>

namespace memtrace {

namespace {

constexpr uint32_t kPool = 16384, kArena = 1 << 20, kClass = 3, kBlock = 64;

struct Pool {
    uint32_t live, zero;
    uint64_t free_block, next, previous;
    uint32_t arena, size_class, next_offset, last_offset;
};

struct ArenaRow {
    uint64_t address, next_pool;
    uint32_t free_pools, pools;
    uint64_t freed, next, previous;
};

class PymallocTest : public testing::Test {
  protected:
    void SetUp() override {
        // A page of data, and an arena with one pool of 64-byte blocks: five were used, of which two are free again.
        data_ = map(4096);
        arena_ = map(kArena);
        uint64_t table = address(data_) + 64;
        for (uint32_t i = 0; i < 32; i++)
            words(table)[2 * i] = words(table)[2 * i + 1] = table + 16 * i - 16;
        words(table)[2 * kClass] = words(table)[2 * kClass + 1] = address(arena_);
        words(table)[64] = address(&rows_);
        words(table)[65] = 16;
        uint64_t self = table + 16 * kClass - 16, first = address(arena_) + sizeof(Pool);
        *pool() = {3, 0, first + kBlock, self, self, 1, kClass, sizeof(Pool) + 5 * kBlock, kPool - kBlock};
        words(first + kBlock)[0] = first + 4 * kBlock;
        words(first + 4 * kBlock)[0] = 0;
        rows_[1] = {address(arena_), address(arena_) + kPool, kArena / kPool - 1, kArena / kPool, 0, 0, 0};
    }

    void TearDown() override {
        munmap(data_, 4096);
        munmap(arena_, kArena);
    }

    static uint8_t *map(size_t size) {
        // Aligned to an arena, as the kernel mostly does.
        auto *at = static_cast<uint8_t *>(
            mmap(nullptr, size + kArena, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        uint64_t aligned = (address(at) + kArena - 1) / kArena * kArena;
        munmap(at, aligned - address(at));
        munmap(reinterpret_cast<void *>(aligned + size), address(at) + kArena - aligned);
        return reinterpret_cast<uint8_t *>(aligned);
    }

    static uint64_t address(const void *pointer) {
        return reinterpret_cast<uint64_t>(pointer);
    }
    static uint64_t *words(uint64_t at) {
        return reinterpret_cast<uint64_t *>(at);
    }
    Pool *pool() {
        return reinterpret_cast<Pool *>(arena_);
    }

    std::optional<PymallocPlace> find() {
        AddressRange range{address(data_), address(data_) + 4096};
        return find_pymalloc(memory_, {&range, 1});
    }

    uint8_t *data_ = nullptr;
    uint8_t *arena_ = nullptr;
    ArenaRow rows_[16] = {};
    ResidentMemory memory_{getpid()};
};

TEST_F(PymallocTest, IsFoundByItsPattern) {
    auto place = find();
    ASSERT_TRUE(place);
    EXPECT_EQ(place->used_pools, address(data_) + 64);
    EXPECT_EQ(place->arenas, address(&rows_));
    EXPECT_EQ(place->arena_slots, 16u);
    EXPECT_EQ(place->arena_bytes, kArena);
    EXPECT_EQ(place->pool_bytes, kPool);
    EXPECT_EQ(place->alignment, 16u);
}

TEST_F(PymallocTest, CountsBlocksPoolsAndPages) {
    PymallocSnapshot snapshot = read_pymalloc(memory_, *find());
    ASSERT_EQ(snapshot.arenas.size(), 1u);
    EXPECT_EQ(snapshot.arenas[0].live_blocks, 3u);
    EXPECT_EQ(snapshot.arenas[0].resident_bytes, 4096u);  // the only page that was touched
    EXPECT_EQ(snapshot.classes[kClass].pools, 1u);
    EXPECT_EQ(snapshot.classes[kClass].free_blocks, (kPool - sizeof(Pool)) / kBlock - 3);
    EXPECT_EQ(snapshot.free_pools(), kArena / kPool - 1);
    EXPECT_EQ(snapshot.resident.live, 3u * kBlock);
    EXPECT_EQ(snapshot.resident.live + snapshot.resident.free_blocks + snapshot.resident.headers +
                  snapshot.resident.free_pools,
              4096u);
    EXPECT_EQ(snapshot.torn_pools, 0u);
}

TEST_F(PymallocTest, APoolThatContradictsItselfIsTorn) {
    PymallocPlace place = *find();
    pool()->live = 4;  // with two freed, of five
    PymallocSnapshot snapshot = read_pymalloc(memory_, place);
    EXPECT_EQ(snapshot.torn_pools, 1u);
    EXPECT_EQ(snapshot.live_bytes(), 0u);
}

TEST_F(PymallocTest, AChainThatGoesRoundEnds) {
    PymallocPlace place = *find();
    words(pool()->free_block)[0] = pool()->free_block;
    EXPECT_EQ(read_pymalloc(memory_, place).torn_pools, 1u);
}

TEST_F(PymallocTest, AnArenaHasNoMorePoolsThanItSays) {
    PymallocPlace place = *find();
    rows_[1].pools = 1;
    rows_[1].free_pools = 0;
    rows_[1].next_pool = address(arena_) + kArena;  // as if all were in use
    PymallocSnapshot snapshot = read_pymalloc(memory_, place);
    EXPECT_EQ(snapshot.used_pools(), 1u);
    EXPECT_EQ(snapshot.free_pools(), 0u);
}

TEST_F(PymallocTest, DamageIsSurvived) {
    std::mt19937_64 random(1);
    std::vector<uint8_t> data(data_, data_ + 4096), first(arena_, arena_ + 4096);
    ArenaRow rows[16];
    std::memcpy(rows, rows_, sizeof(rows));
    const uint64_t values[] = {0,  1,    ~0ull, 1ull << 63, 4096, address(arena_), address(data_), address(&rows_),
                               48, 16384};
    int found = 0;
    for (int round = 0; round < 3000; round++) {
        for (int change = 0; change < 3; change++) {
            uint64_t value = random() % 2 ? values[random() % std::size(values)] : random();
            uint64_t *targets[] = {words(address(data_) + random() % 100 * 8),
                                   words(address(arena_) + random() % 60 * 8),
                                   words(address(&rows_) + random() % 12 * 8)};
            uint64_t *target = targets[random() % 3];
            if (random() % 2)
                *target = value;
            else
                reinterpret_cast<uint8_t *>(target)[random() % 8] = static_cast<uint8_t>(value);
        }
        if (auto place = find()) {
            found++;
            place->arena_slots = std::min(place->arena_slots, 16u);
            PymallocSnapshot snapshot = read_pymalloc(memory_, *place);
            for (const Arena &arena : snapshot.arenas)
                EXPECT_LE(arena.used_pools, arena.pools);
        }
        std::memcpy(data_, data.data(), data.size());
        std::memcpy(arena_, first.data(), first.size());
        std::memcpy(rows_, rows, sizeof(rows));
    }
    EXPECT_GT(found, 100);
    EXPECT_LT(found, 3000);
}

}  // namespace

}  // namespace memtrace
