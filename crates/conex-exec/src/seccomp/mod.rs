//! The seccomp filter of a container, assembled in a few microseconds each time it is needed.
//!
//! Invariant: the program ends for every input (it only jumps forward), and an architecture that
//! is not known kills the process.
//!
//! Does not install anything.

mod numbers;
mod profile;

use conex_sys::capability::CapabilityMask;
use conex_sys::process::Instruction;
use serde_json::{Value, json};

use self::numbers::{KNOWN_MAX, NONE};
use self::profile::{Verdict, verdicts};

// Instructions (linux/bpf_common.h) and results (linux/seccomp.h).
const LOAD_WORD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const JUMP_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

// Offsets in `struct seccomp_data`; both families of processors that we know are little-endian.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;
const OFFSET_ARGUMENT_0_LOW: u32 = 16;

/// All `CLONE_NEW…` flags but those that share nothing (linux/sched.h), as in Docker's profile.
const CLONE_NAMESPACES: u32 = 0x7e02_0000;
/// `PER_LINUX`, `PER_LINUX32`, with and without `UNAME26`, and the question what it is now.
const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// `AF_VSOCK`.
const FAMILY_VSOCK: u32 = 40;

/// One architecture: what the kernel calls it in `seccomp_data`, and its column of numbers.
#[derive(Debug, Clone, Copy)]
struct Architecture {
    audit: u32,
    column: usize,
}

const X86_64: Architecture = Architecture { audit: 0xc000_003e, column: 0 };
const I386: Architecture = Architecture { audit: 0x4000_0003, column: 1 };
const ARM64: Architecture = Architecture { audit: 0xc000_00b7, column: 2 };
const ARM: Architecture = Architecture { audit: 0x4000_0028, column: 3 };

/// Docker's default filter for a process that can have at most these capabilities; `None` if this
/// architecture has no table.
pub(crate) fn compile(mask: CapabilityMask) -> Option<Vec<Instruction>> {
    let architectures = match std::env::consts::ARCH {
        "x86_64" => [X86_64, I386],
        "aarch64" => [ARM64, ARM],
        _ => return None,
    };
    Some(assemble(&architectures, mask))
}

/// The same profile as the OCI runtime specification writes it.
pub(crate) fn as_oci(mask: CapabilityMask) -> Option<Value> {
    let architectures = match std::env::consts::ARCH {
        "x86_64" => ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "aarch64" => ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        _ => return None,
    };
    let mut allowed = Vec::new();
    let mut rules = Vec::new();
    for (name, verdict) in profile::named_verdicts(mask) {
        match verdict {
            Verdict::Allow => allowed.push(name),
            Verdict::Deny => {}
            Verdict::Absent => rules.push(json!({
                "names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS,
            })),
            Verdict::WithoutNamespaces => {
                let arg = json!([{
                    "index": 0, "value": CLONE_NAMESPACES, "valueTwo": 0,
                    "op": "SCMP_CMP_MASKED_EQ",
                }]);
                rules.push(allow(name, &arg));
            }
            Verdict::NotVsock => {
                let arg = json!([{ "index": 0, "value": FAMILY_VSOCK, "op": "SCMP_CMP_NE" }]);
                rules.push(allow(name, &arg));
            }
            Verdict::OrdinaryPersonality => {
                for personality in PERSONALITIES {
                    let arg = json!([{ "index": 0, "value": personality, "op": "SCMP_CMP_EQ" }]);
                    rules.push(allow(name, &arg));
                }
            }
        }
    }
    rules.push(json!({ "names": allowed, "action": "SCMP_ACT_ALLOW" }));
    Some(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": EPERM,
        "architectures": architectures,
        "syscalls": rules,
    }))
}

fn assemble(architectures: &[Architecture], mask: CapabilityMask) -> Vec<Instruction> {
    let verdicts = verdicts(mask);
    let mut program = vec![load(OFFSET_ARCHITECTURE)];
    for architecture in architectures {
        let mut section = vec![load(OFFSET_NUMBER)];
        section.extend(tree(&ranges(*architecture, &verdicts)));
        program.push(jump(JUMP_EQUAL, architecture.audit, 1, 0));
        program.push(skip(section.len()));
        program.extend(section);
    }
    program.push(give(KILL_PROCESS));
    program
}

/// From a number on, up to the next range, one verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    start: u32,
    verdict: Verdict,
}

/// Divides all numbers into ranges of one verdict.
fn ranges(architecture: Architecture, verdicts: &[(&[u32; 4], Verdict)]) -> Vec<Range> {
    let mut known: Vec<(u32, Verdict)> = verdicts
        .iter()
        .filter_map(|(numbers, verdict)| Some((*numbers.get(architecture.column)?, *verdict)))
        .filter(|(number, _)| *number != NONE)
        .collect();
    known.sort_unstable_by_key(|(number, _)| *number);
    let unlisted = |number| if number <= KNOWN_MAX { Verdict::Deny } else { Verdict::Absent };
    let mut ranges: Vec<Range> = Vec::new();
    let mut push = |start: u32, verdict: Verdict| {
        if ranges.last().is_none_or(|last| last.verdict != verdict) {
            ranges.push(Range { start, verdict });
        }
    };
    let mut next = 0;
    for (number, verdict) in known {
        if next < number {
            push(next, unlisted(next));
            if next <= KNOWN_MAX && number > KNOWN_MAX + 1 {
                push(KNOWN_MAX + 1, Verdict::Absent);
            }
        }
        push(number, verdict);
        next = number.saturating_add(1);
    }
    push(next, unlisted(next));
    if next <= KNOWN_MAX {
        push(KNOWN_MAX + 1, Verdict::Absent);
    }
    ranges
}

/// A binary search as a program.
fn tree(ranges: &[Range]) -> Vec<Instruction> {
    match ranges {
        [] => vec![give(ERRNO | EPERM)],
        [range] => leaf(range.verdict),
        _ => {
            let (left, right) = ranges.split_at(ranges.len() / 2);
            let pivot = right.first().map_or(0, |range| range.start);
            let (left, right) = (tree(left), tree(right));
            let mut program = Vec::with_capacity(left.len() + right.len() + 2);
            match u8::try_from(left.len()) {
                Ok(distance) => program.push(jump(JUMP_AT_LEAST, pivot, distance, 0)),
                Err(_) => {
                    program.push(jump(JUMP_AT_LEAST, pivot, 0, 1));
                    program.push(skip(left.len()));
                }
            }
            program.extend(left);
            program.extend(right);
            program
        }
    }
}

fn leaf(verdict: Verdict) -> Vec<Instruction> {
    match verdict {
        Verdict::Allow => vec![give(ALLOW)],
        Verdict::Deny => vec![give(ERRNO | EPERM)],
        Verdict::Absent => vec![give(ERRNO | ENOSYS)],
        Verdict::WithoutNamespaces => vec![
            load(OFFSET_ARGUMENT_0_LOW),
            jump(JUMP_ANY_BIT, CLONE_NAMESPACES, 1, 0),
            give(ALLOW),
            give(ERRNO | EPERM),
        ],
        Verdict::NotVsock => vec![
            load(OFFSET_ARGUMENT_0_LOW),
            jump(JUMP_EQUAL, FAMILY_VSOCK, 1, 0),
            give(ALLOW),
            give(ERRNO | EPERM),
        ],
        Verdict::OrdinaryPersonality => {
            let mut program = vec![load(OFFSET_ARGUMENT_0_LOW)];
            for personality in PERSONALITIES {
                program.push(jump(JUMP_EQUAL, personality, 0, 1));
                program.push(give(ALLOW));
            }
            program.push(give(ERRNO | EPERM));
            program
        }
    }
}

fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD_WORD, jump_true: 0, jump_false: 0, value: offset }
}

fn jump(code: u16, value: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, value }
}

fn skip(count: usize) -> Instruction {
    // A section has a few hundred instructions; one of 2^32 would be refused by the kernel.
    let value = u32::try_from(count).unwrap_or(u32::MAX);
    Instruction { code: JUMP, jump_true: 0, jump_false: 0, value }
}

fn give(result: u32) -> Instruction {
    Instruction { code: RETURN, jump_true: 0, jump_false: 0, value: result }
}

fn allow(name: &str, args: &Value) -> Value {
    json!({ "names": [name], "action": "SCMP_ACT_ALLOW", "args": args })
}

#[cfg(test)]
mod tests {
    use conex_sys::capability::Capability;

    use super::*;
    use crate::spec::Capabilities;

    const DENIED: u32 = ERRNO | EPERM;
    const ABSENT: u32 = ERRNO | ENOSYS;

    /// Runs a program as the kernel would.
    fn judged(program: &[Instruction], audit: u32, number: u32, argument: u32) -> u32 {
        let mut accumulator = 0;
        let mut at = 0;
        loop {
            let step = program[at];
            at += 1;
            let holds = match step.code {
                LOAD_WORD => {
                    accumulator = match step.value {
                        OFFSET_NUMBER => number,
                        OFFSET_ARCHITECTURE => audit,
                        OFFSET_ARGUMENT_0_LOW => argument,
                        other => panic!("loads from {other}"),
                    };
                    continue;
                }
                JUMP => {
                    at += step.value as usize;
                    continue;
                }
                RETURN => return step.value,
                JUMP_EQUAL => accumulator == step.value,
                JUMP_AT_LEAST => accumulator >= step.value,
                JUMP_ANY_BIT => accumulator & step.value != 0,
                other => panic!("instruction {other}"),
            };
            at += usize::from(if holds { step.jump_true } else { step.jump_false });
        }
    }

    fn docker() -> CapabilityMask {
        Capabilities::default().resolve().unwrap()
    }

    #[test]
    fn default_profile_judges_as_docker_does() {
        let program = assemble(&[X86_64, I386], docker());
        for (architecture, number, argument, expected, what) in [
            (X86_64, 0, 0, ALLOW, "read"),
            (X86_64, 165, 0, DENIED, "mount"),
            (X86_64, 272, 0, DENIED, "unshare"),
            (X86_64, 250, 0, DENIED, "keyctl"),
            (X86_64, 425, 0, DENIED, "io_uring_setup"),
            (X86_64, 161, 0, ALLOW, "chroot, by capability"),
            (X86_64, 435, 0, ABSENT, "clone3"),
            (X86_64, 467, 0, ABSENT, "newer than the profile"),
            (X86_64, 0x4000_0000, 0, ABSENT, "x32"),
            (X86_64, u32::MAX, 0, ABSENT, "the last number"),
            (X86_64, 56, 17, ALLOW, "clone: a process"),
            (X86_64, 56, 0x1000_0000, DENIED, "clone: a user namespace"),
            (X86_64, 56, 0x003d_0f00, ALLOW, "clone: a thread"),
            (X86_64, 135, 0, ALLOW, "personality: Linux"),
            (X86_64, 135, 0x0040_0000, DENIED, "personality: no randomisation"),
            (X86_64, 135, u32::MAX, ALLOW, "personality: question"),
            (X86_64, 41, 1, ALLOW, "socket: unix"),
            (X86_64, 41, 40, DENIED, "socket: vsock"),
            (I386, 3, 0, ALLOW, "i386 read"),
            (I386, 21, 0, DENIED, "i386 mount"),
            (I386, 102, 0, ALLOW, "i386 socketcall"),
            (I386, 310, 0, DENIED, "i386 unshare"),
            (ARM64, 63, 0, KILL_PROCESS, "another architecture"),
        ] {
            let found = judged(&program, architecture.audit, number, argument);
            assert_eq!(found, expected, "{what}");
        }
        let program = assemble(&[ARM64, ARM], docker());
        for (architecture, number, expected, what) in [
            (ARM64, 63, ALLOW, "read"),
            (ARM64, 40, DENIED, "mount"),
            (ARM, 3, ALLOW, "arm read"),
            (ARM, 0xf_0005, ALLOW, "arm set_tls"),
            (ARM, 0xf_0009, ABSENT, "arm private, unlisted"),
        ] {
            assert_eq!(judged(&program, architecture.audit, number, 0), expected, "{what}");
        }
    }

    #[test]
    fn capabilities_open_their_calls() {
        let program = assemble(&[X86_64], docker().with(Capability::SYS_ADMIN));
        for (number, argument, what) in
            [(165, 0, "mount"), (272, 0, "unshare"), (435, 0, "clone3"), (56, 0x1000_0000, "clone")]
        {
            assert_eq!(judged(&program, X86_64.audit, number, argument), ALLOW, "{what}");
        }
    }

    #[test]
    fn tree_agrees_with_the_list_for_every_number() {
        for architecture in [X86_64, I386, ARM64, ARM] {
            let program = assemble(&[architecture], docker());
            let verdicts = verdicts(docker());
            for number in 0..600 {
                let listed = verdicts
                    .iter()
                    .find(|(numbers, _)| numbers[architecture.column] == number)
                    .map(|(_, verdict)| *verdict);
                let expected = match listed {
                    Some(Verdict::Deny) => DENIED,
                    Some(Verdict::Absent) => ABSENT,
                    // With argument 0 all checked calls are allowed.
                    Some(_) => ALLOW,
                    None if number <= KNOWN_MAX => DENIED,
                    None => ABSENT,
                };
                let found = judged(&program, architecture.audit, number, 0);
                assert_eq!(found, expected, "{architecture:?} {number}");
            }
        }
    }

    #[test]
    fn program_is_within_the_limit_of_the_kernel() {
        // BPF_MAXINSNS
        assert!(assemble(&[X86_64, I386], docker()).len() < 4096);
    }
}
