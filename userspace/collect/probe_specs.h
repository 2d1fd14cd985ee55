// SPDX-License-Identifier: Apache-2.0
// What tells a BPF program where a probe has its arguments, and which one fired: rows of the maps of usdt.bpf.h. Places
// that are described alike share a row, so that a thousand processes of one interpreter need no more than one.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "process/usdt_arguments.h"

struct bpf_map;

namespace memtrace {

class ProbeSpecs {
  public:
    // A row's number, by which a program finds it. The row is kept until the last of these has gone.
    using Use = std::shared_ptr<const uint32_t>;

    // That the row is the one of the probe at an address, for as long as one of these is held.
    struct Bound {
        uint64_t address;
        Use spec;
    };
    using Binding = std::shared_ptr<const Bound>;

    // `by_address`: the map that programs look in where the kernel tells them of no cookie (before Linux 5.15).
    ProbeSpecs(const bpf_map *specs, const bpf_map *by_address);

    // Null when the map is full.
    Use use(const std::vector<UsdtArgument> &arguments, uint64_t cookie);
    // Null when the map is full, or another process has a probe of another kind at this address.
    Binding bind(uint64_t address, Use spec);

  private:
    const bpf_map *map_;
    const bpf_map *by_address_;
    std::map<uint64_t, std::weak_ptr<const Bound>> bound_;       // by address
    std::map<std::string, std::weak_ptr<const uint32_t>> rows_;  // by their bytes
    std::vector<uint32_t> free_;
};

}  // namespace memtrace
