// SPDX-License-Identifier: Apache-2.0
#include "process/usdt_probes.h"

#include <bcc/bcc_elf.h>
#include <elf.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <sstream>
#include <utility>

#include "base/file_descriptor.h"
#include "base/printable.h"
#include "process/elf_image.h"
#include "process/regular_file.h"
#include "process/sandbox.h"

namespace memtrace {

namespace {

constexpr std::string_view kProvider = "python";
constexpr const char *kEndMark = "end";
constexpr off_t kMaxFileBytes = 256 << 20;
constexpr size_t kMaxLocations = 64;  // of one probe; CPython's have four at most

// One line of an answer: what is in the file's notes of a location, and what the file has there.
struct Line {
    const ElfImage &image;
    std::string text;
};

void add_note(const char *, const bcc_elf_usdt *note, void *lines) {
    if (note->provider != kProvider)
        return;
    auto &[image, text] = *static_cast<Line *>(lines);
    std::string arguments = note->arg_fmt;
    std::replace_if(
        arguments.begin(), arguments.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
    auto code = image.read_value<std::array<uint8_t, 5>>(note->pc);
    auto offset = image.offset_of(note->pc);
    auto semaphore = note->semaphore ? image.offset_of(note->semaphore) : 0;
    bool is_place = offset && semaphore && code && is_no_op(*code, image.machine);
    text += fmt::format("{} {} {} {} {:d} {}\n", note->name, image.machine, offset.value_or(0), semaphore.value_or(0),
                        is_place, arguments);
}

// In a sandbox. BCC 0.26 trusts a note to hold the three strings that it should, and opens the file by a name; as
// nobody, so that what it is given is a copy that everybody may read.
std::string read_notes(FileDescriptor copy) {
    std::string name = fmt::format("/proc/self/fd/{}", copy.get());
    auto image = read_elf_image(open_regular_file(name), {});
    if (!image)
        return "";
    Line lines{*image, ""};
    if (bcc_elf_foreach_usdt(name.c_str(), add_note, &lines) != 0)
        return "";
    return lines.text + kEndMark;
}

FileDescriptor copy_for_everybody(const FileDescriptor &file) {
    struct stat status;
    if (!file || fstat(file.get(), &status) != 0 || status.st_size > kMaxFileBytes)
        return FileDescriptor();
    FileDescriptor copy(memfd_create("probes", MFD_CLOEXEC));
    for (off_t left = status.st_size; copy && left > 0;) {
        ssize_t n = sendfile(copy.get(), file.get(), nullptr, static_cast<size_t>(left));
        if (n <= 0)
            break;
        left -= n;
    }
    fchmod(copy.get(), 0444);
    return copy;
}

// Names go to terminals and JSON.
bool is_probe_name(std::string_view name) {
    return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
    });
}

// One line of read_notes(); false when it is not what it should be.
bool add_location(const std::string &line, std::map<std::string, UsdtProbe> &probes) {
    std::istringstream words(line);
    std::string name, arguments;
    uint16_t machine = 0;
    uint64_t offset = 0, semaphore = 0;
    bool is_place = false;
    if (!(words >> name >> machine >> offset >> semaphore >> is_place) || !is_probe_name(name))
        return false;
    std::getline(words, arguments);
    UsdtProbe &probe = probes[name];
    probe.name = name;
    if (!is_place)
        probe.refusal = "its note names a place in the file that is none";
    if (probe.locations.size() < kMaxLocations)
        probe.locations.push_back({offset, semaphore, parse_usdt_arguments(arguments, machine)});
    else
        probe.refusal = fmt::format("it has more than {} locations", kMaxLocations);
    probe.has_semaphore = semaphore != 0;
    return true;
}

// What CPython's tracker and experiments say of each probe, by version.
void judge(UsdtProbe &probe, const PythonVersion &version) {
    bool is_line = probe.name == "line";
    bool is_function = probe.name == "function__entry" || probe.name == "function__return";
    if (!is_line && !is_function)
        return;
    if (version.major == 0) {
        probe.refusal = "the interpreter does not tell its version, and on some versions this probe is unsafe";
        return;
    }
    PythonVersion minor{version.major, version.minor, 0};
    if (is_line && minor >= PythonVersion{3, 12, 0}) {
        // cpython PR 142397.
        probe.refusal = "CPython's line probe was never restored after 3.11";
    } else if (is_line && minor == PythonVersion{3, 11, 0} && version.micro >= 0 && version.micro < 2) {
        // cpython issue 98894 reports it of 3.11.0; no change log says that 3.11.1 mended it. 3.11.2 was tried here.
        probe.refusal = fmt::format(
            "on CPython 3.11.{} enabling the line probe may crash the interpreter (cpython issue 98894); 3.11.2 is the "
            "first that is known to be sound",
            version.micro);
    } else if (is_line && minor == PythonVersion{3, 11, 0} && version.micro < 0) {
        probe.note = "the interpreter does not tell which 3.11 it is, and 3.11.0 crashed (cpython issue 98894)";
    } else if (is_function && minor >= PythonVersion{3, 12, 0} && minor <= PythonVersion{3, 14, 0}) {
        // cpython issue 104280; PR 142397 restored them in 3.15.
        probe.refusal = "CPython 3.12 to 3.14 have no function probes";
    } else if (is_function && minor >= PythonVersion{3, 15, 0}) {
        probe.note = "counts the making of a generator as a call, and does not fire in code that the JIT has compiled";
    } else if (probe.name == "function__entry" && minor == PythonVersion{3, 11, 0}) {
        // Its code is reached only where the interpreter traces: Python/ceval.c of 3.11, TARGET(DO_TRACING).
        probe.note = "fires only while the line probe is attached too";
        probe.only_with_line = true;
    }
}

}  // namespace

bool is_no_op(const std::array<uint8_t, 5> &code, int machine) {
    constexpr std::array<uint8_t, 4> kArm64 = {0x1f, 0x20, 0x03, 0xd5};
    constexpr std::array<uint8_t, 5> kLong = {0x0f, 0x1f, 0x44, 0x00, 0x00};
    if (machine == EM_AARCH64)
        return std::equal(kArm64.begin(), kArm64.end(), code.begin());
    return code[0] == 0x90 || code == kLong;
}

std::optional<std::vector<UsdtProbe>> read_usdt_probes(const std::string &elf_path, const PythonVersion &version) {
    auto answer = ask_sandbox(0, {}, [&elf_path] {
        auto copy = std::make_shared<FileDescriptor>(copy_for_everybody(open_regular_file(elf_path)));
        return [copy] { return read_notes(std::move(*copy)); };
    });
    return answer ? parse_usdt_notes(*answer, version) : std::nullopt;
}

std::optional<std::vector<UsdtProbe>> parse_usdt_notes(const std::string &answer, const PythonVersion &version) {
    std::istringstream notes(answer);
    std::map<std::string, UsdtProbe> by_name;
    std::string line;
    while (std::getline(notes, line) && line != kEndMark)
        if (!add_location(line, by_name))
            return std::nullopt;
    if (line != kEndMark)
        return std::nullopt;
    std::vector<UsdtProbe> probes;
    for (auto &[name, probe] : by_name) {
        if (probe.refusal.empty())
            judge(probe, version);
        probes.push_back(std::move(probe));
    }
    return probes;
}

const UsdtProbe *find_probe(const std::vector<UsdtProbe> &probes, std::string_view name) {
    auto found = std::find_if(probes.begin(), probes.end(), [name](const UsdtProbe &p) { return p.name == name; });
    return found == probes.end() ? nullptr : &*found;
}

std::string probe_refusal(const std::optional<std::vector<UsdtProbe>> &probes, std::string_view name) {
    if (!probes)
        return "its USDT probes cannot be read";
    const UsdtProbe *probe = find_probe(*probes, name);
    return probe ? probe->refusal : fmt::format("this build of CPython has no python:{} probe", name);
}

std::string calls_refusal(const std::optional<std::vector<UsdtProbe>> &probes, bool line_is_attached) {
    std::string refusal = probe_refusal(probes, "function__entry");
    if (refusal.empty() && !line_is_attached && find_probe(*probes, "function__entry")->only_with_line)
        return "its python:function__entry probe fires only while the line probe is attached too: add --engine line";
    return refusal;
}

std::string name_refusal(const std::vector<std::string> &cmdline, const std::string &folder) {
    std::vector<std::string> names = cmdline;
    names.push_back(folder);
    auto bad = std::find_if(names.begin(), names.end(), [](const std::string &name) { return !is_utf8(name); });
    if (bad == names.end())
        return "";
    return fmt::format(
        "'{}' is no UTF-8, and a program with files of such names fails when this probe of CPython's tells of them",
        printable(*bad));
}

}  // namespace memtrace
