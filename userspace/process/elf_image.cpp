// SPDX-License-Identifier: Apache-2.0
#include "process/elf_image.h"

#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>

#include <algorithm>
#include <memory>

#include "base/file_descriptor.h"

namespace memtrace {

namespace {

constexpr uint64_t kPageMask = ~uint64_t{4095};

void read_dynamic_symbols(Elf *elf, const std::set<std::string> &wanted, ElfImage &image) {
    Elf_Scn *section = nullptr;
    while ((section = elf_nextscn(elf, section)) != nullptr) {
        GElf_Shdr header;
        if (!gelf_getshdr(section, &header) || header.sh_type != SHT_DYNSYM || header.sh_entsize == 0)
            continue;
        Elf_Data *data = elf_getdata(section, nullptr);
        if (!data)
            continue;
        size_t count = data->d_size / header.sh_entsize;
        for (size_t i = 0; i < count && image.symbols.size() < wanted.size(); i++) {
            GElf_Sym symbol;
            if (!gelf_getsym(data, static_cast<int>(i), &symbol) || symbol.st_shndx == SHN_UNDEF)
                continue;
            const char *name = elf_strptr(elf, header.sh_link, symbol.st_name);
            if (name && wanted.contains(name))
                image.symbols[name].address = symbol.st_value;
        }
    }
}

// Copies what the file holds at the symbols' addresses. Reading it in the live process would make pages resident there.
void read_contents(Elf *elf, size_t segments, ElfImage &image) {
    size_t file_size = 0;
    const char *file = elf_rawfile(elf, &file_size);
    for (size_t i = 0; file && i < segments; i++) {
        GElf_Phdr segment;
        if (!gelf_getphdr(elf, static_cast<int>(i), &segment) || segment.p_type != PT_LOAD)
            continue;
        for (auto &[name, symbol] : image.symbols) {
            uint64_t within = symbol.address - segment.p_vaddr;
            if (symbol.address < segment.p_vaddr || within >= segment.p_filesz)
                continue;
            size_t size = std::min<uint64_t>(symbol.contents.size(), segment.p_filesz - within);
            if (segment.p_offset <= file_size && within + size <= file_size - segment.p_offset)
                std::memcpy(symbol.contents.data(), file + segment.p_offset + within, size);
        }
    }
}

}  // namespace

std::optional<ElfImage> read_elf_image(const std::string &path, const std::set<std::string> &wanted) {
    elf_version(EV_CURRENT);
    FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!file)
        return std::nullopt;
    std::unique_ptr<Elf, int (*)(Elf *)> elf(elf_begin(file.get(), ELF_C_READ_MMAP, nullptr), elf_end);
    GElf_Ehdr header;
    if (!elf || elf_kind(elf.get()) != ELF_K_ELF || gelf_getclass(elf.get()) != ELFCLASS64 ||
        !gelf_getehdr(elf.get(), &header))
        return std::nullopt;

    ElfImage image;
    image.position_independent = header.e_type == ET_DYN;
    image.first_address = UINT64_MAX;
    image.text_start = UINT64_MAX;
    size_t segments = 0;
    elf_getphdrnum(elf.get(), &segments);
    for (size_t i = 0; i < segments; i++) {
        GElf_Phdr segment;
        if (!gelf_getphdr(elf.get(), static_cast<int>(i), &segment) || segment.p_type != PT_LOAD)
            continue;
        image.first_address = std::min(image.first_address, segment.p_vaddr & kPageMask);
        if (segment.p_flags & PF_X) {
            image.text_start = std::min(image.text_start, segment.p_vaddr);
            image.text_end = std::max(image.text_end, segment.p_vaddr + segment.p_memsz);
        }
    }
    if (image.first_address == UINT64_MAX || image.text_start > image.text_end)
        return std::nullopt;
    read_dynamic_symbols(elf.get(), wanted, image);
    read_contents(elf.get(), segments, image);
    return image;
}

}  // namespace memtrace
