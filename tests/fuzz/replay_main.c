/* Runs a fuzz target without libFuzzer: on the empty input, on every file of the directories given,
 * and on cut and bit-flipped copies of each, always the same ones. A directory that is not there
 * counts as empty; the exit code is 0 unless a file cannot be read (the target aborts by itself).
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_INPUT_BYTES = 1 << 20,
    MAX_COPIES = 256, /* of each kind, per file: keeps the replay within seconds */
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* On a heap block of just that size, so that a sanitizer sees a read behind the end. */
static void run_copy(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);

    if (!copy)
        abort();
    if (size > 0)
        memcpy(copy, data, size);
    (void)LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static size_t run_with_mutations(uint8_t *data, size_t size)
{
    size_t step = size / MAX_COPIES + 1;
    size_t n_runs = 1;

    run_copy(data, size);
    for (size_t i = 0; i < size; i += step) {
        uint8_t mask = (uint8_t)(1u << (i % 8));

        run_copy(data, i);
        data[i] ^= mask;
        run_copy(data, size);
        data[i] ^= mask;
        n_runs += 2;
    }
    return n_runs;
}

static int run_file(const char *path, size_t *n_runs)
{
    int status = -1;
    size_t size;
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(MAX_INPUT_BYTES);

    if (!file || !data) {
        fprintf(stderr, "cannot read %s\n", path);
        goto out;
    }
    size = fread(data, 1, MAX_INPUT_BYTES, file);
    if (ferror(file)) {
        fprintf(stderr, "cannot read %s\n", path);
        goto out;
    }
    *n_runs += run_with_mutations(data, size);
    status = 0;
out:
    free(data);
    if (file)
        fclose(file);
    return status;
}

static int run_directory(const char *path, size_t *n_files, size_t *n_runs)
{
    int status = 0;
    struct dirent *entry;
    DIR *directory = opendir(path);

    if (!directory)
        return 0;
    while (status == 0 && (entry = readdir(directory))) {
        char name[4096];

        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        status = run_file(name, n_runs);
        ++*n_files;
    }
    closedir(directory);
    return status;
}

int main(int argc, char **argv)
{
    size_t n_files = 0;
    size_t n_runs = 1;
    int status = 0;

    run_copy(NULL, 0);
    for (int i = 1; i < argc && status == 0; i++)
        status = run_directory(argv[i], &n_files, &n_runs);
    printf("%zu files, %zu runs\n", n_files, n_runs);
    return status == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
