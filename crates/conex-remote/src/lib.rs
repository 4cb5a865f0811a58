//! conex-remote.
