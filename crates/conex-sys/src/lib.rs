//! conex-sys.

pub mod capability;
pub mod mount;
pub mod namespace;
pub mod process;
pub mod pty;
pub mod userns;
