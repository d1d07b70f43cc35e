/* What the launcher reports to the process that started it: lines on one socket, which QEMU does not get. */
#ifndef REPORT_H
#define REPORT_H

extern int report_fd;

/* "note TEXT": QEMU starts, but with less than was asked for. */
void note(const char *format, ...) __attribute__((__format__(__printf__, 1, 2)));

/* "error TEXT", with the meaning of errno; QEMU does not start. Ends this process. */
_Noreturn void fail(const char *format, ...) __attribute__((__format__(__printf__, 1, 2)));

/* "unusable TEXT": QEMU cannot be executed, whatever the jail. Ends this process. */
_Noreturn void unusable(const char *format, ...) __attribute__((__format__(__printf__, 1, 2)));

/* A file of the host cannot be opened: `unusable` if it is not there or not accessible, else like `fail`. */
_Noreturn void missing(const char *path);

/* Any other line. */
void report(const char *format, ...) __attribute__((__format__(__printf__, 1, 2)));

#endif
