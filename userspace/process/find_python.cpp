// SPDX-License-Identifier: Apache-2.0
#include "process/find_python.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <cstdlib>
#include <filesystem>
#include <elf.h>
#include <memory>
#include <set>
#include <sstream>

#include "process/elf_image.h"
#include "process/given_up.h"
#include "process/proc_files.h"
#include "process/reading_child.h"
#include "process/regular_file.h"
#include "process/sandbox.h"
#include "process/short_functions.h"
#include "process/thread_descriptor.h"

namespace memtrace {

namespace {

// What tells a version from the one before: a function that it was the first to export.
struct Marker {
    const char *symbol;
    PythonVersion version;
};
constexpr PythonVersion kUnknown{0, 0, -1};
constexpr size_t kMaxModules = 4096;  // of a process, with code
const Marker kMarkers[] = {
    {"PyIter_Send", {3, 10, -1}}, {"PyFrame_GetCode", {3, 9, -1}},       {"PyCode_NewWithPosOnlyArgs", {3, 8, -1}},
    {"_PyRuntime", {3, 7, -1}},   {"PyErr_ResourceWarning", {3, 6, -1}},
};

// What Py_FinalizeEx() calls between the program's end and the clearing of modules: the first of these that is
// exported.
const char *const kEndFunctions[] = {
    "PyOS_FiniInterrupts",     // 2.7 to 3.8
    "_PyGC_CollectIfEnabled",  // 3.9
    "PyGC_Collect",            // 3.10 and later
};

std::set<std::string> wanted_symbols() {
    std::set<std::string> symbols = {"_PyRuntime",          "Py_Version",    "PyCode_Type",
                                     "PyFrame_Type",        "PyCapsule_New", "PyInterpreterState_Head",
                                     "PyString_FromString", "_Py_Finalizing"};
    for (const Marker &marker : kMarkers)
        symbols.insert(marker.symbol);
    symbols.insert(std::begin(kEndFunctions), std::end(kEndFunctions));
    return symbols;
}

const std::set<std::string> kSymbols = wanted_symbols();

// By what it exports; a file's name may be anything.
PythonVersion version_of(const ElfImage &image) {
    const auto &symbols = image.symbols;
    if (symbols.contains("Py_Version")) {
        // From 3.11 on. PY_VERSION_HEX: 0x030b02f0 is 3.11.2 final.
        auto hex = image.read_value<uint32_t>(symbols.at("Py_Version")).value_or(0);
        return {static_cast<int>(hex >> 24), static_cast<int>(hex >> 16 & 0xff), static_cast<int>(hex >> 8 & 0xff)};
    }
    if (symbols.contains("PyString_FromString"))
        return symbols.contains("PyCapsule_New") ? PythonVersion{2, 7, -1} : kUnknown;
    for (const Marker &marker : kMarkers)
        if (symbols.contains(marker.symbol))
            return marker.version;
    return kUnknown;
}

// Before 3.7 the interpreters' list begins at a variable without a symbol, which this function returns.
std::optional<uint64_t> interpreters_head(const ElfImage &image) {
    auto function = image.symbols.find("PyInterpreterState_Head");
    return function == image.symbols.end() ? std::nullopt : read_returned_variable(image, function->second);
}

// From 3.13 on there are two layouts a version.
bool says_it_is_free_threaded(const ElfImage &image, const PythonVersion &version) {
    constexpr uint64_t kFlag = 16;  // offsetof(_Py_DebugOffsets, free_threaded), 3.13 to 3.15
    auto runtime = image.symbols.find("_PyRuntime");
    return version >= PythonVersion{3, 13, -1} && runtime != image.symbols.end() &&
           image.read_value<uint64_t>(runtime->second + kFlag) == uint64_t{1};
}

std::optional<uint64_t> runtime_address(const ElfImage &image) {
    auto runtime = image.symbols.find("_PyRuntime");
    return runtime == image.symbols.end() ? interpreters_head(image) : runtime->second;
}

// Where the file has it.
std::optional<uint64_t> end_function(const ElfImage &image) {
    for (const char *name : kEndFunctions)
        if (auto symbol = image.symbols.find(name); symbol != image.symbols.end())
            return image.offset_of(symbol->second);
    return std::nullopt;
}

// Null when the file is no interpreter.
std::optional<FoundPython> inspect(uint64_t bias, const ElfImage &image) {
    const auto &symbols = image.symbols;
    if (!symbols.contains("PyCode_Type") ||
        !(symbols.contains("_PyRuntime") || symbols.contains("PyInterpreterState_Head")))
        return std::nullopt;
    FoundPython found;
    found.bias = bias;
    found.runtime.state = MT_PYTHON_UNSUPPORTED;
    found.version = version_of(image);
    bool free_threaded = says_it_is_free_threaded(image, found.version);
    found.refusal = fmt::format("memtrace does not know the memory layout of CPython {}{} yet", found.version_string(),
                                free_threaded ? " without the GIL" : "");
    for (const PythonLayout &layout : python_layouts()) {
        if (layout.version.major != found.version.major || layout.version.minor != found.version.minor ||
            layout.free_threaded != free_threaded)
            continue;
        std::string against = contradiction(layout, image);
        auto runtime = runtime_address(image);
        if (against.empty() && !runtime)
            against = "where its interpreters are cannot be told";
        if (!against.empty()) {
            found.refusal =
                fmt::format("this CPython {} contradicts the layout that memtrace knows for its version: {}",
                            found.version_string(), against);
            break;
        }
        found.refusal.clear();
        found.free_threaded = layout.free_threaded;
        found.jit_flag = layout.jit_flag;
        found.runtime = layout.offsets;
        if (layout.finalizing != MT_NO_FIELD)
            found.finalizing = layout.finalizing;
        else if (symbols.contains("_Py_Finalizing"))
            found.finalizing = symbols.at("_Py_Finalizing") - *runtime;
        found.end_function = end_function(image);
        found.runtime.runtime = *runtime + bias;
        found.runtime.code_type = symbols.at("PyCode_Type") + bias;
        found.runtime.text_start = image.text_start + bias;
        found.runtime.text_end = image.text_end + bias;
        found.runtime.state = MT_PYTHON_READY;
        break;
    }
    return found;
}

// How a thread of the process is told from others. Without it no line could be known.
void take_thread_descriptor(FoundPython &python, uint16_t machine, std::optional<ThreadDescriptor> descriptor) {
    if (python.runtime.state != MT_PYTHON_READY)
        return;
    if (!descriptor && machine == EM_X86_64)
        descriptor = ThreadDescriptor();
    if (descriptor) {
        python.runtime.pthread_pointer = descriptor->pointer_at;
        python.runtime.pthread_specific = descriptor->specific_at;
        python.runtime.pthread_tid = descriptor->tid_at;
        return;
    }
    python.runtime.state = MT_PYTHON_UNSUPPORTED;
    python.awaits_c_library = true;
    python.refusal =
        "no C library in this process tells where pthread_self() points (by _thread_db_sizeof_pthread, or by that "
        "function's code), and without that no thread's frames are found";
}

// As execvp does; the command itself when it is in none of PATH's folders.
std::string find_in_path(const std::string &command) {
    if (command.find('/') != std::string::npos)
        return command;
    const char *search = getenv("PATH");
    std::istringstream folders(search ? search : "/bin:/usr/bin");
    for (std::string folder; std::getline(folders, folder, ':');) {
        std::string path = (folder.empty() ? "." : folder) + "/" + command;
        if (faccessat(AT_FDCWD, path.c_str(), X_OK, AT_EACCESS) == 0)
            return path;
    }
    return command;
}

// The file that is mapped. Who has no privileges may open it by its name only, if that still is it.
FileDescriptor open_module(int pid, const Mapping &mapping) {
    if (FileDescriptor file = open_regular_file(mapping.map_file(pid)))
        return file;
    FileDescriptor file = open_regular_file(fmt::format("/proc/{}/root{}", pid, mapping.path()));
    struct stat status;
    bool is_it = file && fstat(file.get(), &status) == 0 && status.st_ino == mapping.inode &&
                 (uint64_t{major(status.st_dev)} << 20 | minor(status.st_dev)) == mapping.device;
    return is_it ? std::move(file) : FileDescriptor();
}

// What a sandbox found, as bytes: this, the refusal, a NUL, and the path of the program's dynamic loader. It has read a
// file that may have taken it over: nothing here makes us do more than misread that process.
struct Finding {
    uint32_t module;  // its number
    int32_t version[3];
    uint32_t jit_flag;
    uint32_t machine;
    uint64_t bias, finalizing, end_function;  // of the latter two UINT64_MAX is none
    mt_python runtime;
    bool free_threaded, awaits_c_library;
};

std::string pack(uint32_t module, const FoundPython &python, const ElfImage &image) {
    Finding finding{};
    finding.module = module;
    finding.version[0] = python.version.major;
    finding.version[1] = python.version.minor;
    finding.version[2] = python.version.micro;
    finding.jit_flag = python.jit_flag;
    finding.machine = image.machine;
    finding.bias = python.bias;
    finding.finalizing = python.finalizing.value_or(UINT64_MAX);
    finding.end_function = python.end_function.value_or(UINT64_MAX);
    finding.runtime = python.runtime;
    finding.free_threaded = python.free_threaded;
    finding.awaits_c_library = python.awaits_c_library;
    return std::string(reinterpret_cast<const char *>(&finding), sizeof(finding)) + python.refusal + '\0' +
           image.loader;
}

struct Unpacked {
    Finding finding;
    FoundPython python;
    std::string loader;
};

std::optional<Unpacked> unpack(const std::string &answer) {
    Unpacked found;
    if (answer.size() < sizeof(found.finding))
        return std::nullopt;
    std::memcpy(static_cast<void *>(&found.finding), answer.data(), sizeof(found.finding));
    const Finding &finding = found.finding;
    std::string text = answer.substr(sizeof(finding));
    size_t end = std::min(text.find('\0'), text.size());
    FoundPython &python = found.python;
    python.version = {finding.version[0], finding.version[1], finding.version[2]};
    python.jit_flag = finding.jit_flag;
    python.bias = finding.bias;
    auto known = [](uint64_t word) { return word == UINT64_MAX ? std::nullopt : std::optional(word); };
    python.finalizing = known(finding.finalizing);
    python.end_function = known(finding.end_function);
    python.runtime = finding.runtime;
    if (python.runtime.state != MT_PYTHON_READY)
        python.runtime.state = MT_PYTHON_UNSUPPORTED;
    python.free_threaded = finding.free_threaded;
    python.awaits_c_library = finding.awaits_c_library;
    python.refusal = text.substr(0, end);
    found.loader = text.substr(std::min(end + 1, text.size()));
    return found;
}

struct Module {
    uint64_t start;
    FileDescriptor file;
};
using Modules = std::vector<Module>;

// The C library is among the first to be mapped, and so among the last by address.
std::optional<ThreadDescriptor> find_thread_descriptor(Modules &modules) {
    for (auto module = modules.rbegin(); module != modules.rend(); ++module) {
        auto image = read_elf_image(std::move(module->file), thread_descriptor_symbols());
        if (auto descriptor = image ? read_thread_descriptor(*image) : std::nullopt)
            return descriptor;
    }
    return std::nullopt;
}

const std::string kNone = "none";

// In a sandbox.
std::string find_among(Modules &modules) {
    for (uint32_t i = 0; i < modules.size(); i++) {
        auto image = read_elf_image(std::move(modules[i].file), kSymbols);
        if (!image)
            continue;
        uint64_t bias = image->position_independent ? modules[i].start - image->first_address : 0;
        auto found = inspect(bias, *image);
        if (!found)
            continue;
        // (Those before it are closed, and none is a C library: they would have come after it.)
        modules.erase(modules.begin(), modules.begin() + i + 1);
        take_thread_descriptor(*found, image->machine, find_thread_descriptor(modules));
        return pack(i, *found, *image);
    }
    return kNone;
}

}  // namespace

std::string FoundPython::version_string() const {
    if (version.major == 0)
        return "of unknown version";
    if (version.micro < 0)
        return fmt::format("{}.{}", version.major, version.minor);
    return fmt::format("{}.{}.{}", version.major, version.minor, version.micro);
}

std::optional<FoundPython> find_python(int pid) {
    auto mappings = read_mappings(pid);
    if (!mappings)
        return std::nullopt;
    std::vector<Mapping> modules = modules_with_code(*mappings);
    modules.resize(std::min(modules.size(), kMaxModules));
    auto answer = ask_sandbox(pid, {}, [&] {
        allow_open_files(2 * kMaxModules);
        auto opened = std::make_shared<Modules>();
        for (const Mapping &mapping : modules)
            opened->push_back({mapping.start, open_module(pid, mapping)});
        return [opened] { return find_among(*opened); };
    });
    auto found = answer ? unpack(*answer) : std::nullopt;
    if (!found || found->finding.module >= modules.size())
        return std::nullopt;
    const Mapping &module = modules[found->finding.module];
    found->python.module_path = module.path();
    found->python.file = {module.device, module.inode};
    std::string path = module.map_file(pid);
    found->python.map_file = path.substr(path.rfind('/') + 1);
    return std::move(found->python);
}

std::string why_untold(int pid) {
    std::string why = GivenUp::instance().why(pid);
    return why.empty() ? why_no_sandbox() : why;
}

std::optional<FoundPython> find_python_in_file(const std::string &path) {
    struct stat status;
    if (stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode))
        return std::nullopt;
    auto answer = ask_sandbox(0, {}, [&path] {
        auto file = std::make_shared<FileDescriptor>(open_regular_file(path));
        return [file]() -> std::string {
            auto image = read_elf_image(std::move(*file), kSymbols);
            auto found = image ? inspect(0, *image) : std::nullopt;
            return found ? pack(0, *found, *image) : kNone;
        };
    });
    auto found = answer ? unpack(*answer) : std::nullopt;
    if (!found)
        return std::nullopt;
    found->python.module_path = path;
    found->python.file = {uint64_t{major(status.st_dev)} << 20 | minor(status.st_dev), status.st_ino};
    take_thread_descriptor(found->python, static_cast<uint16_t>(found->finding.machine),
                           read_thread_descriptor_of_loader(found->loader));
    return std::move(found->python);
}

std::optional<FoundPython> find_python_of_command(const std::string &command) {
    std::string path = find_in_path(command);
    if (auto python = find_python_in_file(path))
        return python;
    std::error_code error;
    if (!std::filesystem::is_regular_file(path, error))
        return std::nullopt;
    std::string start = read_whole_file(path, 256).value_or("");
    if (!start.starts_with("#!"))
        return std::nullopt;
    std::istringstream words(start.substr(2, start.find('\n') - 2));
    std::string interpreter, argument;
    words >> interpreter >> argument;
    if (interpreter.ends_with("/env")) {
        if (argument == "-S")
            words >> argument;
        interpreter = find_in_path(argument);
    }
    return find_python_in_file(interpreter);
}

bool FoundPython::jit_is_on(const mt_python &where, const RemoteMemory &memory) const {
    if (jit_flag == MT_NO_FIELD || where.state != MT_PYTHON_READY)
        return false;
    auto interpreter = memory.read_value<uint64_t>(where.runtime + where.runtime_interpreters_head);
    return interpreter && *interpreter && memory.read_value<uint8_t>(*interpreter + jit_flag).value_or(0) == 1;
}

std::string FoundPython::open_path(int pid) const {
    return map_file.empty() ? module_path : fmt::format("/proc/{}/map_files/{}", pid, map_file);
}

mt_python FoundPython::unrelocated() const {
    mt_python python = runtime;
    python.runtime -= bias;
    python.code_type -= bias;
    python.text_start -= bias;
    python.text_end -= bias;
    return python;
}

}  // namespace memtrace
