/*
 * Two processes with different values in the widest registers that the CPU has for all programs (AVX, else SSE), taking
 * turns. Prints a line if both keep theirs. It is the first process of its guest.
 */

#include <immintrin.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TURNS = 2000 };

__attribute__((target("avx"))) static int kept_avx(int value)
{
    for (int turn = 0; turn < TURNS; turn++) {
        int result;
        unsigned char after[32], before[32];

        memset(before, value, sizeof(before));
        asm volatile("vmovdqu %2, %%ymm7\n\tsyscall\n\tvmovdqu %%ymm7, %1"
                     : "=a"(result), "=m"(after)
                     : "m"(before), "0"(24) /* sched_yield */
                     : "rcx", "r11", "xmm7", "memory");
        if (memcmp(before, after, sizeof(after)) != 0)
            return 0;
    }
    return 1;
}

static int kept_sse(int value)
{
    for (int turn = 0; turn < TURNS; turn++) {
        int result;
        unsigned char after[16], before[16];

        memset(before, value, sizeof(before));
        asm volatile("movdqu %2, %%xmm7\n\tsyscall\n\tmovdqu %%xmm7, %1"
                     : "=a"(result), "=m"(after)
                     : "m"(before), "0"(24)
                     : "rcx", "r11", "xmm7", "memory");
        if (memcmp(before, after, sizeof(after)) != 0)
            return 0;
    }
    return 1;
}

static int kept(int value)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx") ? kept_avx(value) : kept_sse(value);
}

int main(void)
{
    pid_t child = fork();
    int own, status = 0;

    if (child == 0)
        _exit(kept(0x55) ? 0 : 1);
    own = kept(0xaa);
    waitpid(child, &status, 0);
    puts(own && status == 0 ? "the registers were kept" : "registers were lost");
    fflush(stdout);
    reboot(RB_POWER_OFF);
    return 0;
}
