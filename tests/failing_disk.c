/* Preloaded into a broker, makes its disk small or defective as a control file says, which the test writes to.

   The system calls that change regular files are caught by a seccomp filter, whoever makes them, and done here. What this
   file does itself passes the filter by a mark in the sixth argument, which none of these calls uses.

   ONCELOG_FAILING_DISK names the control file: five 64-bit numbers, see `struct control`. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#define MARK 0x6f6e6365 /* "once" */

struct control {
    _Atomic int64_t room;          /* files may grow by so many bytes; negative: as they like */
    _Atomic int64_t longest_write; /* a call writes no more bytes than this; 0: all */
    _Atomic int64_t good_writes;   /* so many more writes succeed, then all fail; negative: all succeed */
    _Atomic int64_t bad_truncates; /* not 0: files cannot be cut */
    _Atomic int64_t bad_syncs;     /* not 0: nothing can be synced */
};

static struct control *control;

static long pass(long number, long a, long b, long c, long d, long e) {
    long result = syscall(number, a, b, c, d, e, MARK);
    return result < 0 ? -errno : result;
}

/* The size of a regular file, or -1. */
static int64_t size_of(int file) {
    struct stat stat;
    return fstat(file, &stat) == 0 && S_ISREG(stat.st_mode) ? stat.st_size : -1;
}

static long write_at(int file, const struct iovec *parts, long count, int64_t at) {
    int64_t size = size_of(file), length = 0;
    for (long i = 0; i < count; i++) length += parts[i].iov_len;
    if (size < 0) return pass(SYS_pwritev, file, (long)parts, count, at, 0);
    if (control->good_writes == 0) return -EIO;
    if (control->good_writes > 0) control->good_writes--;
    int64_t most = length, room = control->room;
    if (control->longest_write > 0 && most > control->longest_write) most = control->longest_write;
    if (room >= 0) {
        int64_t growth = at + most > size ? at + most - size : 0;
        if (growth > room) most -= growth - room, growth = room;
        if (most <= 0 && length > 0) return -ENOSPC;
        control->room -= growth;
    }
    long done = 0;
    for (long i = 0; i < count && done < most; i++) {
        int64_t rest = most - done, part = (int64_t)parts[i].iov_len < rest ? (int64_t)parts[i].iov_len : rest;
        long written = pass(SYS_pwrite64, file, (long)parts[i].iov_base, part, at + done, 0);
        if (written < 0) return done > 0 ? done : written;
        done += written;
    }
    return done;
}

static long cut(int file, int64_t length) {
    int64_t size = size_of(file);
    if (control->bad_truncates) return -EIO;
    long result = pass(SYS_ftruncate, file, length, 0, 0, 0);
    if (result == 0 && control->room >= 0 && size > length) control->room += size - length;
    return result;
}

static long allocate(int file, long mode, int64_t at, int64_t length) {
    int64_t growth = at + length - size_of(file);
    if (control->room >= 0 && growth > control->room) return -ENOSPC;
    long result = pass(SYS_fallocate, file, mode, at, length, 0);
    if (result == 0 && control->room >= 0 && growth > 0) control->room -= growth;
    return result;
}

static long remove_file(const char *path) {
    struct stat stat;
    int64_t size = lstat(path, &stat) == 0 ? stat.st_size : 0;
    long result = pass(SYS_unlink, (long)path, 0, 0, 0, 0);
    if (result == 0 && control->room >= 0) control->room += size;
    return result;
}

static void caught(int signal, siginfo_t *info, void *context) {
    (void)signal;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    long a = registers[REG_RDI], b = registers[REG_RSI], c = registers[REG_RDX], d = registers[REG_R10];
    int saved = errno;
    struct iovec whole = {(void *)b, c};
    long result = -ENOSYS;
    switch (info->si_syscall) {
    case SYS_pwritev: result = write_at(a, (struct iovec *)b, c, d); break;
    case SYS_pwrite64: result = write_at(a, &whole, 1, d); break;
    case SYS_ftruncate: result = cut(a, b); break;
    case SYS_fallocate: result = allocate(a, b, c, d); break;
    case SYS_unlink: result = remove_file((const char *)a); break;
    case SYS_fsync:
    case SYS_fdatasync: result = control->bad_syncs ? -EIO : pass(info->si_syscall, a, 0, 0, 0, 0); break;
    }
    errno = saved;
    registers[REG_RAX] = result;
}

#define CATCH(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP)

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("ONCELOG_FAILING_DISK");
    int file = path ? open(path, O_RDWR) : -1;
    if (file < 0) abort();
    control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    struct sigaction action = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MARK, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        CATCH(SYS_pwritev),
        CATCH(SYS_pwrite64),
        CATCH(SYS_ftruncate),
        CATCH(SYS_fallocate),
        CATCH(SYS_unlink),
        CATCH(SYS_fsync),
        CATCH(SYS_fdatasync),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    if (control == MAP_FAILED || sigaction(SIGSYS, &action, NULL) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        abort();
}
