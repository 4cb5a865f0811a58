//! conex-store.
