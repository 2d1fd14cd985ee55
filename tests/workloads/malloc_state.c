/* Makes a mess of the C heap, and says what the C library says of it. Loaded into Pythons of several Debians: it needs
 * nothing newer than the oldest one's C library, so that newer functions are passed in. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct mallinfo_2 { /* struct mallinfo2, glibc 2.33 */
    size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
};

/* Blocks of many sizes, most of them freed again, in whatever arena the thread has. */
void make_a_mess(unsigned seed)
{
    static __thread char *blocks[4000];
    for (int i = 0; i < 4000; i++) {
        size_t size = (seed = seed * 1103515245 + 12345) / 65536 % (i % 10 ? 900 : 9000) + 1;
        blocks[i] = memset(malloc(size), 1, size);
    }
    for (int i = 0; i < 4000; i++)
        if ((seed = seed * 1103515245 + 12345) / 65536 % 5)
            free(blocks[i]);
    free(malloc(300000)); /* a mapping of its own: the threshold moves */
    memset(malloc(2000000), 1, 2000000);
}

static void print(const char *format, const size_t *values)
{
    static char text[500];
    int length = snprintf(text, sizeof(text), format, values[0], values[1], values[2], values[3], values[4], values[6],
                          values[7], values[8], values[9]);
    if (write(1, text, length) != length)
        _exit(1);
}

/* Prints mallinfo2() as JSON, reads a byte, and then, with `trim`, calls malloc_trim(0); for ever. Nothing is allocated. */
void report_and_wait(struct mallinfo_2 (*info2)(void), int trim)
{
    char byte;
    for (;;) {
        size_t values[10];
        if (info2) {
            struct mallinfo_2 info = info2();
            memcpy(values, &info, sizeof(values));
        } else {
            struct mallinfo info = mallinfo();
            const int *numbers = &info.arena;
            for (int i = 0; i < 10; i++)
                values[i] = numbers[i];
        }
        print("{\"arena\": %zu, \"ordblks\": %zu, \"smblks\": %zu, \"hblks\": %zu, \"hblkhd\": %zu, \"fsmblks\": %zu, "
              "\"uordblks\": %zu, \"fordblks\": %zu, \"keepcost\": %zu}\n",
              values);
        if (read(0, &byte, 1) != 1)
            _exit(0);
        if (trim)
            malloc_trim(0);
    }
}
