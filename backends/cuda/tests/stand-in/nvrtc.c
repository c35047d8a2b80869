// A stand-in for NVRTC, CUDA's run-time compiler: it compiles kernels for this processor, with g++
// and the headers in include/, which say in C++ what CUDA's own mean. What it gives for PTX is the
// path of a library that the stand-in for the driver (driver.c) loads and runs.
//
// Libraries are kept in images/ beside this one's folder, each under the digest of its source. What no
// processor understands, as PTX in the source, is an error of compilation, as it is of NVRTC's for
// a GPU that lacks an instruction: CubeCL then takes another kernel where it has one.
//
// STAND_IN_LOG (environment) says what is compiled, and why what is not.
//
// Functions as in NVIDIA's "NVRTC" manual; only those that are called.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "image.h"

enum { SUCCESS = 0, COMPILATION = 6 }; // nvrtcResult

typedef struct {
    char *source;
    char ptx[PATH_MAX + sizeof IMAGE];
    char *log;
} Program;

extern char **environ;

// The folder that build.sh made, in whose lib/ this library lies.
static const char *folder(void) {
    static char path[PATH_MAX];
    Dl_info here;
    if (!*path && dladdr((void *)folder, &here) && realpath(here.dli_fname, path)) {
        *strrchr(path, '/') = 0;
        *strrchr(path, '/') = 0;
    }
    return path;
}

// The name of the kernel, which stands behind `__global__ void` and its bounds; null without one.
static char *kernel_name(const char *source) {
    const char *at = strstr(source, "__global__ void");
    at = at ? at + strlen("__global__ void") : "";
    for (;;) {
        at += strspn(at, " \n\t");
        size_t length = strcspn(at, " (\n\t");
        if (!length) return NULL;
        int bounds = !strncmp(at, "__launch_bounds__", strlen("__launch_bounds__")) ||
                     !strncmp(at, "__cluster_dims__", strlen("__cluster_dims__"));
        if (!bounds) return strndup(at, length);
        at += strcspn(at, ")");
        at += *at == ')';
    }
}

static char *read_text(const char *path) {
    FILE *file = fopen(path, "r");
    char *text = NULL;
    size_t size = 0;
    if (!file || getdelim(&text, &size, 0, file) < 0) text = strdup("");
    if (file) fclose(file);
    return text;
}

// The product of tensor cores that is written as an instruction of theirs: a function of ours in its
// place, whose parameters have the names that CubeCL gives them.
static char *with_products(const char *source) {
    static const char SIGN[] =
        "asm volatile(\"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32\"";
    static const char OURS[] =
        "stand_in::multiply_bf16({reg_a_0, reg_a_1, reg_a_2, reg_a_3}, {reg_b_0, reg_b_1},\n"
        "    {reg_c_0, reg_c_1, reg_c_2, reg_c_3}, {&reg_d_0, &reg_d_1, &reg_d_2, &reg_d_3});";
    char *text = strdup(source), *at;
    while ((at = strstr(text, SIGN))) {
        char *end = strstr(at, ");"), *whole;
        if (!end || asprintf(&whole, "%.*s%s%s", (int)(at - text), text, OURS, end + 2) < 0) abort();
        free(text);
        text = whole;
    }
    return text;
}

// What only a GPU can do: instructions of its own, and copies that go on beside the threads. Found
// here, since there are hundreds of such kernels among those that CubeCL tries for a product, and
// g++ takes its time to refuse one. Null where there is none.
static const char *only_on_a_gpu(const char *source) {
    static const char *const SIGNS[] = {"asm volatile(", "asm(", "<cooperative_groups.h>",
                                        "<cuda/pipeline>", "<cuda/ptx>"};
    for (size_t k = 0; k < sizeof SIGNS / sizeof *SIGNS; k++)
        if (strstr(source, SIGNS[k])) return SIGNS[k];
    return NULL;
}

// Runs g++; whether it made `library`. What it says goes to the file `log`.
static int compile(const char *source, const char *library, const char *log) {
    char include[PATH_MAX + 16], driver[PATH_MAX + 16];
    snprintf(include, sizeof include, "-I%s/include", folder());
    snprintf(driver, sizeof driver, "%s/libcuda.so.1", folder());
    // No sum and product in one, no other order: what is computed is what is written.
    char *arguments[] = {"g++", "-std=c++17", "-O1", "-march=native", "-ffp-contract=off",
                         "-fno-strict-aliasing", "-w", "-shared", "-fPIC", include, "-o",
                         (char *)library, (char *)source, driver, "-lm", NULL};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 2, log, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    pid_t child;
    int status = 1;
    if (!posix_spawnp(&child, "g++", &actions, NULL, arguments, environ))
        waitpid(child, &status, 0);
    posix_spawn_file_actions_destroy(&actions);
    return status == 0;
}

static void write_source(const char *path, const Program *program) {
    char *name = kernel_name(program->source);
    FILE *file = fopen(path, "w");
    if (file) {
        fprintf(file, "%s\n", program->source);
        // The kernel's parameters are C++'s to know; the driver has pointers to what they hold.
        if (name) fprintf(file, "STAND_IN_KERNEL(%s)\n", name);
        fclose(file);
    }
    free(name);
}

// That of the oldest NVRTC that is taken, which no script here fetches: what it makes is never
// mixed up with what NVIDIA's made.
int nvrtcVersion(int *major, int *minor) {
    *major = 12;
    *minor = 0;
    return SUCCESS;
}
int nvrtcCreateProgram(Program **program, const char *source, const char *name, int headers,
                       const char *const *texts, const char *const *names) {
    *program = calloc(1, sizeof **program);
    (*program)->source = with_products(source);
    (*program)->log = strdup("");
    return SUCCESS;
}

int nvrtcCompileProgram(Program *program, int count, const char *const *options) {
    // FNV-1a, twice with other beginnings.
    unsigned long long a = 0xcbf29ce484222325, b = 0x9ae16a3b2f90404f;
    for (const char *c = program->source; *c; c++) {
        a = (a ^ (unsigned char)*c) * 0x100000001b3;
        b = (b ^ (unsigned char)*c) * 0x100000001b3;
    }
    char stem[PATH_MAX], source[PATH_MAX + 8], log[PATH_MAX + 8], library[PATH_MAX + 8];
    char made[PATH_MAX + 32];
    snprintf(stem, sizeof stem, "%s/images", folder());
    mkdir(stem, 0755);
    snprintf(stem, sizeof stem, "%s/images/%016llx%016llx", folder(), a, b);
    snprintf(source, sizeof source, "%s.cpp", stem);
    snprintf(log, sizeof log, "%s.log", stem);
    snprintf(library, sizeof library, "%s.so", stem);
    snprintf(made, sizeof made, "%s.%d", library, getpid());
    snprintf(program->ptx, sizeof program->ptx, IMAGE "%s", library);
    if (!access(library, R_OK)) return SUCCESS;
    free(program->log);
    const char *sign = only_on_a_gpu(program->source);
    if (sign) {
        if (asprintf(&program->log, "no processor has this: %s", sign) < 0) abort();
        return COMPILATION;
    }
    write_source(source, program);
    if (compile(source, made, log)) rename(made, library);
    int whole = !access(library, R_OK);
    program->log = read_text(log);
    if (getenv("STAND_IN_LOG"))
        fprintf(stderr, whole ? "compiled %s\n%s" : "did not compile %s:\n%s", source,
                program->log);
    return whole ? SUCCESS : COMPILATION;
}

int nvrtcGetProgramLogSize(Program *program, size_t *size) {
    *size = strlen(program->log) + 1;
    return SUCCESS;
}
int nvrtcGetProgramLog(Program *program, char *log) {
    strcpy(log, program->log);
    return SUCCESS;
}
int nvrtcGetPTXSize(Program *program, size_t *size) {
    *size = strlen(program->ptx) + 1;
    return SUCCESS;
}
int nvrtcGetPTX(Program *program, char *ptx) {
    strcpy(ptx, program->ptx);
    return SUCCESS;
}
int nvrtcDestroyProgram(Program **program) {
    free((*program)->source);
    free((*program)->log);
    free(*program);
    return SUCCESS;
}
