/*
 * Wraps ptrace(2) for a User Mode Linux older than 6.13 on a CPU with AMX; hatch_build.py compiles it to a library that
 * the driver preloads there (registers.py).
 *
 * That kernel has room for 2696 bytes of a process' extended registers (the XSAVE area; HOST_FP_SIZE in
 * arch/x86/um/user-offsets.c). PTRACE_GETREGSET truncates the area to that, but PTRACE_SETREGSET takes only a whole one
 * (xstateregs_set in arch/x86/kernel/fpu/regset.c) and fails with EFAULT where AMX makes it 11008 bytes. What lies
 * beyond the 2696 bytes is AMX' alone. Linux gives it to a process that asks with arch_prctl(ARCH_REQ_XCOMP_PERM), which
 * no process of a guest can: the guest's kernel answers its system calls. So it is in its initial state, which the header
 * of the area (XSTATE_BV) states, and zeros complete the area without loss.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

/* Bytes: XSAVE areas that there are take 11008; the rest is for CPUs to come. */
enum { AREA_MAX = 65536 };

/* XSTATE_BV: the components of the area that are not in their initial state; AMX has 17 and 18 (Intel SDM 1, 13.4). */
enum { XSTATE_BV_OFFSET = 512 };
static const uint64_t AMX = 3ULL << 17;

typedef long ptrace_function(enum __ptrace_request request, pid_t pid, void *address, void *data);

/* User Mode Linux without SMP calls this from one thread of each of its processes. */
static char area[AREA_MAX] __attribute__((aligned(64)));

static long set_whole_area(ptrace_function *next, pid_t pid, const struct iovec *given)
{
    struct iovec whole = {.iov_base = area, .iov_len = sizeof(area)};
    uint64_t in_use;

    if (next(PTRACE_GETREGSET, pid, (void *)NT_X86_XSTATE, &whole) == -1)
        return -1;
    if (given->iov_len >= whole.iov_len) {
        whole = *given;
    } else {
        memcpy(area, given->iov_base, given->iov_len);
        memset(area + given->iov_len, 0, whole.iov_len - given->iov_len);
        memcpy(&in_use, area + XSTATE_BV_OFFSET, sizeof(in_use));
        if (in_use & AMX) { /* registers would be lost: fail as without this library */
            errno = EFAULT;
            return -1;
        }
    }
    return next(PTRACE_SETREGSET, pid, (void *)NT_X86_XSTATE, &whole);
}

long ptrace(enum __ptrace_request request, ...)
{
    static ptrace_function *next;
    va_list arguments;
    pid_t pid;
    void *address, *data;

    if (next == NULL)
        next = (ptrace_function *)dlsym(RTLD_NEXT, "ptrace");
    va_start(arguments, request);
    pid = va_arg(arguments, pid_t);
    address = va_arg(arguments, void *);
    data = va_arg(arguments, void *);
    va_end(arguments);
    if (request == PTRACE_SETREGSET && address == (void *)NT_X86_XSTATE)
        return set_whole_area(next, pid, data);
    return next(request, pid, address, data);
}
