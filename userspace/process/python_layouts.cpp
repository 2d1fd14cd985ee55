// SPDX-License-Identifier: Apache-2.0
#include "process/python_layouts.h"

namespace memtrace {

std::optional<mt_python> layout_of(const PythonVersion &version) {
    mt_python layout{};
    if (version.major == 3 && version.minor == 11) {
        // From the DWARF of Debian's python3.11 3.11.2-6 and of a 3.11.7 built from source, which agree.
        layout.arena_bytes = 1 << 20;           // ARENA_SIZE, Objects/obmalloc.c
        layout.runtime_interpreters_head = 40;  // _PyRuntimeState.interpreters.head
        layout.interpreter_next = 0;            // PyInterpreterState.next
        layout.interpreter_threads_head = 16;   // PyInterpreterState.threads.head
        layout.thread_next = 8;                 // PyThreadState.next
        layout.thread_id = 152;                 // PyThreadState.thread_id
        layout.thread_cframe = 56;              // PyThreadState.cframe
        layout.cframe_current_frame = 8;        // _PyCFrame.current_frame
        layout.frame_code = 32;                 // _PyInterpreterFrame.f_code
        layout.frame_previous = 48;             // _PyInterpreterFrame.previous
        layout.frame_instr = 56;                // _PyInterpreterFrame.prev_instr
        layout.code_first_line = 72;            // PyCodeObject.co_firstlineno
        layout.code_filename = 112;             // PyCodeObject.co_filename
        layout.code_qualname = 128;             // PyCodeObject.co_qualname
        layout.code_linetable = 136;            // PyCodeObject.co_linetable
        layout.code_instructions = 184;         // PyCodeObject.co_code_adaptive
        layout.string_length = 16;              // PyASCIIObject.length
        layout.string_state = 32;               // PyASCIIObject.state
        layout.string_ascii_data = 48;          // sizeof(PyASCIIObject)
        layout.string_compact_data = 72;        // sizeof(PyCompactUnicodeObject)
        layout.bytes_size = 16;                 // PyVarObject.ob_size
        layout.bytes_data = 32;                 // PyBytesObject.ob_sval
        return layout;
    }
    return std::nullopt;
}

}  // namespace memtrace
