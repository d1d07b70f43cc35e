/* The host's commands: what each does, and the starts that take their time. */
#ifndef COMMANDS_H
#define COMMANDS_H

#include "process.h"

enum code {
	GETVERSION = 0,
	STARTPOD = 1,
	GETPOD = 2,
	DESTROYPOD = 4,
	EXECCMD = 6,
	READY = 8,
	ACK = 9,
	ERROR = 10,
	WINSIZE = 11,
	PING = 12,
	PODFINISHED = 13,
	NEXT = 14,
	WRITEFILE = 15,
	READFILE = 16,
	NEWCONTAINER = 17,
	KILLCONTAINER = 18,
	ONLINECPUMEM = 19,
	SETUPINTERFACE = 20,
	SETUPROUTE = 21,
	REMOVECONTAINER = 22,
	PROCESSASYNCEVENT = 23,
	SIGNALPROCESS = 24,
	DELETEINTERFACE = 25,
	HELLO = 4096,
	SIGNAL = 4097,
	STATS = 4098,
};

/* What came of a command. LATER: command_started will say, or the VM powers off. */
enum outcome { DONE, FAILED, LATER };

/* Set by commands: the pod is to end, and the VM with it; the VM ends once the host has its answer, as an original's does
 * when STARTPOD fails. */
extern bool destroying, off_after_answer;

/* Perform a command. DONE: `reply` is what its ACK carries. FAILED: `failure` says why; a host that did not say HELLO
 * gets `reply` instead. */
enum outcome command_perform(uint32_t code, const uint8_t *payload, size_t length, struct buffer *reply);

/* A start is under way; only one is at a time, so no other command can be performed. */
bool command_waits(void);

/* The start of a process came to its end: what came of the command that waits for it. */
enum outcome command_started(struct process *process);

#endif
