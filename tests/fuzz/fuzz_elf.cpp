// SPDX-License-Identifier: Apache-2.0
// Files that a process maps. (libelf, which reads them, has fuzzers of its own; it runs in a sandbox.)
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz/input.h"
#include "process/elf_image.h"
#include "process/short_functions.h"
#include "process/thread_descriptor.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    using namespace memtrace;
    FileDescriptor file(memfd_create("elf", MFD_CLOEXEC));
    if (write(file.get(), data, size) != static_cast<ssize_t>(size))
        return 0;
    std::set<std::string> wanted = thread_descriptor_symbols();
    wanted.insert({"malloc", "PyInterpreterState_Head", "_PyRuntime"});
    auto image = read_elf_image(std::move(file), wanted, {"malloc"});
    if (!image)
        return 0;
    read_thread_descriptor(*image);
    for (const auto &[name, address] : image->symbols) {
        read_returned_variable(*image, address);
        image->offset_of(address);
        image->read_pointer(address);
        image->read_text(address, 64);
    }
    return 0;
}
