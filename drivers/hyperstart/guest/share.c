#include "share.h"

#include "boot.h"
#include "dialect.h"
#include "kernel.h"
#include "phase.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* The value of vc.share.TAG for a directory that User Mode Linux mounts instead of 9p: this prefix and a path. */
#define HOSTFS "hostfs:"

static struct {
	const char *path;
	const char *tag; /* "" if the pod has none */
	bool mounted;
} shares[] = {
	[SHARE_ROOTS] = {"/run/vc/share", "", false},
	[SHARE_LIVE] = {"/run/vc/live", "", false},
	[SHARE_WRITABLE] = {"/run/vc/writable", "", false},
	[SHARE_WRITTEN_ROOTS] = {"/run/vc/roots", "", false},
};

void share_init(void)
{
	for (size_t i = 0; i < COUNT(shares); i++)
		if (mkdir(shares[i].path, 0755) && errno != EEXIST)
			fatal("guest agent: mkdir %s: %s", shares[i].path, strerror(errno));
}

void share_offer(const struct pod_spec *pod)
{
	shares[SHARE_ROOTS].tag = pod->share;
	shares[SHARE_LIVE].tag = pod->live;
	shares[SHARE_WRITABLE].tag = pod->writable;
	shares[SHARE_WRITTEN_ROOTS].tag = pod->written_roots;
}

static unsigned long flags_of(enum share share)
{
	return MS_NODEV | (extended && share < SHARE_WRITABLE ? MS_RDONLY : 0);
}

bool share_mount(enum share share)
{
	const char *options = extended && share == SHARE_ROOTS ? "trans=virtio,version=9p2000.L,msize=262144,cache=loose"
	                                                       : "trans=virtio,version=9p2000.L,msize=262144,cache=mmap";
	int64_t begun = phase_clock();
	const char *path = shares[share].path, *tag = shares[share].tag, *given = boot_option("share", tag);

	if (shares[share].mounted)
		return true;
	if (!*tag)
		return fail("the pod was started without a directory for this");
	if (given && !strncmp(given, HOSTFS, strlen(HOSTFS)))
		shares[share].mounted = !mount(tag, path, "hostfs", flags_of(share), given + strlen(HOSTFS));
	else
		shares[share].mounted = !mount(tag, path, "9p", flags_of(share), options);
	phase_end("mount a shared directory", begun);
	return shares[share].mounted || fail("mount of the shared directory '%s': %s", tag, strerror(errno));
}

void share_unmount_all(void)
{
	for (size_t i = 0; i < COUNT(shares); i++) {
		if (shares[i].mounted && umount2(shares[i].path, MNT_DETACH))
			console("guest agent: unmounting %s: %s", shares[i].path, strerror(errno));
		shares[i].mounted = false;
		shares[i].tag = "";
	}
}

enum share share_of(const struct mapping *mapping)
{
	if (mapping->writable)
		return SHARE_WRITABLE;
	return *shares[SHARE_LIVE].tag ? SHARE_LIVE : SHARE_ROOTS;
}

void share_forget_names(void)
{
	/* A remount drops the names that are not in use. */
	if (shares[SHARE_ROOTS].mounted &&
	    mount(NULL, shares[SHARE_ROOTS].path, NULL, MS_REMOUNT | flags_of(SHARE_ROOTS), NULL))
		console("guest agent: remounting %s: %s", shares[SHARE_ROOTS].path, strerror(errno));
}

int share_open(enum share share, const char *what, const char *path)
{
	int directory = open(shares[share].path, O_PATH | O_CLOEXEC);
	int found = open_path(directory, path, RESOLVE_BENEATH_);

	if (found < 0)
		fail(errno == EXDEV ? "%s '%s' leads out of the shared directory" : "%s '%s' in the shared directory: %s",
		     what, path, strerror(errno));
	close(directory);
	return found;
}
