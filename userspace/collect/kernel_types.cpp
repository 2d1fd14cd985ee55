// SPDX-License-Identifier: Apache-2.0
#include "collect/kernel_types.h"

#include <bpf/btf.h>
#include <bpf/libbpf.h>

#include <memory>
#include <string>
#include <vector>

namespace memtrace {

namespace {

// The type of a struct's member; null when there is none. What sits in anonymous structs is its own too.
const btf_type *member_type(const btf *types, const char *of, const std::string &name) {
    int id = btf__find_by_name_kind(types, of, BTF_KIND_STRUCT);
    if (id < 0)
        return nullptr;
    std::vector<const btf_type *> structs = {btf__type_by_id(types, static_cast<__u32>(id))};
    for (size_t i = 0; i < structs.size(); i++) {
        const btf_member *members = btf_members(structs[i]);
        for (int k = 0; k < btf_vlen(structs[i]); k++) {
            const btf_type *type = btf__type_by_id(types, members[k].type);
            std::string found = btf__name_by_offset(types, members[k].name_off);
            if (found == name)
                return type;
            if (found.empty() && btf_is_composite(type))
                structs.push_back(type);
        }
    }
    return nullptr;
}

bool has_tracepoint(const btf *types, const std::string &name) {
    return btf__find_by_name_kind(types, ("btf_trace_" + name).c_str(), BTF_KIND_TYPEDEF) >= 0;
}

// Of tp_btf/rss_stat: (mm, member), or (mm, member, count) before Linux 6.2; 0 when there is none.
int rss_stat_arguments(const btf *types) {
    int id = btf__find_by_name_kind(types, "btf_trace_rss_stat", BTF_KIND_TYPEDEF);
    if (id < 0)
        return 0;
    const btf_type *pointer = btf__type_by_id(types, btf__type_by_id(types, static_cast<__u32>(id))->type);
    return btf_vlen(btf__type_by_id(types, pointer->type)) - 1;  // the first is the tracepoint's own
}

bool counts_by_cpu(const btf *types) {
    const btf_type *counters = member_type(types, "mm_struct", "rss_stat");
    if (!counters || !btf_is_array(counters))
        return false;
    const btf_type *element = btf__type_by_id(types, btf_array(counters)->type);
    return std::string(btf__name_by_offset(types, element->name_off)) == "percpu_counter";
}

KernelTypes read_kernel_types() {
    auto print = libbpf_set_print(nullptr);  // that there is no BTF is an answer
    std::unique_ptr<btf, void (*)(btf *)> types(btf__load_vmlinux_btf(), btf__free);
    libbpf_set_print(print);
    if (!types)
        return {};
    KernelTypes found;
    int arguments = rss_stat_arguments(types.get());
    if (arguments == 2 && counts_by_cpu(types.get()))
        found.rss_source = RssSource::kBtf;
    else if (arguments == 3)
        found.rss_source = RssSource::kCounted;
    found.threads_keep_counts = member_type(types.get(), "task_struct", "rss_stat") != nullptr;
    found.fault_tracepoints =
        has_tracepoint(types.get(), "page_fault_user") && has_tracepoint(types.get(), "page_fault_kernel");
    found.page_alloc = has_tracepoint(types.get(), "mm_page_alloc");
    return found;
}

}  // namespace

const KernelTypes &kernel_types() {
    static const KernelTypes types = read_kernel_types();
    return types;
}

const char *name_of(RssSource source) {
    return source == RssSource::kClassic ? "kmem:rss_stat" : "tp_btf/rss_stat";
}

}  // namespace memtrace
