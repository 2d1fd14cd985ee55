// SPDX-License-Identifier: Apache-2.0
#include "symbolize/native_stack.h"

#include <cxxabi.h>
#include <elfutils/libdwfl.h>
#include <fcntl.h>
#include <fmt/core.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/file_descriptor.h"
#include "process/regular_file.h"
#include "process/sandbox.h"

namespace memtrace {

namespace {

using json = nlohmann::json;

constexpr size_t kMaxModules = 400;
constexpr size_t kMaxFrames = 64;
constexpr const char *kUnnamed = "function at ";
constexpr SandboxLimits kLimits{.time = std::chrono::seconds(4), .memory_bytes = 512 << 20, .answer_bytes = 1 << 20};

struct Module {
    std::string path;
    uint64_t start;
    FileDescriptor file;
};

// The files that code is mapped from.
std::vector<Module> open_modules(int pid, const std::vector<Mapping> &mappings) {
    std::vector<Module> modules;
    for (const Mapping &mapping : modules_with_code(mappings)) {
        if (modules.size() == kMaxModules)
            break;
        FileDescriptor file = open_regular_file(mapping.map_file(pid));
        if (file)
            modules.push_back({mapping.path(), mapping.start, std::move(file)});
    }
    return modules;
}

// The registers by their DWARF numbers, of what struct pt_regs holds in its own order.
#if defined(__x86_64__)
constexpr unsigned kStackPointer = 7;
constexpr bool kCallsPushTheReturnAddress = true;

bool set_registers(Dwfl_Thread *thread, const mt_native_record &stack) {
    user_regs_struct r;
    static_assert(sizeof(r) <= sizeof(stack.registers) + 6 * sizeof(uint64_t));
    std::memset(&r, 0, sizeof(r));
    std::memcpy(&r, stack.registers, 21 * sizeof(uint64_t));
    const std::array<Dwarf_Word, 17> registers = {r.rax, r.rdx, r.rcx, r.rbx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8,
                                                  r.r9,  r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rip};
    return dwfl_thread_state_registers(thread, 0, registers.size(), registers.data());
}
#elif defined(__aarch64__)
constexpr unsigned kStackPointer = 31;
constexpr bool kCallsPushTheReturnAddress = false;

bool set_registers(Dwfl_Thread *thread, const mt_native_record &stack) {
    std::array<Dwarf_Word, 32> registers;
    std::copy_n(stack.registers, registers.size(), registers.begin());
    dwfl_thread_state_register_pc(thread, stack.registers[32]);
    return dwfl_thread_state_registers(thread, 0, registers.size(), registers.data());
}
#else
#error "memtrace knows x86-64 and aarch64: add the architecture here"
#endif

struct Frame {
    uint64_t instruction;                   // within the call that is under way
    std::optional<uint64_t> stack_pointer;  // null: not known
};

struct Unwinding {
    const mt_native_record *stack = nullptr;
    std::vector<Frame> frames;  // innermost first
};

// libdwfl asks for the one thread there is.
pid_t next_thread(Dwfl *, void *argument, void **thread_argument) {
    if (*thread_argument)
        return 0;
    *thread_argument = argument;
    return 1;
}

bool get_thread(Dwfl *, pid_t, void *argument, void **thread_argument) {
    *thread_argument = argument;
    return true;
}

bool read_stack(Dwfl *, Dwarf_Addr address, Dwarf_Word *result, void *argument) {
    const mt_native_record &stack = *static_cast<Unwinding *>(argument)->stack;
    uint64_t at = address - stack.key.stack_pointer;
    if (at > sizeof(stack.bytes) - sizeof(uint64_t) || at + sizeof(uint64_t) > stack.stack_bytes)
        return false;
    uint64_t word;
    std::memcpy(&word, stack.bytes + at, sizeof(word));
    *result = word;
    return true;
}

bool set_initial_registers(Dwfl_Thread *thread, void *argument) {
    return set_registers(thread, *static_cast<Unwinding *>(argument)->stack);
}

constexpr Dwfl_Thread_Callbacks kThreadCallbacks = {next_thread,           get_thread, read_stack,
                                                    set_initial_registers, nullptr,    nullptr};

int no_debug_information(Dwfl_Module *, void **, const char *, Dwarf_Addr, const char *, const char *, GElf_Word,
                         char **) {
    return -1;
}

constexpr Dwfl_Callbacks kModuleCallbacks = {nullptr, no_debug_information, nullptr, nullptr};

int add_frame(Dwfl_Frame *state, void *argument) {
    auto &frames = static_cast<Unwinding *>(argument)->frames;
    Dwarf_Addr instruction = 0;
    bool is_exact = false;  // or the return address of a call
    if (!dwfl_frame_pc(state, &instruction, &is_exact) || frames.size() == kMaxFrames)
        return DWARF_CB_ABORT;
    Frame frame{is_exact || frames.empty() ? instruction : instruction - 1, std::nullopt};
    Dwarf_Word stack_pointer = 0;
    if (dwfl_frame_reg(state, kStackPointer, &stack_pointer) == 0)
        frame.stack_pointer = stack_pointer;
    frames.push_back(frame);
    return DWARF_CB_OK;
}

std::string demangle(const char *name) {
    int status = 0;
    std::unique_ptr<char, decltype(&std::free)> text(abi::__cxa_demangle(name, nullptr, nullptr, &status), std::free);
    return status == 0 && text ? text.get() : name;
}

// What holds this instruction: its symbol, else where the call-frame information says that it begins.
std::string name_function(Dwfl_Module *module, uint64_t instruction) {
    GElf_Off offset = 0;
    GElf_Sym symbol;
    if (const char *name = dwfl_module_addrinfo(module, instruction, &offset, &symbol, nullptr, nullptr, nullptr))
        return demangle(name);
    Dwarf_Addr bias = 0;
    Dwarf_CFI *table = dwfl_module_eh_cfi(module, &bias);
    Dwarf_Frame *frame = nullptr;
    if (!table || dwarf_cfi_addrframe(table, instruction - bias, &frame) != 0)
        return {};
    Dwarf_Addr start = 0, end = 0;
    bool is_signal_frame = false;
    dwarf_frame_info(frame, &start, &end, &is_signal_frame);
    std::free(frame);
    return fmt::format("{}{:#x}", kUnnamed, start);
}

// The module and function of each instruction met, looked up once.
class Names {
  public:
    explicit Names(Dwfl *modules) : modules_(modules) {}

    const NativePlace &at(uint64_t instruction) {
        auto [found, is_new] = names_.try_emplace(instruction);
        NativePlace &place = found->second;
        if (!is_new)
            return place;
        place.module = "[anonymous]";
        if (Dwfl_Module *module = dwfl_addrmodule(modules_, instruction)) {
            place.module = dwfl_module_info(module, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr);
            place.function = name_function(module, instruction);
        }
        return place;
    }

  private:
    Dwfl *modules_;
    std::map<uint64_t, NativePlace> names_;
};

// The C library's variants of memset have no symbols.
std::string describe_routine(const NativePlace &routine) {
    bool is_named = !routine.function.empty() && !routine.function.starts_with(kUnnamed);
    return is_named ? routine.function : routine.module.substr(routine.module.rfind('/') + 1);
}

std::optional<NativePlace> find_place(const mt_native_record &stack, const std::vector<Frame> &frames, Names &names) {
    if (frames.empty())
        return std::nullopt;
    for (size_t i = 0; i < frames.size(); i++) {
        NativePlace place = names.at(frames[i].instruction);
        if (is_runtime_library(place.module))
            continue;
        if (i == 0)
            return place;
        if (place.module == "[anonymous]")
            break;  // no frame, or one without call-frame information
        place.by = describe_routine(names.at(frames[i - 1].instruction));
        if (kCallsPushTheReturnAddress && frames[i].stack_pointer)
            place.return_address_at =
                static_cast<uint32_t>(*frames[i].stack_pointer - sizeof(uint64_t) - stack.key.stack_pointer);
        return place;
    }
    return names.at(frames[0].instruction);
}

// In a sandbox.
std::string describe_places(int pid, std::vector<Module> &files, const std::vector<mt_native_record> &stacks) {
    Dwfl *modules = dwfl_begin(&kModuleCallbacks);
    dwfl_report_begin(modules);
    for (Module &module : files) {
        // Takes the file over, also when it is none of its kind.
        if (!dwfl_report_elf(modules, module.path.c_str(), module.path.c_str(), module.file.get(), module.start, false))
            continue;
        FileDescriptor taken;
        module.file = std::move(taken);
    }
    dwfl_report_end(modules, nullptr, nullptr);
    Unwinding unwinding;
    dwfl_attach_state(modules, nullptr, pid, &kThreadCallbacks, &unwinding);
    Names names(modules);
    json answer = json::array();
    for (const mt_native_record &stack : stacks) {
        unwinding = {&stack, {}};
        dwfl_getthread_frames(modules, 1, add_frame, &unwinding);
        auto place = find_place(stack, unwinding.frames, names);
        if (place)
            answer.push_back(
                {place->module, place->function, place->by, place->return_address_at.value_or(MT_NO_FIELD)});
        else
            answer.push_back(nullptr);
    }
    return answer.dump(-1, ' ', true, json::error_handler_t::replace);
}

}  // namespace

bool is_runtime_library(const std::string &path) {
    static constexpr std::string_view kNames[] = {"libc.so",  "libc-2.",  "libpthread",  "libm.so",     "libm-2.",
                                                  "ld-linux", "ld-2.",    "librt",       "libstdc++",   "libgcc_s",
                                                  "libc++",   "libasan",  "libjemalloc", "libtcmalloc", "libmimalloc",
                                                  "ld-musl",  "libc.musl"};
    std::string_view name(path);
    name.remove_prefix(name.rfind('/') + 1);
    return std::any_of(std::begin(kNames), std::end(kNames), [name](auto known) { return name.starts_with(known); });
}

std::vector<std::optional<NativePlace>> unwind_native_stacks(int pid, const std::vector<mt_native_record> &stacks) {
    auto mappings = read_mappings(pid);
    if (!mappings)
        return {};
    auto text = ask_sandbox(pid, kLimits, [&] {
        auto files = std::make_shared<std::vector<Module>>(open_modules(pid, *mappings));
        return [files, pid, &stacks] { return describe_places(pid, *files, stacks); };
    });
    json answer = json::parse(text.value_or(""), nullptr, false);
    if (!answer.is_array() || answer.size() != stacks.size())
        return {};
    std::vector<std::optional<NativePlace>> places;
    for (const json &row : answer) {
        auto &place = places.emplace_back();
        if (!row.is_array() || row.size() != 4 || !row[0].is_string() || !row[1].is_string() || !row[2].is_string() ||
            !row[3].is_number_unsigned())
            continue;
        place = NativePlace{row[0], row[1], row[2], std::nullopt};
        if (auto at = row[3].get<uint64_t>(); at + sizeof(uint64_t) <= MT_NATIVE_STACK_BYTES)
            place->return_address_at = static_cast<uint32_t>(at);
    }
    return places;
}

}  // namespace memtrace
