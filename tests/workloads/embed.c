// A program that is not Python, and runs some in it later: waits for a line, loads libpython, runs the file given.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static void *need(void *library, const char *name)
{
    void *found = library ? dlsym(library, name) : NULL;
    if (!found) {
        fprintf(stderr, "embed: %s\n", dlerror());
        exit(1);
    }
    return found;
}

int main(int argc, char **argv)
{
    char line[16];
    if (argc != 2) {
        fprintf(stderr, "usage: embed FILE\n");
        return 2;
    }
    puts("ready");
    fflush(stdout);
    if (!fgets(line, sizeof(line), stdin))
        return 1;
    void *python = dlopen("libpython3.11.so.1.0", RTLD_NOW | RTLD_GLOBAL);
    void (*initialize)(int) = need(python, "Py_InitializeEx");
    int (*run)(FILE *, const char *, int, void *) = need(python, "PyRun_SimpleFileExFlags");
    initialize(0);
    FILE *file = fopen(argv[1], "r");
    return file ? run(file, argv[1], 1, NULL) : 1;
}
