/* The guest agent: pid 1 of the VM. It implements the hyperstart protocol and this project's extensions
 * (docs/reference/guest-protocol.md). */
#include "boot.h"
#include "cgroup.h"
#include "control.h"
#include "dialect.h"
#include "mux.h"
#include "namespaces.h"
#include "phase.h"
#include "pod.h"
#include "root.h"
#include "share.h"
#include "start.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

static struct watch children;

static void child_ended(struct watch *watch, uint32_t events)
{
	struct signalfd_siginfo ignored[8];
	int status;

	(void)events;
	while (read(watch->fd, ignored, sizeof ignored) > 0)
		;
	for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
		pod_reaped(pid, status);
}

static void crashed(int signal_number)
{
	fatal("guest agent: died of signal %d", signal_number);
}

static void watch_signals(void)
{
	static const int deadly[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
	sigset_t wanted;

	for (size_t i = 0; i < COUNT(deadly); i++)
		signal(deadly[i], crashed);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&wanted);
	sigaddset(&wanted, SIGCHLD);
	sigprocmask(SIG_BLOCK, &wanted, NULL);
	children = (struct watch){.fd = signalfd(-1, &wanted, SFD_NONBLOCK | SFD_CLOEXEC), .ready = child_ended};
	if (children.fd < 0 || !loop_watch(&children, EPOLLIN))
		fatal("guest agent: cannot wait for children: %s", strerror(errno));
}

static void turn(void)
{
	mux_turn();
	control_turn();
}

int main(void)
{
	struct port control, stream;
	int64_t begun;

	if (getpid() != 1) {
		static const char text[] = "this is the first process of a virtual machine\n";

		return write(2, text, sizeof text - 1) < 0 ? 2 : 1;
	}
	begun = phase_clock();
	phase_init();
	phase_end("kernel", 0);
	boot();
	loop_init();
	watch_signals();
	root_init();
	cgroup_init();
	share_init();
	namespaces_init();
	boot_open_channels(&control, &stream);
	dialect_init();
	start_init(control_started);
	control_init(control);
	mux_init(stream, control_ended);
	phase_end("start of the agent", begun);
	turn(); /* sends READY: the host goes on meanwhile */
	pod_prepare(); /* if it fails, the start of the pod tries it again, and reports the failure */
	loop_run(turn);
}
