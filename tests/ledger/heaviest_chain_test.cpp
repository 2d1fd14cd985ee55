// SPDX-License-Identifier: Apache-2.0
#include "ledger/heaviest_chain.h"

#include <gtest/gtest.h>

#include "fixtures.h"

namespace memtrace {
namespace {

constexpr uint32_t kProcess = 3;

// main (code 100) calls load (200), which calls parse (300) and itself.
class HeaviestChainTest : public testing::Test {
  protected:
    HeaviestChainTest() {
        FakeMemory memory;
        for (auto [code, name] : {std::pair(100, "main"), std::pair(200, "load"), std::pair(300, "parse")})
            codes_.add_code(
                code_record(kProcess, static_cast<uint64_t>(code), "/a.py", name, code, one_line_an_instruction(9)),
                layout_3_11(), memory);
        data_.account.id = kProcess;
    }

    // Frames outermost first: (code, line after the function's first).
    void grow(uint64_t pages, std::vector<std::pair<uint64_t, int>> frames) {
        std::vector<std::pair<uint64_t, int>> innermost_first;
        for (auto frame = frames.rbegin(); frame != frames.rend(); ++frame)
            innermost_first.emplace_back(frame->first, frame->second - 1);
        uint64_t stack = data_.charges.size() + 1;
        codes_.add_stack(stack_record(kProcess, stack, innermost_first));
        mt_charge charge{};
        charge.grown[MT_ANON] = pages;
        data_.charges.push_back({{stack, kProcess, MT_OWNER_STACK, 0, 0}, charge});
    }
    // "main:107 80, load:203 70"
    std::string chain() const {
        std::string text;
        for (const ChainLink &link : heaviest_chain(data_, codes_, 1))
            text += (text.empty() ? "" : ", ") + link.at.code->function + ":" +
                    std::to_string(link.at.line.value_or(0)) + " " + std::to_string(link.grown);
        return text;
    }

    CodeTable codes_;
    AccountData data_;
};

TEST_F(HeaviestChainTest, GoesDownWhereHalfOfItGoes) {
    grow(30, {{100, 7}, {200, 3}, {300, 2}});
    grow(25, {{100, 7}, {200, 3}, {300, 5}});
    grow(15, {{100, 7}, {200, 3}});
    grow(10, {{100, 7}, {200, 4}});
    grow(20, {{100, 8}});
    EXPECT_EQ(chain(), "main:107 80, load:203 70");
}

TEST_F(HeaviestChainTest, ThroughOneCallerAndNotAnother) {
    grow(40, {{100, 7}, {300, 2}});
    grow(39, {{200, 3}, {300, 2}});
    EXPECT_EQ(chain(), "main:107 40, parse:302 40");
}

TEST_F(HeaviestChainTest, RecursionIsOneLink) {
    grow(50, {{100, 7}, {200, 3}, {200, 3}, {200, 3}, {300, 2}});
    EXPECT_EQ(chain(), "main:107 50, load:203 50, parse:302 50");
}

TEST_F(HeaviestChainTest, NothingWhereNothingGrew) {
    EXPECT_EQ(chain(), "");
    grow(0, {{100, 7}});
    EXPECT_EQ(chain(), "");
}

}  // namespace
}  // namespace memtrace
