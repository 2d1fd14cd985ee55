// SPDX-License-Identifier: Apache-2.0
#include "process/thread_descriptor.h"

#include <elf.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <memory>
#include <utility>
#include <vector>

#include "process/regular_file.h"
#include "process/sandbox.h"
#include "process/short_functions.h"

namespace memtrace {

namespace {

// glibc's tables for debuggers, nptl/db_info.c. Up to 2.33 they are libpthread's own, which exports none of them.
constexpr const char *kSize = "_thread_db_sizeof_pthread";  // uint32_t
// Of a member, uint32_t[3]: bits, elements, offset.
constexpr const char *kSpecific = "_thread_db_pthread_specific";
constexpr const char *kTid = "_thread_db_pthread_tid";
constexpr const char *kSelf = "pthread_self";

constexpr uint32_t kMaxBytes = 1 << 16;  // glibc 2.31 has 1,792 on aarch64, musl 200
// struct pthread: specific_1stblock, of 32 keys with 16 bytes each, lies before specific. glibc 2.31 to 2.43.
constexpr uint32_t kFirstBlockBytes = 32 * 16;
// Where tid is on aarch64 when no table tells: behind 24 words for what is shared with the thread-local variables, and
// a list's two.
constexpr uint32_t kTidAt = 26 * 8;

std::optional<uint64_t> address_of(const ElfImage &image, const char *symbol) {
    auto found = image.symbols.find(symbol);
    return found == image.symbols.end() ? std::nullopt : std::optional(found->second);
}

// Of a member of the descriptor.
std::optional<uint32_t> read_offset(const ElfImage &image, const char *symbol) {
    auto table = address_of(image, symbol);
    auto member = table ? image.read_value<std::array<uint32_t, 3>>(*table) : std::nullopt;
    return member && (*member)[2] <= kMaxBytes ? std::optional((*member)[2]) : std::nullopt;
}

// The descriptor's size, which its thread pointer lies behind it.
std::optional<uint32_t> read_size(const ElfImage &image) {
    std::optional<uint32_t> size;
    if (auto table = address_of(image, kSize))
        size = image.read_value<uint32_t>(*table);
    else if (auto function = address_of(image, kSelf))
        size = read_distance_to_thread_pointer(image, *function);
    return size && *size && *size <= kMaxBytes ? size : std::nullopt;
}

}  // namespace

const std::set<std::string> &thread_descriptor_symbols() {
    static const std::set<std::string> symbols = {kSize, kSpecific, kTid, kSelf};
    return symbols;
}

std::optional<ThreadDescriptor> read_thread_descriptor(const ElfImage &image) {
    if (image.symbols.empty())
        return std::nullopt;
    ThreadDescriptor descriptor;
    if (image.machine == EM_AARCH64) {
        auto size = read_size(image);
        if (!size)
            return std::nullopt;
        descriptor.pointer_at = *size;
        auto tid = read_offset(image, kTid);
        descriptor.tid_at = tid && *tid < *size ? *tid : kTidAt;
    }
    auto specific = read_offset(image, kSpecific);
    if (specific && *specific >= kFirstBlockBytes)
        descriptor.specific_at = *specific - kFirstBlockBytes;
    return descriptor;
}

// glibc's loader is of no use with another glibc, and lies beside its own; musl's is the C library itself.
std::optional<ThreadDescriptor> read_thread_descriptor_of_loader(const std::string &loader) {
    std::error_code error;
    std::filesystem::path file = std::filesystem::canonical(loader, error);
    if (error)
        return std::nullopt;
    auto answer = ask_sandbox(0, {}, [&file] {
        auto files = std::make_shared<std::vector<FileDescriptor>>();
        for (const std::filesystem::path &path : {file.parent_path() / "libc.so.6", file})
            files->push_back(open_regular_file(path.string()));
        return [files]() -> std::string {
            for (FileDescriptor &opened : *files)
                if (auto image = read_elf_image(std::move(opened), thread_descriptor_symbols()))
                    if (auto descriptor = read_thread_descriptor(*image))
                        return {reinterpret_cast<const char *>(&*descriptor), sizeof(*descriptor)};
            return "";
        };
    });
    ThreadDescriptor descriptor;
    if (!answer || answer->size() != sizeof(descriptor))
        return std::nullopt;
    std::memcpy(&descriptor, answer->data(), sizeof(descriptor));
    return descriptor;
}

}  // namespace memtrace
