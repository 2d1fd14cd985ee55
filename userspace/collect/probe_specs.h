// SPDX-License-Identifier: Apache-2.0
// What tells a BPF program where a probe has its arguments, and which one fired: rows of the map of usdt.bpf.h, which
// libbpf fills for probes that it attaches to itself. Places that are described alike share a row, so that a thousand
// processes of one interpreter need no more than one.
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

    explicit ProbeSpecs(const bpf_map *map);

    // Null when the map is full.
    Use use(const std::vector<UsdtArgument> &arguments, uint64_t cookie);

  private:
    const bpf_map *map_;
    std::map<std::string, std::weak_ptr<const uint32_t>> rows_;  // by their bytes
    std::vector<uint32_t> free_;
};

}  // namespace memtrace
