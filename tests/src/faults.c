/* faults FOLDER PROGRAM ARGUMENT...
 *
 * Runs a program whose pread64, pwrite64 and fdatasync fail while FOLDER says so: a file there with the call's name holds an error number
 * and a part of the paths that it is for, e.g. "5 /log/" in the file "fdatasync". Without the file, the kernel does what it always does.
 *
 * A seccomp filter sends these calls to this process, the parent, which looks and answers. So also calls that pass libc by are met, on any
 * file system, and without being root.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void die(const char *what) {
    perror(what);
    exit(111);
}

static int install(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_pread64, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_pwrite64, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_fdatasync, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) die("no_new_privs");
    int listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    if (listener < 0) die("seccomp");
    return listener;
}

static const char *name_of(int nr) {
    return nr == __NR_pread64 ? "pread64" : nr == __NR_pwrite64 ? "pwrite64" : "fdatasync";
}

/* The error that a call shall have; 0: none. */
static int fault(int folder, const struct seccomp_notif *call) {
    char rule[256] = "", link[64], path[4096] = "";
    int file = openat(folder, name_of(call->data.nr), O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t length = read(file, rule, sizeof rule - 1);
    close(file);
    char *part = length > 0 ? strchr(rule, ' ') : NULL;
    if (!part) return 0;
    snprintf(link, sizeof link, "/proc/%u/fd/%d", call->pid, (int)call->data.args[0]);
    if (readlink(link, path, sizeof path - 1) < 0) return 0;
    return strstr(path, part + 1) ? atoi(rule) : 0;
}

static void answer(int listener, int folder) {
    for (;;) {
        struct seccomp_notif call = {0};
        struct pollfd waiting = {listener, POLLIN, 0};
        if (poll(&waiting, 1, -1) < 0 && errno == EINTR) continue;
        if (!(waiting.revents & POLLIN)) return; /* nobody is left who could call */
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call)) continue;
        struct seccomp_notif_resp response = {.id = call.id, .error = -fault(folder, &call)};
        if (!response.error) response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response); /* fails if the caller was killed meanwhile */
    }
}

int main(int count, char **words) {
    int up[2], down[2], listener, status;
    if (count < 3) return 111;
    int folder = open(words[1], O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    if (folder < 0) die(words[1]);
    if (pipe2(up, O_CLOEXEC) || pipe2(down, O_CLOEXEC)) die("pipe");
    pid_t parent = getpid(), child = fork();
    if (child < 0) die("fork");
    if (child == 0) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent) die("the parent is gone");
        listener = install();
        /* The parent takes its own copy before the program begins. */
        if (write(up[1], &listener, sizeof listener) < 0 || read(down[0], &status, 1) != 1) die("the parent is gone");
        execv(words[2], words + 2);
        die(words[2]);
    }
    /* Signals are for the program; it gets them too, as one of the group. */
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    if (read(up[0], &listener, sizeof listener) != sizeof listener) die("the child is gone");
    int process = syscall(SYS_pidfd_open, child, 0);
    listener = syscall(SYS_pidfd_getfd, process, listener, 0);
    if (listener < 0) die("pidfd_getfd");
    if (write(down[1], "", 1) != 1) die("the child is gone");
    answer(listener, folder);
    if (waitpid(child, &status, 0) < 0) die("waitpid");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
