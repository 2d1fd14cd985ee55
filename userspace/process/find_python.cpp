// SPDX-License-Identifier: Apache-2.0
#include "process/find_python.h"

#include <fmt/core.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <regex>
#include <set>
#include <sstream>

#include "process/elf_image.h"
#include "process/proc_files.h"

namespace memtrace {

namespace {

const std::set<std::string> kSymbols = {"_PyRuntime", "Py_Version", "PyCode_Type", "PyInterpreterState_Head"};

// PyCode_Type.tp_basicsize is offsetof(PyCodeObject, co_code_adaptive) from 3.11 on: a static object, right from the
// first instruction.
bool layout_agrees(const ElfSymbol &code_type, const mt_python &layout) {
    return code_type.value_at<uint64_t>(kTypeBasicSize) == layout.code_instructions;
}

PythonVersion version_from_name(const std::string &path) {
    static const std::regex pattern(R"(python(\d)\.(\d+))");
    std::smatch match;
    std::string name = path.substr(path.rfind('/') + 1);
    if (!std::regex_search(name, match, pattern))
        return {0, 0, -1};
    return {std::stoi(match[1]), std::stoi(match[2]), -1};
}

std::optional<FoundPython> inspect(const std::string &path, const mt_file_id &file, uint64_t bias,
                                   const ElfImage &image) {
    const auto &symbols = image.symbols;
    if (!symbols.contains("PyCode_Type") ||
        !(symbols.contains("_PyRuntime") || symbols.contains("PyInterpreterState_Head")))
        return std::nullopt;
    FoundPython found;
    found.module_path = path;
    found.file = file;
    found.bias = bias;
    found.runtime.state = MT_PYTHON_UNSUPPORTED;
    found.version = version_from_name(path);
    if (symbols.contains("Py_Version")) {
        // Py_Version is PY_VERSION_HEX: 0x030b02f0 is 3.11.2 final.
        auto hex = symbols.at("Py_Version").value_at<uint32_t>(0);
        found.version = {static_cast<int>(hex >> 24), static_cast<int>(hex >> 16 & 0xff),
                         static_cast<int>(hex >> 8 & 0xff)};
    }
    auto layout = layout_of(found.version);
    if (!layout || !symbols.contains("_PyRuntime")) {
        found.refusal =
            fmt::format("memtrace does not know the memory layout of CPython {} yet", found.version_string());
        return found;
    }
    layout->runtime = symbols.at("_PyRuntime").address + bias;
    layout->code_type = symbols.at("PyCode_Type").address + bias;
    layout->text_start = image.text_start + bias;
    layout->text_end = image.text_end + bias;
    if (!layout_agrees(symbols.at("PyCode_Type"), *layout)) {
        found.refusal = fmt::format("this CPython {} contradicts the layout that memtrace knows for its version",
                                    found.version_string());
        return found;
    }
    layout->state = MT_PYTHON_READY;
    found.runtime = *layout;
    return found;
}

// As execvp does; the command itself when it is in none of PATH's folders.
std::string find_in_path(const std::string &command) {
    if (command.find('/') != std::string::npos)
        return command;
    const char *search = getenv("PATH");
    std::istringstream folders(search ? search : "/bin:/usr/bin");
    for (std::string folder; std::getline(folders, folder, ':');) {
        std::string path = (folder.empty() ? "." : folder) + "/" + command;
        if (access(path.c_str(), X_OK) == 0)
            return path;
    }
    return command;
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
    // The first mapping of each file that is mapped executable somewhere; only those can hold an interpreter.
    std::set<uint64_t> executable;
    for (const Mapping &mapping : *mappings)
        if (mapping.inode && mapping.permissions.find('x') != std::string::npos)
            executable.insert(mapping.inode);
    std::set<uint64_t> seen;
    for (const Mapping &mapping : *mappings) {
        if (!mapping.inode || mapping.offset != 0 || !executable.contains(mapping.inode) ||
            !seen.insert(mapping.inode).second)
            continue;
        auto image = read_elf_image(mapping.map_file(pid), kSymbols);
        if (!image)
            continue;
        uint64_t bias = image->position_independent ? mapping.start - image->first_address : 0;
        if (auto found = inspect(mapping.path, {mapping.device, mapping.inode}, bias, *image)) {
            std::string path = mapping.map_file(pid);
            found->map_file = path.substr(path.rfind('/') + 1);
            return found;
        }
    }
    return std::nullopt;
}

std::optional<FoundPython> find_python_in_file(const std::string &path) {
    struct stat status;
    if (stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode))
        return std::nullopt;
    auto image = read_elf_image(path, kSymbols);
    if (!image)
        return std::nullopt;
    mt_file_id file{uint64_t{major(status.st_dev)} << 20 | minor(status.st_dev), status.st_ino};
    return inspect(path, file, 0, *image);
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
