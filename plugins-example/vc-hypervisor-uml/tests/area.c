/* Prints how many bytes of extended registers (NT_X86_XSTATE) a process of this host has. */

#include <elf.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
    static char area[65536];
    struct iovec whole = {.iov_base = area, .iov_len = sizeof(area)};
    pid_t child = fork();

    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    if (ptrace(PTRACE_GETREGSET, child, (void *)NT_X86_XSTATE, &whole) == -1)
        return 1;
    printf("%zu\n", whole.iov_len);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return 0;
}
