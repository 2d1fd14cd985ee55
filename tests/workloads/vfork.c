// SPDX-License-Identifier: Apache-2.0
// A thread that nothing can stop: it waits for its child to exec or end, which the child does after a while.
#include <unistd.h>

void wait_for_child(unsigned seconds) {
    if (vfork() == 0) {
        sleep(seconds);
        _exit(0);
    }
}
