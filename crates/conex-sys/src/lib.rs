//! conex-sys.

pub mod bpf;
pub mod capability;
pub mod copy;
pub mod dir;
pub mod fsinfo;
pub mod limits;
pub mod lock;
pub mod mount;
pub mod namespace;
pub mod process;
pub mod pty;
pub mod root;
pub mod signal;
pub mod stat;
pub mod userns;
pub mod walk;
pub mod xattr;
