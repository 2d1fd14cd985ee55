// SPDX-License-Identifier: Apache-2.0
#include "collect/probe_specs.h"

#include <bpf/libbpf.h>

#include <algorithm>
#include <cstddef>
#include <utility>

#include "base/failure.h"

namespace memtrace {

namespace {

// struct __bpf_usdt_spec of usdt.bpf.h, which is for BPF programs only.
struct Argument {
    int64_t value;
    uint32_t kind;
    int16_t register_at;
    bool is_signed;
    uint8_t bits_to_clear;
};
struct Spec {
    Argument arguments[12];
    uint64_t cookie;
    int16_t count;
};
static_assert(sizeof(Argument) == 16 && offsetof(Argument, bits_to_clear) == 15);
static_assert(sizeof(Spec) == 208 && offsetof(Spec, count) == 200);
// BPF_USDT_ARG_CONST, _REG, _REG_DEREF.
static_assert(UsdtArgument::kConstant == 0 && UsdtArgument::kRegister == 1 && UsdtArgument::kMemory == 2);

std::string make_row(const std::vector<UsdtArgument> &arguments, uint64_t cookie) {
    Spec spec{};
    spec.cookie = cookie;
    spec.count = static_cast<int16_t>(std::min(arguments.size(), std::size(spec.arguments)));
    for (size_t i = 0; i < static_cast<size_t>(spec.count); i++) {
        const UsdtArgument &argument = arguments[i];
        spec.arguments[i] = {argument.value, static_cast<uint32_t>(argument.kind), argument.register_at,
                             argument.is_signed, static_cast<uint8_t>(64 - 8 * argument.bytes)};
    }
    return {reinterpret_cast<const char *>(&spec), sizeof(spec)};
}

}  // namespace

ProbeSpecs::ProbeSpecs(const bpf_map *specs, const bpf_map *by_address) : map_(specs), by_address_(by_address) {
    if (bpf_map__value_size(specs) != sizeof(Spec) || bpf_map__key_size(by_address) != sizeof(uint64_t) ||
        bpf_map__value_size(by_address) != sizeof(uint32_t))
        fail("memtrace was built with a libbpf that describes probes in another way");
    for (uint32_t id = bpf_map__max_entries(specs); id-- > 0;)
        free_.push_back(id);
}

ProbeSpecs::Use ProbeSpecs::use(const std::vector<UsdtArgument> &arguments, uint64_t cookie) {
    std::string row = make_row(arguments, cookie);
    if (auto known = rows_.find(row); known != rows_.end())
        return known->second.lock();
    if (free_.empty())
        return nullptr;
    uint32_t id = free_.back();
    if (bpf_map__update_elem(map_, &id, sizeof(id), row.data(), row.size(), BPF_ANY))
        return nullptr;
    free_.pop_back();
    Use use(new uint32_t(id), [this, row](const uint32_t *gone) {
        rows_.erase(row);
        free_.push_back(*gone);
        delete gone;
    });
    rows_.emplace(row, use);
    return use;
}

ProbeSpecs::Binding ProbeSpecs::bind(uint64_t address, Use spec) {
    if (auto known = bound_.find(address); known != bound_.end()) {
        Binding binding = known->second.lock();
        return binding->spec == spec ? binding : nullptr;
    }
    if (bpf_map__update_elem(by_address_, &address, sizeof(address), spec.get(), sizeof(*spec), BPF_ANY))
        return nullptr;
    Binding binding(new Bound{address, std::move(spec)}, [this](const Bound *gone) {
        bpf_map__delete_elem(by_address_, &gone->address, sizeof(gone->address), 0);
        bound_.erase(gone->address);
        delete gone;
    });
    bound_.emplace(address, binding);
    return binding;
}

}  // namespace memtrace
