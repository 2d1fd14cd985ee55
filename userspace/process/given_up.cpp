// SPDX-License-Identifier: Apache-2.0
#include "process/given_up.h"

namespace memtrace {

GivenUp &GivenUp::instance() {
    static GivenUp all;
    return all;
}

void GivenUp::add(int pid, What what) {
    if (pid)
        kinds_[what].processes.insert(pid);
    kinds_[what].times++;
}

bool GivenUp::contains(int pid, What what) const {
    return kinds_[what].processes.contains(pid);
}

bool GivenUp::contains(int pid) const {
    return contains(pid, kMemory) || contains(pid, kFiles);
}

void GivenUp::forget(int pid) {
    for (Kind &kind : kinds_)
        kind.processes.erase(pid);
}

size_t GivenUp::times(What what) const {
    return kinds_[what].times;
}

std::string GivenUp::why(int pid) const {
    if (contains(pid, kFiles))
        return "a file that it maps could not be read to the end: it is forged, held back, or larger than may be read "
               "(2 s, 256 MiB)";
    if (contains(pid, kMemory))
        return "it holds who looks at it: what was asked for did not come within a second";
    return "";
}

}  // namespace memtrace
