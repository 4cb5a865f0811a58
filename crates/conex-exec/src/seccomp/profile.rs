//! Which system calls a container may make: what Docker's default profile means, by capability.
//!
//! The filter is an allow-list. What it does not list gets `EPERM`; what did not exist when it was
//! written gets `ENOSYS`, so that programs try an older call instead of giving up; and so does
//! `clone3`, whose flags a filter cannot see.

use conex_sys::capability::{Capability, CapabilityMask};

use super::numbers::NUMBERS;

/// What every container may call.
const ALWAYS: &str = "_llseek _newselect accept accept4 access adjtimex alarm arch_prctl arm_fadvise64_64 bind \
     breakpoint brk cacheflush cachestat capget capset chdir chmod chown chown32 clock_adjtime \
     clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 \
     clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup \
     dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 \
     epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat \
     faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 \
     fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork \
     fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 \
     futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat get_robust_list \
     get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid \
     getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid \
     getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid \
     getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat \
     inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy \
     io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get \
     ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown \
     lchown32 lgetxattr link linkat listen listxattr listxattrat llistxattr lremovexattr lseek \
     lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret \
     mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 modify_ldt mprotect \
     mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend \
     mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock \
     munlockall munmap name_to_handle_at nanosleep newfstatat open openat openat2 pause \
     pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll \
     ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv \
     process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead \
     readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages \
     removexattr removexattrat rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction \
     rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
     rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min \
     sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval \
     sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam \
     sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop \
     semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list \
     set_thread_area set_tid_address set_tls setfsgid setfsgid32 setfsuid setfsuid32 setgid \
     setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid \
     setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid \
     setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd \
     signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 \
     statx symlink symlinkat sync sync_file_range sync_file_range2 syncfs sysinfo tee tgkill time \
     timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime \
     timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime \
     timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat \
     uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write \
     writev";

/// What a capability adds.
const BY_CAPABILITY: &[(Capability, &str)] = &[
    (Capability::DAC_READ_SEARCH, "open_by_handle_at"),
    (
        Capability::SYS_ADMIN,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick listmount lookup_dcookie \
         lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount \
         open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns statmount \
         syslog umount umount2 unshare",
    ),
    (Capability::SYS_BOOT, "reboot"),
    (Capability::SYS_CHROOT, "chroot"),
    (Capability::SYS_MODULE, "delete_module finit_module init_module"),
    (Capability::SYS_PACCT, "acct"),
    (Capability::SYS_PTRACE, "kcmp pidfd_getfd process_madvise"),
    (Capability::SYS_RAWIO, "ioperm iopl"),
    (Capability::SYS_TIME, "clock_settime clock_settime64 settimeofday stime"),
    (Capability::SYS_TTY_CONFIG, "vhangup"),
    (Capability::SYS_NICE, "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    (Capability::SYSLOG, "syslog"),
    (Capability::BPF, "bpf"),
    (Capability::PERFMON, "perf_event_open"),
];

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is made.
    Allow,
    /// `EPERM`.
    Deny,
    /// `ENOSYS`.
    Absent,
    /// It is made if no flag of its first argument asks for a namespace.
    WithoutNamespaces,
    /// It is made if its first argument is an ordinary execution domain.
    OrdinaryPersonality,
    /// It is made if its first argument is not `AF_VSOCK`, which reaches the hypervisor.
    NotVsock,
}

/// The verdict on every call that has one of its own, by its numbers.
pub(super) fn verdicts(mask: CapabilityMask) -> Vec<(&'static [u32; 4], Verdict)> {
    let named = named_verdicts(mask).into_iter();
    NUMBERS.iter().zip(named).map(|((_, numbers), (_, verdict))| (numbers, verdict)).collect()
}

/// The verdict on every call that has one of its own, in the order of the names.
pub(super) fn named_verdicts(mask: CapabilityMask) -> Vec<(&'static str, Verdict)> {
    let always: Vec<&str> = ALWAYS.split(' ').collect();
    let mut by_capability: Vec<&str> = Vec::new();
    for (capability, names) in BY_CAPABILITY {
        if mask.has(*capability) {
            by_capability.extend(names.split(' '));
        }
    }
    let verdict = |name: &str| {
        if by_capability.contains(&name) || always.contains(&name) {
            return Verdict::Allow;
        }
        match name {
            "clone" => Verdict::WithoutNamespaces,
            "clone3" => Verdict::Absent,
            "personality" => Verdict::OrdinaryPersonality,
            "socket" => Verdict::NotVsock,
            _ => Verdict::Deny,
        }
    };
    NUMBERS.iter().map(|(name, _)| (*name, verdict(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_number_and_the_other_way_round() {
        let listed: Vec<&str> =
            BY_CAPABILITY.iter().flat_map(|(_, names)| names.split(' ')).collect();
        let known = |name: &str| NUMBERS.iter().any(|(found, _)| *found == name);
        for name in ALWAYS.split(' ').chain(listed.iter().copied()) {
            assert!(known(name), "{name}");
        }
        for (name, _) in NUMBERS {
            let special = ["personality", "socket"].contains(name);
            assert!(
                special || ALWAYS.split(' ').any(|one| one == *name) || listed.contains(name),
                "{name}"
            );
        }
        assert!(NUMBERS.is_sorted_by_key(|(name, _)| *name));
    }
}
