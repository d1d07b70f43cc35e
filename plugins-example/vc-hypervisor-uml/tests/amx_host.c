/*
 * Wraps ptrace(2) as the kernel of a host whose CPU has AMX answers it: the extended registers take 11008 bytes, a shorter
 * area can be read but not be set (xstateregs_set in Linux' arch/x86/kernel/fpu/regset.c).
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

enum { AREA = 11008 };

typedef long ptrace_function(enum __ptrace_request request, pid_t pid, void *address, void *data);

static char own[AREA];

static long get(ptrace_function *next, pid_t pid, struct iovec *given)
{
    struct iovec real = {.iov_base = own, .iov_len = sizeof(own)};

    memset(own, 0, sizeof(own));
    if (next(PTRACE_GETREGSET, pid, (void *)NT_X86_XSTATE, &real) == -1)
        return -1;
    if (given->iov_len > AREA)
        given->iov_len = AREA;
    memcpy(given->iov_base, own, given->iov_len);
    return 0;
}

static long set(ptrace_function *next, pid_t pid, struct iovec *given)
{
    struct iovec real = {.iov_base = own, .iov_len = sizeof(own)};

    if (given->iov_len < AREA) {
        errno = EFAULT;
        return -1;
    }
    for (size_t i = 2696; i < AREA; i++) /* AMX is in its initial state */
        if (((char *)given->iov_base)[i] != 0)
            abort();
    if (next(PTRACE_GETREGSET, pid, (void *)NT_X86_XSTATE, &real) == -1)
        return -1;
    memcpy(own, given->iov_base, real.iov_len);
    return next(PTRACE_SETREGSET, pid, (void *)NT_X86_XSTATE, &real);
}

long ptrace(enum __ptrace_request request, ...)
{
    ptrace_function *next = (ptrace_function *)dlsym(RTLD_NEXT, "ptrace");
    va_list arguments;
    pid_t pid;
    void *address, *data;

    va_start(arguments, request);
    pid = va_arg(arguments, pid_t);
    address = va_arg(arguments, void *);
    data = va_arg(arguments, void *);
    va_end(arguments);
    if (address == (void *)NT_X86_XSTATE && request == PTRACE_GETREGSET)
        return get(next, pid, data);
    if (address == (void *)NT_X86_XSTATE && request == PTRACE_SETREGSET)
        return set(next, pid, data);
    return next(request, pid, address, data);
}
