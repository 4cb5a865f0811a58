//! A BPF program that keeps the processes of a cgroup (version 2) away from device files.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

/// `BPF_PROG_LOAD` (linux/bpf.h).
const PROG_LOAD: libc::c_int = 5;
/// `BPF_PROG_ATTACH`.
const PROG_ATTACH: libc::c_int = 8;
/// `BPF_PROG_TYPE_CGROUP_DEVICE`.
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
/// `BPF_CGROUP_DEVICE`.
const ATTACH_CGROUP_DEVICE: u32 = 6;

/// `BPF_DEVCG_DEV_CHAR`: in the lower half of the access word.
const DEVICE_CHARACTER: i32 = 2;
/// `BPF_DEVCG_ACC_MKNOD`: in the upper half.
const ACCESS_MKNOD: i32 = 1;

/// One instruction (`struct bpf_insn`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct Instruction {
    code: u8,
    /// Destination in the low four bits, source in the high ones.
    registers: u8,
    offset: i16,
    immediate: i32,
}

#[repr(C)]
struct LoadAttributes {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

#[repr(C)]
struct AttachAttributes {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// Lets the processes of a cgroup make any device file, but open only the listed character
/// devices: major number, and minor number or all.
pub fn guard_devices(cgroup: impl AsFd, usable: &[(u32, Option<u32>)]) -> io::Result<()> {
    let program = program(usable)?;
    let attributes = LoadAttributes {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).unwrap_or(u32::MAX),
        insns: program.as_ptr().expose_provenance() as u64,
        // The program calls no function of the kernel, so any licence will do.
        license: c"Apache-2.0".as_ptr().expose_provenance() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
    };
    // SAFETY: the structure is a prefix of `union bpf_attr` for this command, of the size passed;
    // instructions and licence outlive the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const attributes, size_of::<LoadAttributes>())
    };
    let number = RawFd::try_from(result).unwrap_or(-1);
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel returned a new descriptor that nothing else owns.
    let loaded = unsafe { OwnedFd::from_raw_fd(number) };
    let attributes = AttachAttributes {
        target_fd: cgroup.as_fd().as_raw_fd().cast_unsigned(),
        attach_bpf_fd: loaded.as_raw_fd().cast_unsigned(),
        attach_type: ATTACH_CGROUP_DEVICE,
        attach_flags: 0,
    };
    // SAFETY: as above; both descriptors are open through the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            PROG_ATTACH,
            &raw const attributes,
            size_of::<AttachAttributes>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// r1 points to `struct bpf_cgroup_dev_ctx`: access and type, major, minor, 32 bits each.
fn program(usable: &[(u32, Option<u32>)]) -> io::Result<Vec<Instruction>> {
    const LOAD_WORD: u8 = 0x61;
    const MOVE: u8 = 0xb7;
    const MOVE_REGISTER: u8 = 0xbf;
    const SHIFT_RIGHT: u8 = 0x77;
    const AND: u8 = 0x57;
    const JUMP_NOT_EQUAL: u8 = 0x55;
    const EXIT: u8 = 0x95;
    let step =
        |code, registers, offset, immediate| Instruction { code, registers, offset, immediate };
    let number = |value: u32| {
        i32::try_from(value)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "device number too large"))
    };
    let mut program = vec![
        step(LOAD_WORD, 0x12, 0, 0),     // r2 = access and type
        step(LOAD_WORD, 0x13, 4, 0),     // r3 = major
        step(LOAD_WORD, 0x14, 8, 0),     // r4 = minor
        step(MOVE_REGISTER, 0x25, 0, 0), // r5 = r2
        step(SHIFT_RIGHT, 0x05, 0, 16),  // r5 = access
        step(AND, 0x02, 0, 0xffff),      // r2 = type
        step(JUMP_NOT_EQUAL, 0x05, 2, ACCESS_MKNOD),
        step(MOVE, 0x00, 0, 1), // only making: yes
        step(EXIT, 0, 0, 0),
        step(JUMP_NOT_EQUAL, 0x02, -1, DEVICE_CHARACTER), // not a character device: no (below)
    ];
    let to_refusal = program.len() - 1;
    for (major, minor) in usable {
        let skip = if minor.is_some() { 3 } else { 2 };
        program.push(step(JUMP_NOT_EQUAL, 0x03, skip, number(*major)?));
        if let Some(minor) = minor {
            program.push(step(JUMP_NOT_EQUAL, 0x04, 2, number(*minor)?));
        }
        program.push(step(MOVE, 0x00, 0, 1));
        program.push(step(EXIT, 0, 0, 0));
    }
    let refusal = program.len();
    program.push(step(MOVE, 0x00, 0, 0));
    program.push(step(EXIT, 0, 0, 0));
    let distance = i16::try_from(refusal - to_refusal - 1)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "too many devices"))?;
    if let Some(jump) = program.get_mut(to_refusal) {
        jump.offset = distance;
    }
    Ok(program)
}
