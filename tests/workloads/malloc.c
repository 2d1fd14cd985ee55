// SPDX-License-Identifier: Apache-2.0
// Calls malloc, says so, and waits. With OWN_MALLOC it has an allocator of its own, which it exports as jemalloc does;
// with BARE it begins without the help of a C library.
#include <unistd.h>

void *malloc(size_t size);

#ifdef OWN_MALLOC
static char heap[4096];
void *malloc(size_t size) {
    return size <= sizeof(heap) ? heap : 0;
}
int mallctl(void) {
    return 0;
}
#endif

#ifdef BARE
void _start(void)
#else
int main(void)
#endif
{
    void *volatile block = malloc(100);
    write(1, block ? "y" : "n", 1);
    for (;;)
        pause();
}
