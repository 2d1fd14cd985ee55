// SPDX-License-Identifier: Apache-2.0
// walk_threads PID PTHREAD_SELF...          prints the Python stacks of a process's threads, as the walker sees them
// walk_threads --record FILE NAME PID PTHREAD_SELF   and writes one thread's to a file, as images/ has them
//
// A stack is a line of JSON: the frames as "file:line function", innermost first.
#include <fmt/core.h>

#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "image.h"
#include "process/find_python.h"

using namespace memtrace;

namespace {

int record(const std::string &file, const std::string &name, const FoundPython &python, uint64_t self,
           const RemoteMemory &memory) {
    RecordingMemory recording(memory);
    ThreadImage image;
    image.stack = walk_thread(python.runtime, self, recording).stack;
    image.interpreter = name;
    image.version = {python.version.major, python.version.minor, 0};
    image.free_threaded = python.free_threaded;
    image.runtime = python.runtime.runtime;
    image.code_type = python.runtime.code_type;
    image.self = self;
    image.pieces = recording.pieces();
    std::ofstream(file) << image.to_json();
    return image.stack.empty();
}

}  // namespace

int main(int argc, char **argv) {
    std::vector<std::string> words(argv + 1, argv + argc);
    std::string file, name;
    if (words.size() == 5 && words[0] == "--record") {
        file = words[1];
        name = words[2];
        words.erase(words.begin(), words.begin() + 3);
    }
    if (words.size() < 2) {
        std::cerr << "usage: walk_threads [--record FILE NAME] PID PTHREAD_SELF...\n";
        return 2;
    }
    int pid = std::stoi(words[0]);
    auto python = find_python(pid);
    if (!python || python->runtime.state != MT_PYTHON_READY) {
        std::cerr << "walk_threads: " << (python ? python->refusal : "no Python") << "\n";
        return 1;
    }
    ProcessMemory memory(pid);
    if (!file.empty())
        return record(file, name, *python, std::stoull(words[1]), memory);
    for (size_t i = 1; i < words.size(); i++)
        std::cout << nlohmann::json(walk_thread(python->runtime, std::stoull(words[i]), memory).stack).dump() << "\n";
}
