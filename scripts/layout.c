// Prints where CPython keeps what memtrace reads, as the compiler sees it in that CPython's own headers. See scripts/layout.
#define Py_BUILD_CORE 1
#include <Python.h>
#include <frameobject.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#if PY_VERSION_HEX >= 0x03080000
#include "internal/pycore_pystate.h"
#elif PY_VERSION_HEX >= 0x03070000
#include "internal/pystate.h"
#endif
#if PY_VERSION_HEX >= 0x03090000
#include "internal/pycore_interp.h"
#include "internal/pycore_runtime.h"
#endif
#if PY_VERSION_HEX >= 0x030b0000
#include "internal/pycore_frame.h"
#endif
#if PY_VERSION_HEX >= 0x030e0000
#include "internal/pycore_interpframe_structs.h"
#endif
#define SET(field, value) printf("        .%s = %zu,\n", #field, (size_t)(value))
// Of what lies behind the GIL's two mutexes, whose size is the machine's: see kGilMutexes in python_layouts.cpp.
#define OFFSET_BEHIND_GIL(indent, field, type, member)                                                                     \
    printf("%.*s.%s = kGilMutexes + %zu,  // %s.%s\n", indent, "        ", #field,                                       \
           offsetof(type, member) - 2 * sizeof(pthread_mutex_t), #type, #member)
#define OFFSET(field, type, member) \
    printf("        .%s = %zu,  // %s.%s\n", #field, offsetof(type, member), #type, #member)

static void offsets(void)
{
    printf("    .offsets = {\n");
    // Objects/obmalloc.c; pycore_obmalloc.h from 3.12 on. Free-threaded builds have mimalloc in its place.
#ifdef Py_GIL_DISABLED
    SET(arena_bytes, 0);
#else
    SET(arena_bytes, PY_VERSION_HEX >= 0x030a0000 ? 1 << 20 : 256 << 10);
#endif
#if PY_VERSION_HEX >= 0x03070000
    OFFSET(runtime_interpreters_head, _PyRuntimeState, interpreters.head);
#else
    SET(runtime_interpreters_head, 0);  // interp_head, Python/pystate.c, is a variable of its own
#endif
    // The key of the thread state in thread-specific storage, for pthread_getspecific(). Gone in 3.15.
#if PY_VERSION_HEX >= 0x030f0000 || PY_VERSION_HEX < 0x03070000
    printf("        .runtime_thread_key = MT_NO_FIELD,\n");
#elif PY_VERSION_HEX >= 0x030c0000
    OFFSET(runtime_thread_key, _PyRuntimeState, autoTSSkey._key);
#else
    OFFSET_BEHIND_GIL(8, runtime_thread_key, _PyRuntimeState, gilstate.autoTSSkey._key);
#endif
    OFFSET(interpreter_next, PyInterpreterState, next);
#if PY_VERSION_HEX >= 0x030b0000
    OFFSET(interpreter_threads_head, PyInterpreterState, threads.head);
#else
    OFFSET(interpreter_threads_head, PyInterpreterState, tstate_head);
#endif
    OFFSET(thread_next, PyThreadState, next);
    OFFSET(thread_id, PyThreadState, thread_id);
#if PY_VERSION_HEX >= 0x030d0000
    OFFSET(thread_frame, PyThreadState, current_frame);
    printf("        .cframe_frame = MT_NO_FIELD,\n");
#elif PY_VERSION_HEX >= 0x030c0000
    OFFSET(thread_frame, PyThreadState, cframe);
    OFFSET(cframe_frame, _PyCFrame, current_frame);
#elif PY_VERSION_HEX >= 0x030b0000
    OFFSET(thread_frame, PyThreadState, cframe);
    OFFSET(cframe_frame, _PyCFrame, current_frame);
#else
    OFFSET(thread_frame, PyThreadState, frame);
    printf("        .cframe_frame = MT_NO_FIELD,\n");
#endif
#if PY_VERSION_HEX >= 0x030d0000
    OFFSET(frame_code, _PyInterpreterFrame, f_executable);
    OFFSET(frame_previous, _PyInterpreterFrame, previous);
    OFFSET(frame_instruction, _PyInterpreterFrame, instr_ptr);
    OFFSET(frame_owner, _PyInterpreterFrame, owner);
    printf("        .frame_counts = MT_COUNTS_ADDRESS,\n");
#elif PY_VERSION_HEX >= 0x030b0000
    OFFSET(frame_code, _PyInterpreterFrame, f_code);
    OFFSET(frame_previous, _PyInterpreterFrame, previous);
    OFFSET(frame_instruction, _PyInterpreterFrame, prev_instr);
#if PY_VERSION_HEX >= 0x030c0000
    OFFSET(frame_owner, _PyInterpreterFrame, owner);
#else
    printf("        .frame_owner = MT_NO_FIELD,\n");
#endif
    printf("        .frame_counts = MT_COUNTS_ADDRESS,\n");
#else
    OFFSET(frame_code, PyFrameObject, f_code);
    OFFSET(frame_previous, PyFrameObject, f_back);
    OFFSET(frame_instruction, PyFrameObject, f_lasti);
    printf("        .frame_owner = MT_NO_FIELD,\n");
    printf("        .frame_counts = %s,\n", PY_VERSION_HEX >= 0x030a0000 ? "MT_COUNTS_UNITS" : "MT_COUNTS_BYTES");
#endif
    OFFSET(object_type, PyObject, ob_type);
    OFFSET(code_first_line, PyCodeObject, co_firstlineno);
    OFFSET(code_filename, PyCodeObject, co_filename);
#if PY_VERSION_HEX >= 0x030b0000
    OFFSET(code_name, PyCodeObject, co_qualname);
    OFFSET(code_lines, PyCodeObject, co_linetable);
    OFFSET(code_instructions, PyCodeObject, co_code_adaptive);
    printf("        .line_format = MT_LINES_LOCATIONS,\n");
#elif PY_VERSION_HEX >= 0x030a0000
    OFFSET(code_name, PyCodeObject, co_name);
    OFFSET(code_lines, PyCodeObject, co_linetable);
    SET(code_instructions, 0);
    printf("        .line_format = MT_LINES_RANGES,\n");
#else
    OFFSET(code_name, PyCodeObject, co_name);
    OFFSET(code_lines, PyCodeObject, co_lnotab);
    SET(code_instructions, 0);
    printf("        .line_format = %s,\n", PY_MAJOR_VERSION >= 3 ? "MT_LINES_SIGNED" : "MT_LINES_UNSIGNED");
#endif
#if PY_MAJOR_VERSION >= 3
    OFFSET(string_length, PyASCIIObject, length);
    OFFSET(string_state, PyASCIIObject, state);
    SET(string_ascii_data, sizeof(PyASCIIObject));
    SET(string_compact_data, sizeof(PyCompactUnicodeObject));
#else
    OFFSET(string_length, PyStringObject, ob_size);  // str is bytes
    printf("        .string_state = MT_NO_FIELD,\n");
    OFFSET(string_ascii_data, PyStringObject, ob_sval);
    OFFSET(string_compact_data, PyStringObject, ob_sval);
#endif
    OFFSET(bytes_size, PyVarObject, ob_size);
#if PY_MAJOR_VERSION >= 3
    OFFSET(bytes_data, PyBytesObject, ob_sval);
#else
    OFFSET(bytes_data, PyStringObject, ob_sval);
#endif
    printf("    },\n");
}

#define MEMBER(type_object, type, member) \
    printf("        {\"%s\", \"%s\", %zu},\n", #type_object, #member, offsetof(type, member))
#define WORD(symbol, at, value, what) printf("        {\"%s\", %zu, %zu},  // %s\n", symbol, (size_t)(at), (size_t)(value), what)
// The same value, of the same name, as the table that CPython makes of itself (_Py_DebugOffsets_INIT) has.
#define DEBUG_OFFSET(field, value) \
    WORD("_PyRuntime", offsetof(_PyRuntimeState, debug_offsets) + offsetof(_Py_DebugOffsets, field), value, #field)

// What the interpreter says of itself, and must say so that the layout is believed.
static void checks(void)
{
    printf("    .members = {\n");
#if PY_VERSION_HEX < 0x030d0000
    MEMBER(PyCode_Type, PyCodeObject, co_firstlineno);
    MEMBER(PyCode_Type, PyCodeObject, co_filename);
    MEMBER(PyCode_Type, PyCodeObject, co_name);
#if PY_VERSION_HEX >= 0x030b0000
    MEMBER(PyCode_Type, PyCodeObject, co_qualname);
#endif
#if PY_VERSION_HEX >= 0x030a0000
    MEMBER(PyCode_Type, PyCodeObject, co_linetable);
#else
    MEMBER(PyCode_Type, PyCodeObject, co_lnotab);
#endif
#if PY_VERSION_HEX < 0x030b0000
    MEMBER(PyFrame_Type, PyFrameObject, f_back);
    MEMBER(PyFrame_Type, PyFrameObject, f_code);
#endif
#if PY_VERSION_HEX < 0x030a0000
    MEMBER(PyFrame_Type, PyFrameObject, f_lasti);
#endif
#endif
    printf("    },\n    .words = {\n");
#if PY_VERSION_HEX >= 0x030b0000
    WORD("PyCode_Type", offsetof(PyTypeObject, tp_basicsize), offsetof(PyCodeObject, co_code_adaptive), "co_code_adaptive");
#endif
#if PY_VERSION_HEX >= 0x030d0000
    size_t cookie = 0;
    memcpy(&cookie, _Py_Debug_Cookie, sizeof(cookie));
    DEBUG_OFFSET(cookie, cookie);
#ifdef Py_GIL_DISABLED
    DEBUG_OFFSET(free_threaded, 1);
#else
    DEBUG_OFFSET(free_threaded, 0);
#endif
    DEBUG_OFFSET(runtime_state.finalizing, offsetof(_PyRuntimeState, _finalizing));
    DEBUG_OFFSET(runtime_state.interpreters_head, offsetof(_PyRuntimeState, interpreters.head));
    DEBUG_OFFSET(interpreter_state.next, offsetof(PyInterpreterState, next));
    DEBUG_OFFSET(interpreter_state.threads_head, offsetof(PyInterpreterState, threads.head));
    DEBUG_OFFSET(thread_state.next, offsetof(PyThreadState, next));
    DEBUG_OFFSET(thread_state.current_frame, offsetof(PyThreadState, current_frame));
    DEBUG_OFFSET(thread_state.thread_id, offsetof(PyThreadState, thread_id));
    DEBUG_OFFSET(interpreter_frame.previous, offsetof(_PyInterpreterFrame, previous));
    DEBUG_OFFSET(interpreter_frame.executable, offsetof(_PyInterpreterFrame, f_executable));
    DEBUG_OFFSET(interpreter_frame.instr_ptr, offsetof(_PyInterpreterFrame, instr_ptr));
    DEBUG_OFFSET(interpreter_frame.owner, offsetof(_PyInterpreterFrame, owner));
    DEBUG_OFFSET(code_object.filename, offsetof(PyCodeObject, co_filename));
    DEBUG_OFFSET(code_object.qualname, offsetof(PyCodeObject, co_qualname));
    DEBUG_OFFSET(code_object.linetable, offsetof(PyCodeObject, co_linetable));
    DEBUG_OFFSET(code_object.firstlineno, offsetof(PyCodeObject, co_firstlineno));
    DEBUG_OFFSET(code_object.co_code_adaptive, offsetof(PyCodeObject, co_code_adaptive));
    DEBUG_OFFSET(pyobject.ob_type, offsetof(PyObject, ob_type));
    DEBUG_OFFSET(bytes_object.ob_size, offsetof(PyVarObject, ob_size));
    DEBUG_OFFSET(bytes_object.ob_sval, offsetof(PyBytesObject, ob_sval));
    DEBUG_OFFSET(unicode_object.state, offsetof(PyASCIIObject, state));
    DEBUG_OFFSET(unicode_object.length, offsetof(PyASCIIObject, length));
    DEBUG_OFFSET(unicode_object.asciiobject_size, sizeof(PyASCIIObject));
#endif
    printf("    },\n");
}

int main(void)
{
#ifdef Py_GIL_DISABLED
    const char *build = "free-threaded";
#else
    const char *build = "default";
#endif
    printf("// CPython %d.%d, %s build. Made by scripts/layout from the headers of %s; do not edit.\n", PY_MAJOR_VERSION,
           PY_MINOR_VERSION, build, PY_VERSION);
    printf("{\n    .version = {%d, %d, 0},\n    .free_threaded = %d,\n", PY_MAJOR_VERSION, PY_MINOR_VERSION,
           build[0] == 'f');
#if PY_VERSION_HEX >= 0x030e0000
    OFFSET_BEHIND_GIL(4, jit_flag, PyInterpreterState, jit);
#else
    printf("    .jit_flag = MT_NO_FIELD,\n");
#endif
#if PY_VERSION_HEX >= 0x03090000
    printf("    .finalizing = %zu,  // _PyRuntimeState._finalizing\n", offsetof(_PyRuntimeState, _finalizing));
#elif PY_VERSION_HEX >= 0x03070000
    printf("    .finalizing = %zu,  // _PyRuntimeState.finalizing\n", offsetof(_PyRuntimeState, finalizing));
#else
    printf("    .finalizing = MT_NO_FIELD,\n");  // 3.6: _Py_Finalizing, a variable of its own
#endif
    offsets();
    checks();
    printf("}\n");
    return 0;
}
