/* The init to compare with: says one line on the console, then starts /bin/busybox true for each byte that arrives on a
 * virtio-serial port, and answers with a byte when it ended. For the byte "q" it powers off. Nothing else. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void load_modules(void)
{
    char line[512];
    FILE *list = fopen("/lib/modules/load", "r");

    while (list && fgets(line, sizeof line, list)) {
        line[strcspn(line, "\n")] = 0;
        int fd = open(line, O_RDONLY);
        syscall(SYS_finit_module, fd, "", 0);
        close(fd);
    }
}

static int open_port(void)
{
    for (;;) {
        DIR *dev = opendir("/dev");
        for (struct dirent *entry; (entry = readdir(dev));) {
            char path[300];
            snprintf(path, sizeof path, "/dev/%s", entry->d_name);
            if (!strncmp(entry->d_name, "vport", 5)) {
                closedir(dev);
                return open(path, O_RDWR);
            }
        }
        closedir(dev);
        usleep(1000);
    }
}

int main(void)
{
    mount("devtmpfs", "/dev", "devtmpfs", 0, 0);
    int console = open("/dev/ttyS0", O_WRONLY);
    write(console, "bare init\n", 10);
    load_modules();
    int port = open_port();
    write(port, "R", 1);
    for (char byte;;) {
        if (read(port, &byte, 1) != 1) {
            usleep(1000);
            continue;
        }
        if (byte == 'q') {
            sync();
            reboot(RB_POWER_OFF);
        }
        pid_t child = fork();
        if (child == 0) {
            execl("/bin/busybox", "true", (char *)0);
            _exit(127);
        }
        waitpid(child, 0, 0);
        write(port, "D", 1);
    }
}
