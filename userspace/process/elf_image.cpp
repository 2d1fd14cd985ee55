// SPDX-License-Identifier: Apache-2.0
#include "process/elf_image.h"

#include <gelf.h>
#include <libelf.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>

namespace memtrace {

namespace {

const uint64_t kPageMask = ~(static_cast<uint64_t>(getpagesize()) - 1);  // where the kernel maps a segment from
// Of a section that is read whole. A libpython has about 30,000 relocations of 24 bytes.
constexpr uint64_t kMaxSectionBytes = 64 << 20;  // of one type, together
constexpr size_t kMaxPointers = 1 << 18;

void read_dynamic_symbols(Elf *elf, Elf_Scn *section, const GElf_Shdr &header, const std::set<std::string> &wanted,
                          ElfImage &image) {
    Elf_Data *data = elf_getdata(section, nullptr);
    if (!data || header.sh_entsize == 0)
        return;
    size_t count = data->d_size / header.sh_entsize;
    for (size_t i = 0; i < count && image.symbols.size() < wanted.size(); i++) {
        GElf_Sym symbol;
        if (!gelf_getsym(data, static_cast<int>(i), &symbol) || symbol.st_shndx == SHN_UNDEF)
            continue;
        const char *name = elf_strptr(elf, header.sh_link, symbol.st_name);
        if (name && wanted.contains(name))
            image.symbols[name] = symbol.st_value;
    }
}

void read_relocations(Elf_Scn *section, const GElf_Shdr &header, ElfImage &image) {
    Elf_Data *data = elf_getdata(section, nullptr);
    if (!data || header.sh_entsize == 0)
        return;
    uint64_t relative = image.machine == EM_AARCH64 ? R_AARCH64_RELATIVE : R_X86_64_RELATIVE;
    size_t count = data->d_size / header.sh_entsize;
    for (size_t i = 0; i < count && image.pointers.size() < kMaxPointers; i++) {
        GElf_Rela relocation;
        if (gelf_getrela(data, static_cast<int>(i), &relocation) && GELF_R_TYPE(relocation.r_info) == relative)
            image.pointers.emplace_hint(image.pointers.end(), relocation.r_offset,
                                        static_cast<uint64_t>(relocation.r_addend));
    }
}

// A function's address is in a slot for calls to it, or wherever a pointer to it is.
bool is_import(uint16_t machine, uint64_t type) {
    if (machine == EM_AARCH64)
        return type == R_AARCH64_JUMP_SLOT || type == R_AARCH64_GLOB_DAT || type == R_AARCH64_ABS64;
    return type == R_X86_64_JUMP_SLOT || type == R_X86_64_GLOB_DAT || type == R_X86_64_64;
}

void read_imports(Elf *elf, Elf_Scn *section, const GElf_Shdr &header, const std::set<std::string> &wanted,
                  ElfImage &image) {
    Elf_Scn *table = elf_getscn(elf, header.sh_link);
    GElf_Shdr symbols_header;
    if (!table || !gelf_getshdr(table, &symbols_header) || symbols_header.sh_type != SHT_DYNSYM ||
        symbols_header.sh_size > kMaxSectionBytes)
        return;
    Elf_Data *data = elf_getdata(section, nullptr), *symbols = elf_getdata(table, nullptr);
    if (!data || !symbols || header.sh_entsize == 0)
        return;
    size_t count = data->d_size / header.sh_entsize;
    for (size_t i = 0; i < count && image.imports.size() < wanted.size(); i++) {
        GElf_Rela relocation;
        GElf_Sym symbol;
        if (!gelf_getrela(data, static_cast<int>(i), &relocation) ||
            !is_import(image.machine, GELF_R_TYPE(relocation.r_info)) || relocation.r_addend ||
            !gelf_getsym(symbols, static_cast<int>(GELF_R_SYM(relocation.r_info)), &symbol))
            continue;
        const char *name = elf_strptr(elf, symbols_header.sh_link, symbol.st_name);
        if (name && wanted.contains(name))
            image.imports.emplace(name, relocation.r_offset);
    }
}

void each_section(Elf *elf, unsigned type, const std::function<void(Elf_Scn *, const GElf_Shdr &)> &handler) {
    uint64_t bytes_left = kMaxSectionBytes;
    Elf_Scn *section = nullptr;
    while ((section = elf_nextscn(elf, section)) != nullptr) {
        GElf_Shdr header;
        if (!gelf_getshdr(section, &header) || header.sh_type != type || header.sh_size > bytes_left)
            continue;
        bytes_left -= header.sh_size;
        handler(section, header);
    }
}

// libelf makes room for all at once. What is linked has some 40 sections; an object file of a large template library
// has thousands. More than 65,279 are said elsewhere than in the header, where there are none then.
bool has_few_parts(int file) {
    constexpr unsigned kMost = 16384;
    Elf64_Ehdr header;
    return pread(file, &header, sizeof(header), 0) == sizeof(header) && header.e_shnum <= kMost &&
           header.e_phnum <= kMost && (header.e_shnum || !header.e_shoff);
}

std::string read_path(int file, const GElf_Phdr &segment) {
    std::string path(std::min<uint64_t>(segment.p_filesz, PATH_MAX), '\0');
    ssize_t length = pread(file, path.data(), path.size(), static_cast<off_t>(segment.p_offset));
    path.resize(static_cast<size_t>(std::max<ssize_t>(length, 0)));
    return path.substr(0, path.find('\0'));
}

bool read_segments(Elf *elf, int file, ElfImage &image) {
    image.first_address = UINT64_MAX;
    image.text_start = UINT64_MAX;
    size_t count = 0;
    elf_getphdrnum(elf, &count);
    for (size_t i = 0; i < count; i++) {
        GElf_Phdr segment;
        if (!gelf_getphdr(elf, static_cast<int>(i), &segment))
            continue;
        if (segment.p_type == PT_INTERP)
            image.loader = read_path(file, segment);
        if (segment.p_type != PT_LOAD)
            continue;
        image.segments.push_back({segment.p_vaddr, segment.p_offset, segment.p_filesz, segment.p_memsz});
        image.first_address = std::min(image.first_address, segment.p_vaddr & kPageMask);
        if (segment.p_flags & PF_X) {
            image.text_start = std::min(image.text_start, segment.p_vaddr);
            image.text_end = std::max(image.text_end, segment.p_vaddr + segment.p_memsz);
        }
    }
    return image.first_address != UINT64_MAX && image.text_start <= image.text_end;
}

}  // namespace

bool ElfImage::read(uint64_t address, void *into, size_t size) const {
    for (const Segment &segment : segments) {
        uint64_t within = address - segment.address;
        if (address < segment.address || within > segment.memory_bytes || size > segment.memory_bytes - within)
            continue;
        std::memset(into, 0, size);
        size_t held = within < segment.file_bytes ? std::min<uint64_t>(size, segment.file_bytes - within) : 0;
        return pread(file.get(), into, held, static_cast<off_t>(segment.file_offset + within)) ==
               static_cast<ssize_t>(held);
    }
    return false;
}

std::optional<uint64_t> ElfImage::offset_of(uint64_t address) const {
    for (const Segment &segment : segments)
        if (address >= segment.address && address - segment.address < segment.file_bytes)
            return segment.file_offset + (address - segment.address);
    return std::nullopt;
}

std::optional<uint64_t> ElfImage::read_pointer(uint64_t address) const {
    auto found = pointers.find(address);
    return found != pointers.end() ? found->second : read_value<uint64_t>(address);
}

std::string ElfImage::read_text(uint64_t address, size_t size) const {
    std::string text(size, '\0');
    while (!text.empty() && !read(address, text.data(), text.size()))
        text.pop_back();
    return text;
}

std::optional<ElfImage> read_elf_image(FileDescriptor file, const std::set<std::string> &wanted,
                                       const std::set<std::string> &imported) {
    if (!has_few_parts(file.get()))
        return std::nullopt;
    elf_version(EV_CURRENT);
    if (!file)
        return std::nullopt;
    std::unique_ptr<Elf, int (*)(Elf *)> elf(elf_begin(file.get(), ELF_C_READ, nullptr), elf_end);
    GElf_Ehdr header;
    if (!elf || elf_kind(elf.get()) != ELF_K_ELF || gelf_getclass(elf.get()) != ELFCLASS64 ||
        !gelf_getehdr(elf.get(), &header))
        return std::nullopt;
    ElfImage image;
    image.machine = header.e_machine;
    image.position_independent = header.e_type == ET_DYN;
    if (!read_segments(elf.get(), file.get(), image))
        return std::nullopt;
    each_section(elf.get(), SHT_DYNSYM, [&](Elf_Scn *section, const GElf_Shdr &section_header) {
        read_dynamic_symbols(elf.get(), section, section_header, wanted, image);
    });
    if (!image.symbols.empty())
        each_section(elf.get(), SHT_RELA, [&](Elf_Scn *section, const GElf_Shdr &section_header) {
            read_relocations(section, section_header, image);
        });
    if (!imported.empty())
        each_section(elf.get(), SHT_RELA, [&](Elf_Scn *section, const GElf_Shdr &section_header) {
            read_imports(elf.get(), section, section_header, imported, image);
        });
    image.file = std::move(file);
    return image;
}

}  // namespace memtrace
