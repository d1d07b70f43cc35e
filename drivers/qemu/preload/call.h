/* System calls without a libc: the same library serves a QEMU of any. The names that it defines are those by which QEMU's
 * code calls its libc. */
#ifndef CALL_H
#define CALL_H

int *__errno_location(void); /* of the libc that QEMU is linked with: the one name that this library needs */

/* Make a system call; the result is negative for an error. */
static inline long system_call(long number, long first, long second, long third, long fourth)
{
#if defined(__x86_64__)
	register long last __asm__("r10") = fourth;
	long result;
	__asm__ volatile("syscall"
	                 : "=a"(result)
	                 : "a"(number), "D"(first), "S"(second), "d"(third), "r"(last)
	                 : "rcx", "r11", "memory");
	return result;
#elif defined(__aarch64__)
	register long call __asm__("x8") = number, one __asm__("x0") = first, two __asm__("x1") = second;
	register long three __asm__("x2") = third, four __asm__("x3") = fourth;
	__asm__ volatile("svc 0" : "+r"(one) : "r"(call), "r"(two), "r"(three), "r"(four) : "memory");
	return one;
#else
#error "the system call is not written for this architecture"
#endif
}

/* Return the result of a call as libc does. */
static inline int returned(long result)
{
	if (result >= 0)
		return (int)result;
	*__errno_location() = (int)-result;
	return -1;
}

enum { AT_CWD = -100, CREATE = 0100 }; /* fcntl.h */

#if defined(__x86_64__)
enum { OPENAT = 257, MKDIRAT = 258, MKNODAT = 259, FCHMODAT = 268, FCHMOD = 91, FSTATAT = 262, FCNTL = 72 };
#elif defined(__aarch64__)
enum { OPENAT = 56, MKDIRAT = 34, MKNODAT = 33, FCHMODAT = 53, FCHMOD = 52, FSTATAT = 79, FCNTL = 25 };
#endif

#endif
