/* A thread without Python, as extension modules have. It does what it is told, one letter at a time, and says when it is
 * done. fill_left and fill_right differ in nothing but their addresses and sizes: memset is called from one depth. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB (1 << 20)

static void *map(size_t size)
{
    return mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

__attribute__((noinline)) char *fill_left(void)
{
    return memset(map(4 * MIB), 1, 4 * MIB);
}

__attribute__((noinline)) char *fill_right(void)
{
    return memset(map(2 * MIB), 2, 2 * MIB);
}

/* By its own instructions. */
__attribute__((noinline)) char *fill_itself(void)
{
    volatile char *memory = map(3 * MIB);
    for (size_t at = 0; at < 3 * MIB; at += 4096)
        memory[at] = 3;
    return (char *)memory;
}

/* Deeper in the library: malloc asks the kernel, and touches the block's header. */
__attribute__((noinline)) char *fill_heap(void)
{
    char *memory = 0;
    for (int block = 0; block < 40; block++) {
        memory = malloc(100000);
        memset(memory, 4, 100000);
    }
    return memory;
}

__attribute__((noinline)) char *let_go(char *memory, size_t size)
{
    munmap(memory, size);
    return 0;
}

struct pipes {
    int in, out;
};

static void *obey(void *argument)
{
    struct pipes *pipes = argument;
    char letter, *left = 0;
    while (read(pipes->in, &letter, 1) == 1) {
        switch (letter) {
        case 'l':
            left = fill_left();
            break;
        case 'r':
            fill_right();
            break;
        case 'i':
            fill_itself();
            break;
        case 'h':
            fill_heap();
            break;
        case 'u':
            left = let_go(left, 4 * MIB);
            break;
        }
        if (write(pipes->out, &letter, 1) != 1)
            break;
    }
    return left;
}

__attribute__((visibility("default"))) int start_thread(int in, int out)
{
    struct pipes *pipes = malloc(sizeof(*pipes));
    pthread_t thread;
    pipes->in = in;
    pipes->out = out;
    return pthread_create(&thread, 0, obey, pipes);
}
